"""History of proposals: consecutive evaluations, their time span and the highest proposed value."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from trimtab.engine.actions.guard.guard_request import knob_number
from trimtab.engine.actions.guard.situation import ProposalStability
from trimtab.engine.types import Recommendation


@dataclass(slots=True)
class _ProposalRecord:
    """Record of one fingerprint; times are `MonotonicAges.running_s`."""

    first_s: float
    last_s: float
    evaluations: int = 0
    maxima: list[tuple[float, float]] = field(default_factory=list)
    """(time, proposed value) with decreasing values: the first one in a window is its maximum."""


class ProposalHistory:
    """Counts consecutive evaluations that produced the same proposal.

    keep_s : seconds for which proposed values are kept; the longest reduction hold

    >>> from trimtab.engine.actions.guard.situation_builder import manual_proposal
    >>> proposal, history = manual_proposal("redis", "cache-1", "hz", 20, 15), ProposalHistory(300.0)
    >>> for second in (0, 60, 120): history.record([proposal], second)
    >>> history.stability(proposal, 130, hold_s=300)
    ProposalStability(evaluations=3, since_s=130, last_s=10, max_value=15.0)
    >>> history.record([], 180)
    >>> history.stability(proposal, 180, hold_s=300).evaluations
    0
    """

    def __init__(self, keep_s: float) -> None:
        self.keep_s = keep_s
        self._records: dict[str, _ProposalRecord] = {}

    def record(self, proposals: Iterable[Recommendation], running_s: float) -> None:
        """Record all proposals of one evaluation; an absent proposal starts from zero next time.

        proposals : empty if the evaluation failed
        running_s : `MonotonicAges.running_s`
        """
        newest = {proposal.fingerprint: proposal for proposal in proposals}
        for gone in self._records.keys() - newest.keys():
            del self._records[gone]
        for fingerprint, proposal in newest.items():
            record = self._records.setdefault(fingerprint, _ProposalRecord(running_s, running_s))
            record.evaluations += 1
            record.last_s = running_s
            self._record_value(record, knob_number(proposal.subject, proposal.after), running_s)

    def _record_value(self, record: _ProposalRecord, value: float | None, running_s: float) -> None:
        if value is None:
            return
        kept = [(at, most) for at, most in record.maxima if most > value and running_s - at <= self.keep_s]
        record.maxima = [*kept, (running_s, value)]

    def stability(self, proposal: Recommendation, running_s: float, hold_s: float) -> ProposalStability:
        """Return the stability of a proposal; `hold_s` is the window of its maximum, in seconds."""
        record = self._records.get(proposal.fingerprint)
        if record is None:
            return ProposalStability()
        most = next((value for at, value in record.maxima if running_s - at <= hold_s), None)
        return ProposalStability(
            record.evaluations, running_s - record.first_s, running_s - record.last_s, most
        )

    def state(self) -> dict[str, object]:
        """Return the state as plain JSON; stored at each evaluation."""
        return {
            name: [record.first_s, record.last_s, record.evaluations, [list(pair) for pair in record.maxima]]
            for name, record in self._records.items()
        }

    def restore(self, state: dict[str, object]) -> None:
        """Restore a state. Raises TypeError or ValueError if it is malformed."""
        records = {}
        for name, kept in state.items():
            if not isinstance(kept, list):
                raise TypeError(f"the state of ProposalHistory holds lists, not {kept!r:.80}")
            since, last, evaluations, asked = kept
            records[name] = _ProposalRecord(since, last, evaluations, [(at, value) for at, value in asked])
        self._records = records
