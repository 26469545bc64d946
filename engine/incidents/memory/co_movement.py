"""Counts which names moved together in past events, and which moved first; with decay and a size limit."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

DAY_NS = 86_400_000_000_000
MAX_NAMES = 40
"""Names learned per event, those that moved first."""
PRIOR_EVENTS = 4.0
"""Prior: events in which the other name did not move."""


class CoMovement:
    """Counts of names, and of pairs of names, over past events.

    half_life_days : after this many days an event counts half
    max_pairs      : pairs to keep; the weakest are dropped

    >>> history = CoMovement()
    >>> for _ in range(12): history.learn({"db": 100, "web": 130}, 200)
    >>> history.move_ratio("db", "web"), history.move_ratio("db", "mail")
    (0.75, 0.0)
    >>> round(history.first_ratio("db", "web"), 2)
    0.93
    """

    def __init__(self, half_life_days: float = 56.0, max_pairs: int = 20_000) -> None:
        self.half_life_days = half_life_days
        self.max_pairs = max_pairs
        self.alone: dict[str, float] = {}
        self.together: dict[tuple[str, str], list[float]] = {}
        """(a, b) with a < b -> [events with both, events in which a was first; a tie counts half]."""
        self._decayed_until: int | None = None

    def learn(self, moved: Mapping[str, int], time: int, weight: float = 1.0) -> None:
        """Learn one event.

        moved : name -> int64 ns at which it first moved; time : int64 ns of the event
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
        """Return the ratio of events with `given` in which `other` moved too, 0..1, shrunk towards 0."""
        counts = self.together.get((given, other) if given < other else (other, given))
        return 0.0 if counts is None else counts[0] / (self.alone.get(given, 0.0) + PRIOR_EVENTS)

    def first_ratio(self, a: str, b: str) -> float:
        """Return the ratio of events with both in which `a` moved first, 0..1, shrunk towards 0.5."""
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
        factor = 0.5 ** (days / self.half_life_days)
        self.alone = {name: n * factor for name, n in self.alone.items() if n * factor > 0.01}
        self.together = {
            pair: [n * factor for n in counts]
            for pair, counts in self.together.items()
            if counts[0] * factor > 0.01
        }

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        pairs = [[a, b, *counts] for (a, b), counts in self.together.items()]
        return {"alone": self.alone, "together": pairs, "faded": self._decayed_until}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`."""
        self.alone = dict(state["alone"])
        pairs: Iterable[Any] = state["together"]
        self.together = {(a, b): [both, first] for a, b, both, first in pairs}
        self._decayed_until = state["faded"]
