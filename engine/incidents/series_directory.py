"""Which series are watched, where each belongs, and how many share a place."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.engine.detection.entities import called_by, entity_of, surroundings_of
from trimtab.engine.types import Anomaly, SeriesInfo, SeriesKey

EVERYWHERE = ""
"""The scope that all series share."""
_SERVICES = ("service", "app", "job", "deployment")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a series belongs.

    entity : the most specific thing, as "redis/cache-1"
    scopes : everything that it shares with others, the entity too: "entity=redis/cache-1", "job=redis" ...
    calls  : the name of whom it tells as a caller, "" = nobody
    """

    metric: str
    entity: str
    source: str
    scopes: tuple[str, ...]
    calls: str


def place_of(key: SeriesKey) -> Place:
    """Where a series belongs, by its labels.

    >>> place_of(SeriesKey.of("p", "up", {"job": "redis", "instance": "cache-1:9121"})).scopes
    ('entity=redis/cache-1:9121', 'host=cache-1', 'job=redis', 'source=p', '')
    """
    labels, entity = dict(key.labels), entity_of(key)
    groups = {f"{label}={labels[label]}" for label in _SERVICES if labels.get(label)}
    shared = sorted(groups | surroundings_of(key))
    scopes = (f"entity={entity}", *shared, f"source={key.source}", EVERYWHERE)
    return Place(key.metric, entity, key.source, scopes, called_by(key))


class Watched:
    """The places of all series, and how many series each scope has."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.units: dict[str, str] = {}
        self.sizes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.places)

    def add(self, infos: Iterable[SeriesInfo]) -> None:
        """Series that came; known ones are updated."""
        for info in infos:
            self.units[info.key.id] = info.unit
            self._place(info.key.id, info.key)

    def forget(self, series_ids: Iterable[str]) -> None:
        """Series that are watched no more."""
        for series_id in series_ids:
            self.units.pop(series_id, None)
            place = self.places.pop(series_id, None)
            if place is not None:
                self.sizes.subtract(place.scopes)
        self.sizes = +self.sizes

    def of(self, anomaly: Anomaly) -> Place:
        """Where the series of an anomaly belongs; one that nobody told of is watched from here on."""
        known = self.places.get(anomaly.series_id)
        if known is not None:
            return known
        metric = anomaly.series.partition("{")[0]
        return self._place(anomaly.series_id, SeriesKey.of(anomaly.source, metric, anomaly.labels))

    def _place(self, series_id: str, key: SeriesKey) -> Place:
        if series_id not in self.places:
            self.places[series_id] = place_of(key)
            self.sizes.update(self.places[series_id].scopes)
        return self.places[series_id]
