"""How long each proposal has stood: evaluations in a row, since when, and the most that was asked for."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from trimtab.engine.actions.guard.guard_request import number
from trimtab.engine.actions.guard.situation import Standing
from trimtab.engine.types import Recommendation


@dataclass(slots=True)
class _Stand:
    """Of one fingerprint; times in seconds of the engine's life."""

    since: float
    last: float
    evaluations: int = 0
    asked: list[tuple[float, float]] = field(default_factory=list)
    """When, and for how much; each is less than those before it: the first of a hold is its most."""


class Evaluations:
    """Counts, evaluation by evaluation, which proposals were come to.

    keep_s : how far back the most that was asked for is remembered; the longest hold, in seconds

    >>> from trimtab.engine.actions.guard.situation_builder import by_hand
    >>> proposal, seen = by_hand("redis", "cache-1", "hz", 20, 15), Evaluations(300.0)
    >>> for second in (0, 60, 120): seen.note([proposal], second)
    >>> seen.standing(proposal, 130, hold_s=300)
    Standing(evaluations=3, since_s=130, last_s=10, most=15.0)
    >>> seen.note([], 180)
    >>> seen.standing(proposal, 180, hold_s=300).evaluations
    0
    """

    def __init__(self, keep_s: float) -> None:
        self.keep_s = keep_s
        self._stands: dict[str, _Stand] = {}

    def note(self, proposals: Iterable[Recommendation], lived_s: float) -> None:
        """One evaluation: all that it came to; nothing where it could not be made.

        What is not among them begins anew.

        lived_s : seconds of the engine's life (`trimtab.engine.actions.monotonic_age`)
        """
        newest = {proposal.fingerprint: proposal for proposal in proposals}
        for gone in self._stands.keys() - newest.keys():
            del self._stands[gone]
        for fingerprint, proposal in newest.items():
            stand = self._stands.setdefault(fingerprint, _Stand(lived_s, lived_s))
            stand.evaluations += 1
            stand.last = lived_s
            self._ask(stand, number(proposal.subject, proposal.after), lived_s)

    def _ask(self, stand: _Stand, value: float | None, lived_s: float) -> None:
        if value is None:
            return
        kept = [(at, most) for at, most in stand.asked if most > value and lived_s - at <= self.keep_s]
        stand.asked = [*kept, (lived_s, value)]

    def standing(self, proposal: Recommendation, lived_s: float, hold_s: float) -> Standing:
        """How long a proposal has stood, as the guard wants to know it."""
        stand = self._stands.get(proposal.fingerprint)
        if stand is None:
            return Standing()
        most = next((value for at, value in stand.asked if lived_s - at <= hold_s), None)
        return Standing(stand.evaluations, lived_s - stand.since, lived_s - stand.last, most)

    def state(self) -> dict[str, object]:
        """To be stored at each evaluation; plain JSON."""
        return {
            name: [stand.since, stand.last, stand.evaluations, [list(pair) for pair in stand.asked]]
            for name, stand in self._stands.items()
        }

    def restore(self, state: dict[str, object]) -> None:
        """Go on where `state` was taken. Raises TypeError or ValueError where it is something else."""
        stands = {}
        for name, kept in state.items():
            if not isinstance(kept, list):
                raise TypeError(f"a state of Evaluations holds lists, not {kept!r:.80}")
            since, last, evaluations, asked = kept
            stands[name] = _Stand(since, last, evaluations, [(at, value) for at, value in asked])
        self._stands = stands
