"""Ages as the engine has lived them: neither a clock that is set nor a restart makes an action older.

A limit such as "6 an hour" is only as good as the clock under it. The wall clock jumps, so ages are
counted in seconds of the monotonic clock while the engine runs; what passes while it is off does not count.
So an action is at least as old as it is said to be, whatever happens to the clock.
"""

from collections.abc import Iterable

from trimtab.engine.actions.guard.situation import Past
from trimtab.engine.types import Action, Recommendation

KEPT_S = 2 * 86_400.0
"""What has not been asked for within this time is forgotten."""


class Lived:
    """Seconds of the engine's life, and when in it things were first seen.

    >>> lived = Lived()
    >>> lived.tick(1_000_000_000)
    >>> lived.age_s("x")
    0.0
    >>> lived.tick(61_000_000_000)
    >>> lived.age_s("x")
    60.0
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.uptime_s = 0.0
        """Of this process."""
        self._tick_ns: int | None = None
        self._since: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._remembers = False

    def tick(self, monotonic_ns: int) -> None:
        """Time went on; the argument is the monotonic clock's."""
        if self._tick_ns is not None:
            passed = max(monotonic_ns - self._tick_ns, 0) / 1e9
            self.seconds += passed
            self.uptime_s += passed
        self._tick_ns = monotonic_ns

    def age_s(self, name: str, older_s: float = 0.0) -> float:
        """Seconds since a name was seen first; it was `older_s` old then."""
        self._asked[name] = self.seconds
        return self.seconds - self._since.setdefault(name, self.seconds - older_s)

    def past(self, actions: Iterable[Action], now: int) -> tuple[Past, ...]:
        """Stored actions with their ages.

        now : int64 ns. Only at the very first start, when nothing is remembered, is the wall clock asked how
        old they are.
        """
        found = []
        for action in actions:
            if action.started is None:
                found.append(Past(action, 0.0))
                continue
            older_s = 0.0 if self._remembers else max(now - action.started, 0) / 1e9
            found.append(Past(action, self.age_s(action.id, older_s)))
        self._remembers = True
        return tuple(found)

    def approval_s(self, proposal: Recommendation, now: int) -> float | None:
        """Seconds since its approval, or its scheduled time; the larger of what both clocks say.

        None = it is not approved.
        """
        if proposal.approved is None:
            return None
        since = max(proposal.approved, proposal.scheduled or 0)
        by_wall_s = (now - since) / 1e9
        if now < since and since == proposal.scheduled:
            return 0.0
        return max(by_wall_s, self.age_s(f"approval {proposal.id} {since}", max(by_wall_s, 0.0)))

    def state(self) -> dict[str, object]:
        """To be stored beside the ledger, at each evaluation; plain JSON."""
        edge = self.seconds - KEPT_S
        kept = {name: since for name, since in self._since.items() if self._asked.get(name, since) >= edge}
        return {"seconds": self.seconds, "since": kept}

    def restore(self, state: dict[str, object]) -> None:
        """Go on where `state` was taken. Raises TypeError or KeyError where it is something else."""
        seconds, since = state["seconds"], state["since"]
        if not isinstance(seconds, int | float) or not isinstance(since, dict):
            raise TypeError(f"a state of Lived holds seconds and since, not {state!r:.80}")
        self.seconds = float(seconds)
        self._since = {str(name): float(at) for name, at in since.items()}
        self._asked = dict.fromkeys(self._since, self.seconds)
        self._remembers = True
