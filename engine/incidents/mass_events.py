"""Whether so many series move at once that a common cause is likelier than a fault of one of them."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.engine.incidents.series_directory import EVERYWHERE, SeriesLocation, SeriesDirectory

WINDOW_NS = 120_000_000_000
"""What began within so long counts as at once."""
MIN_RATIO = 0.3
"""Of the watched series, or of those of one source."""
WHOLE_SOURCE_RATIO = 0.8
"""Share that suffices where a source has only one or two entities: all of it jumped."""
MIN_SERIES = 10
"""Below so many series nothing is a mass."""
MIN_ENTITIES = 3
STARTUP_NS = 600_000_000_000
"""So long after a start all sources have told of their series, or are gone."""


@dataclass(frozen=True, slots=True)
class MassEvent:
    """A mass event now.

    scope : "source=NAME", or "" = everywhere; share : of its series, 0..1
    """

    scope: str
    share: float


class MassEventDetector:
    """The beginnings of the last two minutes."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        """Scope -> how many series it has; after a restart those of before, until all are told of again."""
        self._before: dict[str, int] = {}
        self._began: int | None = None
        self._measured = 0
        self._recent: deque[tuple[int, str, str, str]] = deque()
        self._series: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._entities: Counter[tuple[str, str]] = Counter()

    def step(
        self, time: int, began: Iterable[tuple[str, SeriesLocation]], watched: SeriesDirectory
    ) -> MassEvent | None:
        """The mass event that is going on, if any.

        began : (series id, its place) of the anomalies that began
        """
        self._update_sizes(time, watched)
        for series_id, place in began:
            self._count((time, series_id, place.source, _machine(place)), 1)
        while self._recent and self._recent[0][0] < time - WINDOW_NS:
            self._count(self._recent[0], -1)
        if len(self._series) < MIN_SERIES:
            return None
        return self._detect()

    def _update_sizes(self, time: int, watched: SeriesDirectory) -> None:
        """Sources come one by one after a start: what was watched before it counts until all are there."""
        self._began = time if self._began is None else self._began
        over = bool(self._before) and time - self._began >= STARTUP_NS
        if not over and len(watched) == self._measured:
            return
        self._measured = len(watched)
        if over:
            self._before = {}
        now = {
            scope: n for scope, n in watched.scope_sizes.items() if scope == EVERYWHERE or _is_source(scope)
        }
        self.sizes = {k: max(now.get(k, 0), self._before.get(k, 0)) for k in {*now, *self._before}}

    def _count(self, item: tuple[int, str, str, str], step: int) -> None:
        _, series_id, source, entity = item
        if step > 0:
            self._recent.append(item)
        else:
            self._recent.popleft()
        before = self._series[series_id]
        self._series[series_id] += step
        if before + step == 0:
            del self._series[series_id]
        if before == 0 or before + step == 0:
            self._sources[source] += step
            self._entities[source, entity] += step
            if not self._entities[source, entity]:
                del self._entities[source, entity]

    def _detect(self) -> MassEvent | None:
        share = len(self._series) / max(self.sizes.get(EVERYWHERE, 0), 1)
        if share >= MIN_RATIO and len(self._entities) >= MIN_ENTITIES:
            return MassEvent(EVERYWHERE, share)
        for source, n in self._sources.items():
            scope = f"source={source}"
            part = n / max(self.sizes.get(scope, 0), 1)
            if (
                n >= MIN_SERIES
                and part >= MIN_RATIO
                and (part >= WHOLE_SOURCE_RATIO or self._entity_count(source) >= MIN_ENTITIES)
            ):
                return MassEvent(scope, part)
        return None

    def _entity_count(self, source: str) -> int:
        return sum(1 for of, _ in self._entities if of == source)

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return {"recent": [list(item) for item in self._recent], "sizes": self.sizes}

    def restore(self, state: Mapping[str, Any] | Sequence[Any]) -> None:
        """Go on where `state` was taken; an older one has no sizes."""
        recent, sizes = (state["recent"], state["sizes"]) if isinstance(state, Mapping) else (state, {})
        self._before, self._began = {str(scope): int(n) for scope, n in sizes.items()}, None
        self.sizes, self._measured = dict(self._before), -1
        for part in (self._recent, self._series, self._sources, self._entities):
            part.clear()
        for time, series_id, source, entity in recent:
            self._count((time, series_id, source, entity), 1)


def _is_source(scope: str) -> bool:
    return scope.startswith("source=")


def _machine(place: SeriesLocation) -> str:
    """The entity; the processes of a machine that is under load are that machine."""
    return "host" if place.source == "host" else place.entity
