"""Directory of the monitored series: entity and scopes of each, and the number of series per scope."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.engine.detection.entities import callee_of, entity_of, shared_labels_of
from trimtab.engine.types import Anomaly, SeriesInfo, SeriesKey

EVERYWHERE = ""
"""The scope of all series."""
_SERVICES = ("service", "app", "job", "deployment")


@dataclass(frozen=True, slots=True)
class SeriesLocation:
    """Entity and scopes of a series.

    entity : the most specific entity, for example "redis/cache-1"
    scopes : everything it shares with other series, its entity included: "entity=redis/cache-1", "job=redis"
             ...
    callee : service that the series of a client names as its callee, "" = none
    """

    metric: str
    entity: str
    source: str
    scopes: tuple[str, ...]
    callee: str


def locate(key: SeriesKey) -> SeriesLocation:
    """Return entity and scopes of a series, from its labels.

    >>> locate(SeriesKey.of("p", "up", {"job": "redis", "instance": "cache-1:9121"})).scopes
    ('entity=redis/cache-1:9121', 'host=cache-1', 'job=redis', 'source=p', '')
    """
    labels, entity = dict(key.labels), entity_of(key)
    groups = {f"{label}={labels[label]}" for label in _SERVICES if labels.get(label)}
    shared = sorted(groups | shared_labels_of(key))
    scopes = (f"entity={entity}", *shared, f"source={key.source}", EVERYWHERE)
    return SeriesLocation(key.metric, entity, key.source, scopes, callee_of(key))


class SeriesDirectory:
    """Locations of all series, and the number of series per scope."""

    def __init__(self) -> None:
        self.locations: dict[str, SeriesLocation] = {}
        self.units: dict[str, str] = {}
        self.scope_sizes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.locations)

    def add(self, infos: Iterable[SeriesInfo]) -> None:
        """Add new series; the unit of known ones is updated."""
        for info in infos:
            self.units[info.key.id] = info.unit
            self._add(info.key.id, info.key)

    def forget(self, series_ids: Iterable[str]) -> None:
        """Remove series that are no longer monitored."""
        for series_id in series_ids:
            self.units.pop(series_id, None)
            location = self.locations.pop(series_id, None)
            if location is not None:
                self.scope_sizes.subtract(location.scopes)
        self.scope_sizes = +self.scope_sizes

    def location_of(self, anomaly: Anomaly) -> SeriesLocation:
        """Return the location of an anomaly's series; an unknown series is added."""
        known = self.locations.get(anomaly.series_id)
        if known is not None:
            return known
        metric = anomaly.series.partition("{")[0]
        return self._add(anomaly.series_id, SeriesKey.of(anomaly.source, metric, anomaly.labels))

    def _add(self, series_id: str, key: SeriesKey) -> SeriesLocation:
        if series_id not in self.locations:
            self.locations[series_id] = locate(key)
            self.scope_sizes.update(self.locations[series_id].scopes)
        return self.locations[series_id]
