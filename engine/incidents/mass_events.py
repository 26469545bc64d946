"""Detects mass events: so many series move at once that a common cause is likelier than a fault of one."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.engine.incidents.series_directory import EVERYWHERE, SeriesDirectory, SeriesLocation

WINDOW_NS = 120_000_000_000
"""Anomalies that began within this time count as simultaneous."""
MIN_RATIO = 0.3
"""Share of the monitored series, or of one source's series, that must be anomalous."""
WHOLE_SOURCE_RATIO = 0.8
"""Ratio that suffices for a source with only one or two entities."""
MIN_SERIES = 10
"""Fewer anomalous series than this are no mass event."""
MIN_ENTITIES = 3
STARTUP_NS = 600_000_000_000
"""After a start all sources have listed their series within this time, or are gone."""


@dataclass(frozen=True, slots=True)
class MassEvent:
    """A mass event in progress.

    scope : "source=NAME", or "" for all sources; share : ratio of its series, 0..1
    """

    scope: str
    share: float


class MassEventDetector:
    """Counts the anomalies that began in the last two minutes."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        """Scope -> number of series; after a restart at least the number before it, until all sources are
        back.
        """
        self._before: dict[str, int] = {}
        self._began: int | None = None
        self._measured = 0
        self._recent: deque[tuple[int, str, str, str]] = deque()
        self._series: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._entities: Counter[tuple[str, str]] = Counter()

    def step(
        self, time: int, began: Iterable[tuple[str, SeriesLocation]], directory: SeriesDirectory
    ) -> MassEvent | None:
        """Return the mass event in progress, if any.

        began : (series id, its location) of new anomalies
        """
        self._update_sizes(time, directory)
        for series_id, location in began:
            self._count((time, series_id, location.source, _machine(location)), 1)
        while self._recent and self._recent[0][0] < time - WINDOW_NS:
            self._count(self._recent[0], -1)
        if len(self._series) < MIN_SERIES:
            return None
        return self._detect()

    def _update_sizes(self, time: int, directory: SeriesDirectory) -> None:
        """Update the sizes; after a start those from before count until all sources are back."""
        self._began = time if self._began is None else self._began
        is_settled = bool(self._before) and time - self._began >= STARTUP_NS
        if not is_settled and len(directory) == self._measured:
            return
        self._measured = len(directory)
        if is_settled:
            self._before = {}
        now = {
            scope: n for scope, n in directory.scope_sizes.items() if scope == EVERYWHERE or _is_source(scope)
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
        """Return plain values."""
        return {"recent": [list(item) for item in self._recent], "sizes": self.sizes}

    def restore(self, state: Mapping[str, Any] | Sequence[Any]) -> None:
        """Restore `state`; an older one is a list without sizes."""
        recent, sizes = (state["recent"], state["sizes"]) if isinstance(state, Mapping) else (state, {})
        self._before, self._began = {str(scope): int(n) for scope, n in sizes.items()}, None
        self.sizes, self._measured = dict(self._before), -1
        for part in (self._recent, self._series, self._sources, self._entities):
            part.clear()
        for time, series_id, source, entity in recent:
            self._count((time, series_id, source, entity), 1)


def _is_source(scope: str) -> bool:
    return scope.startswith("source=")


def _machine(location: SeriesLocation) -> str:
    """Return the entity; processes of one machine count as that machine."""
    return "host" if location.source == "host" else location.entity
