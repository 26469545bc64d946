"""Monotonic ages of actions: unaffected by clock changes and restarts.

Rate limits must hold when the wall clock jumps, so ages are counted in seconds of the monotonic clock while
the engine runs. Time while the engine is stopped does not count: an age is a lower bound.
"""

from collections.abc import Iterable

from trimtab.engine.actions.guard.situation import AgedAction
from trimtab.engine.types import Action, Recommendation

RETENTION_S = 2 * 86_400.0
"""Names that are not requested within this many seconds are dropped from the state."""


class MonotonicAges:
    """Running time of the engine, in seconds, and the time at which each name first appeared.

    >>> ages = MonotonicAges()
    >>> ages.advance(1_000_000_000)
    >>> ages.age_s("x")
    0.0
    >>> ages.advance(61_000_000_000)
    >>> ages.age_s("x")
    60.0
    """

    def __init__(self) -> None:
        self.running_s = 0.0
        self.uptime_s = 0.0
        """Seconds since this process started."""
        self._newest_ns: int | None = None
        self._first_seen_s: dict[str, float] = {}
        self._last_used_s: dict[str, float] = {}
        self._has_ages = False

    def advance(self, monotonic_ns: int) -> None:
        """Advance to the current reading of the monotonic clock, ns."""
        if self._newest_ns is not None:
            passed = max(monotonic_ns - self._newest_ns, 0) / 1e9
            self.running_s += passed
            self.uptime_s += passed
        self._newest_ns = monotonic_ns

    def age_s(self, name: str, older_s: float = 0.0) -> float:
        """Return seconds since a name first appeared, plus the age `older_s` that it had then."""
        self._last_used_s[name] = self.running_s
        return self.running_s - self._first_seen_s.setdefault(name, self.running_s - older_s)

    def with_ages(self, actions: Iterable[Action], now: int) -> tuple[AgedAction, ...]:
        """Return stored actions with their ages.

        now : int64 ns UTC; used for the age of started actions only if no state was restored
        """
        found = []
        for action in actions:
            if action.started is None:
                found.append(AgedAction(action, 0.0))
                continue
            older_s = 0.0 if self._has_ages else max(now - action.started, 0) / 1e9
            found.append(AgedAction(action, self.age_s(action.id, older_s)))
        self._has_ages = True
        return tuple(found)

    def approval_age_s(self, proposal: Recommendation, now: int) -> float | None:
        """Return seconds since the approval or the scheduled time, by the clock that shows more.

        None = not approved.
        """
        if proposal.approved is None:
            return None
        since = max(proposal.approved, proposal.scheduled or 0)
        by_wall_s = (now - since) / 1e9
        if now < since and since == proposal.scheduled:
            return 0.0
        return max(by_wall_s, self.age_s(f"approval {proposal.id} {since}", max(by_wall_s, 0.0)))

    def state(self) -> dict[str, object]:
        """Return the state as plain JSON; stored at each evaluation."""
        edge = self.running_s - RETENTION_S
        kept = {
            name: since
            for name, since in self._first_seen_s.items()
            if self._last_used_s.get(name, since) >= edge
        }
        return {"seconds": self.running_s, "since": kept}

    def restore(self, state: dict[str, object]) -> None:
        """Restore a state. Raises TypeError or KeyError if it is malformed."""
        seconds, since = state["seconds"], state["since"]
        if not isinstance(seconds, int | float) or not isinstance(since, dict):
            raise TypeError(f"the state of MonotonicAges needs `seconds` and `since`, not {state!r:.80}")
        self.running_s = float(seconds)
        self._first_seen_s = {str(name): float(at) for name, at in since.items()}
        self._last_used_s = dict.fromkeys(self._first_seen_s, self.running_s)
        self._has_ages = True
