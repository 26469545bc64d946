"""What moved together before, and which of the two first: learnt, decayed, bounded."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

DAY_NS = 86_400_000_000_000
MAX_NAMES = 40
"""Names of one event that are learnt from, the first that moved."""
PRIOR_EVENTS = 4.0
"""Events that are assumed in which the other did not move."""


class CoMovement:
    """Counts of names and of pairs of names over past events.

    half_life_days : after this long an event counts half
    most           : pairs that are remembered; the weakest are forgotten

    >>> memory = CoMovement()
    >>> for _ in range(12): memory.learn({"db": 100, "web": 130}, 200)
    >>> memory.share("db", "web"), round(memory.first("db", "web"), 2), memory.share("db", "mail")
    (0.75, 0.93, 0.0)
    """

    def __init__(self, half_life_days: float = 56.0, max_pairs: int = 20_000) -> None:
        self.half_life_days = half_life_days
        self.max_pairs = max_pairs
        self.alone: dict[str, float] = {}
        self.together: dict[tuple[str, str], list[float]] = {}
        """(a, b) with a < b -> [events with both, events in which a was first; a tie is half of one]."""
        self._decayed_until: int | None = None

    def learn(self, moved: Mapping[str, int], time: int, weight: float = 1.0) -> None:
        """One event.

        moved : name -> when it moved first, int64 ns
        """
        self._decay(time)
        names = sorted(sorted(moved, key=lambda name: (moved[name], name))[:MAX_NAMES])
        for name in names:
            self.alone[name] = self.alone.get(name, 0.0) + weight
        for a, b in combinations(names, 2):
            counts = self.together.setdefault((a, b), [0.0, 0.0])
            counts[0] += weight
            counts[1] += weight * (0.5 if moved[a] == moved[b] else float(moved[a] < moved[b]))
        if len(self.together) > self.max_pairs:
            strongest = sorted(self.together.items(), key=lambda item: -item[1][0])
            self.together = dict(strongest[: self.max_pairs // 2])

    def move_ratio(self, given: str, other: str) -> float:
        """How often `other` moved when `given` did, 0..1, shrunk towards 0."""
        counts = self.together.get((given, other) if given < other else (other, given))
        return 0.0 if counts is None else counts[0] / (self.alone.get(given, 0.0) + PRIOR_EVENTS)

    def first_ratio(self, a: str, b: str) -> float:
        """How often `a` was first when both moved, 0..1, shrunk towards 0.5."""
        counts = self.together.get((a, b) if a < b else (b, a))
        if counts is None:
            return 0.5
        first = counts[1] if a < b else counts[0] - counts[1]
        return (first + 1.0) / (counts[0] + 2.0)

    def _decay(self, time: int) -> None:
        if self._decayed_until is None:
            self._decayed_until = time
        days = (time - self._decayed_until) // DAY_NS
        if days <= 0:
            return
        self._decayed_until += days * DAY_NS
        rest = 0.5 ** (days / self.half_life_days)
        self.alone = {name: n * rest for name, n in self.alone.items() if n * rest > 0.01}
        self.together = {
            pair: [n * rest for n in counts]
            for pair, counts in self.together.items()
            if counts[0] * rest > 0.01
        }

    def state(self) -> dict[str, Any]:
        """As plain values."""
        pairs = [[a, b, *counts] for (a, b), counts in self.together.items()]
        return {"alone": self.alone, "together": pairs, "faded": self._decayed_until}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.alone = dict(state["alone"])
        pairs: Iterable[Any] = state["together"]
        self.together = {(a, b): [both, first] for a, b, both, first in pairs}
        self._decayed_until = state["faded"]
