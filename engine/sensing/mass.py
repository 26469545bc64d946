"""Whether so many series move at once that a common cause is likelier than a fault of one of them."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trimtab.engine.sensing.watched import EVERYWHERE, Place, Watched

WINDOW_NS = 120_000_000_000
"""What began within so long counts as at once."""
SHARE = 0.3
"""Of the watched series, or of those of one source."""
WHOLE = 0.8
"""Share that suffices where a source has only one or two entities: all of it jumped."""
FEWEST = 10
"""Below so many series nothing is a mass."""
ENTITIES = 3


@dataclass(frozen=True, slots=True)
class Mass:
    """A mass event now.

    scope : "source=NAME", or "" = everywhere; share : of its series, 0..1
    """

    scope: str
    share: float


class MassWatch:
    """The beginnings of the last two minutes."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, str, str, str]] = deque()
        self._series: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._entities: Counter[tuple[str, str]] = Counter()

    def step(self, time: int, began: Iterable[tuple[str, Place]], watched: Watched) -> Mass | None:
        """The mass event that is going on, if any.

        began : (series id, its place) of the anomalies that began
        """
        for series_id, place in began:
            self._count((time, series_id, place.source, place.entity), 1)
        while self._recent and self._recent[0][0] < time - WINDOW_NS:
            self._count(self._recent[0], -1)
        if len(self._series) < FEWEST:
            return None
        return self._judge(watched)

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

    def _judge(self, watched: Watched) -> Mass | None:
        share = len(self._series) / max(len(watched), 1)
        if share >= SHARE and len(self._entities) >= ENTITIES:
            return Mass(EVERYWHERE, share)
        for source, n in self._sources.items():
            scope = f"source={source}"
            part = n / max(watched.sizes[scope], 1)
            if n >= FEWEST and part >= SHARE and (part >= WHOLE or self._touches(source) >= ENTITIES):
                return Mass(scope, part)
        return None

    def _touches(self, source: str) -> int:
        return sum(1 for of, _ in self._entities if of == source)

    def state(self) -> list[list[Any]]:
        """As plain values."""
        return [list(item) for item in self._recent]

    def restore(self, state: Iterable[Any]) -> None:
        """Go on where `state` was taken."""
        for part in (self._recent, self._series, self._sources, self._entities):
            part.clear()
        for time, series_id, source, entity in state:
            self._count((time, series_id, source, entity), 1)
