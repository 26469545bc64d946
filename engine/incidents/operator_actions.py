"""Operator actions on incidents: acknowledge, resolve, reopen, merge, split."""

from collections.abc import Iterable, Sequence

from trimtab.engine.errors import ConflictError, NotFoundError
from trimtab.engine.incidents.incident_correlator import IncidentCorrelator
from trimtab.engine.incidents.incident_draft import IncidentDraft
from trimtab.engine.types import Incident, IncidentState
from trimtab.engine.types.ids import derived_ulid


class OperatorActions:
    """Operator actions on the incidents that the correlator follows.

    Load others first with `IncidentCorrelator.follow_stored`. Each action returns the incidents it changed,
    to be stored, and
    raises NotFoundError for an incident that is not followed.
    """

    def __init__(self, correlator: IncidentCorrelator) -> None:
        self.correlator = correlator

    def acknowledge(self, incident_id: str, by: str, note: str = "") -> list[Incident]:
        """Mark that an operator works on it. Raises ConflictError if it is resolved."""
        draft = self._draft(incident_id)
        if draft.state is IncidentState.RESOLVED:
            raise ConflictError(f"incident {incident_id} is resolved; reopen it before acknowledging it")
        draft.state, draft.acknowledged_by = IncidentState.ACKNOWLEDGED, by
        _append_note(draft, by, note)
        return self._report(draft)

    def resolve(self, incident_id: str, by: str, note: str = "") -> list[Incident]:
        """Resolve it; anomalies that are still open do not reopen it. Raises ConflictError if resolved."""
        draft = self._draft(incident_id)
        if draft.state is IncidentState.RESOLVED:
            raise ConflictError(f"incident {incident_id} is already resolved")
        draft.state, draft.by_hand = IncidentState.RESOLVED, True
        draft.acknowledged_by = draft.acknowledged_by or by
        _append_note(draft, by, note)
        return self._report(draft)

    def reopen(self, incident_id: str, by: str, note: str = "") -> list[Incident]:
        """Reopen a resolved incident. Raises ConflictError if it is not resolved."""
        draft = self._draft(incident_id)
        if draft.state is not IncidentState.RESOLVED:
            raise ConflictError(
                f"incident {incident_id} is {draft.state}; only a resolved incident can be reopened"
            )
        draft.state, draft.by_hand = IncidentState.ACKNOWLEDGED, False
        draft.acknowledged_by = by
        draft.ended = max(draft.ended, self.correlator.time)
        _append_note(draft, by, note)
        return self._report(draft)

    def merge(self, into: str, others: Iterable[str], by: str) -> list[Incident]:
        """Merge others into one incident. The others are returned with `merged_into`."""
        target = self._draft(into)
        merged = [self._draft(other) for other in dict.fromkeys(others) if other != into]
        if not merged:
            raise ConflictError(f"nothing to merge into incident {into}; name at least one other incident")
        _append_note(target, by, f"merged {', '.join(other.id for other in merged)}")
        closed = [incident for other in merged for incident in self.correlator.absorb(target, other)]
        return [*closed, *self._report(target)]

    def split(self, incident_id: str, anomaly_ids: Sequence[str], by: str) -> list[Incident]:
        """Move anomalies to a new incident, returned second. Raises ConflictError if either is empty."""
        draft = self._draft(incident_id)
        apart = [name for name in dict.fromkeys(anomaly_ids) if name in draft.members]
        unknown = [name for name in anomaly_ids if name not in draft.members]
        if unknown or not apart or len(apart) == len(draft.members):
            raise ConflictError(
                f"incident {incident_id} cannot be split by {list(anomaly_ids)}; name some of its anomalies, "
                f"not all of them; {len(unknown)} of these do not belong to it"
            )
        remaining = [name for name in draft.members if name not in apart]
        start = min(draft.members[name].start for name in apart)
        new = IncidentDraft(derived_ulid(start, "split", draft.id, *sorted(apart)), start, start)
        _append_note(draft, by, f"split off {new.id}")
        _append_note(new, by, f"split from {draft.id}")
        self.correlator.split(draft, remaining, new, apart)
        return [*self._report(draft), *self._report(new)]

    def _draft(self, incident_id: str) -> IncidentDraft:
        draft = self.correlator.drafts.get(incident_id)
        if draft is None:
            raise NotFoundError(f"incident {incident_id!r} does not exist or is no longer followed")
        return draft

    def _report(self, draft: IncidentDraft) -> list[Incident]:
        draft.known = True
        draft.told = ()
        return self.correlator.report(draft)


def _append_note(draft: IncidentDraft, by: str, note: str) -> None:
    if note:
        draft.note = "\n".join(part for part in (draft.note, f"{by}: {note}") if part)
