"""What people do with incidents: acknowledge, resolve, open again, merge, split. Their words stay."""

from collections.abc import Iterable, Sequence

from trimtab.engine.errors import ConflictError, NotFoundError
from trimtab.engine.incidents.incident_correlator import IncidentCorrelator
from trimtab.engine.incidents.incident_draft import IncidentDraft
from trimtab.engine.types import Incident, IncidentState
from trimtab.engine.types.ids import derived_ulid


class OperatorActions:
    """Words of people on the incidents that are followed.

    One that is over and forgotten is taken up again by `Incidents.take_up`, with its anomalies from the
    store. Each call gives the incidents that it changed, to be kept, and raises NotFoundError for one that is
    not followed.
    """

    def __init__(self, correlator: IncidentCorrelator) -> None:
        self.correlator = correlator

    def acknowledge(self, incident_id: str, by: str, note: str = "") -> list[Incident]:
        """Somebody works on it. Raises ConflictError where it is resolved."""
        case = self._draft(incident_id)
        if case.state is IncidentState.RESOLVED:
            raise ConflictError(f"incident {incident_id} is resolved: open it again to acknowledge it")
        case.state, case.acknowledged_by = IncidentState.ACKNOWLEDGED, by
        _append_note(case, by, note)
        return self._report(case)

    def resolve(self, incident_id: str, by: str, note: str = "") -> list[Incident]:
        """It is done, even where some of its anomalies still go on: they do not open it again."""
        case = self._draft(incident_id)
        if case.state is IncidentState.RESOLVED:
            raise ConflictError(f"incident {incident_id} is resolved already")
        case.state, case.by_hand = IncidentState.RESOLVED, True
        case.acknowledged_by = case.acknowledged_by or by
        _append_note(case, by, note)
        return self._report(case)

    def reopen(self, incident_id: str, by: str, note: str = "") -> list[Incident]:
        """It is not done after all."""
        case = self._draft(incident_id)
        if case.state is not IncidentState.RESOLVED:
            raise ConflictError(f"incident {incident_id} is {case.state}: there is nothing to open again")
        case.state, case.by_hand = IncidentState.ACKNOWLEDGED, False
        case.acknowledged_by = by
        case.ended = max(case.ended, self.correlator.time)
        _append_note(case, by, note)
        return self._report(case)

    def merge(self, into: str, others: Iterable[str], by: str) -> list[Incident]:
        """They are one. The others are told with `merged_into`."""
        whole = self._draft(into)
        parts = [self._draft(other) for other in dict.fromkeys(others) if other != into]
        if not parts:
            raise ConflictError(f"nothing to merge into incident {into}: name at least one other incident")
        _append_note(whole, by, f"merged {', '.join(part.id for part in parts)}")
        gone = [incident for part in parts for incident in self.correlator.absorb(whole, part)]
        return [*gone, *self._report(whole)]

    def split(self, incident_id: str, anomaly_ids: Sequence[str], by: str) -> list[Incident]:
        """These anomalies are another incident, the second given. Raises ConflictError where none remain."""
        case = self._draft(incident_id)
        apart = [name for name in dict.fromkeys(anomaly_ids) if name in case.members]
        unknown = [name for name in anomaly_ids if name not in case.members]
        if unknown or not apart or len(apart) == len(case.members):
            raise ConflictError(
                f"incident {incident_id} cannot be split by {list(anomaly_ids)}: name some of its anomalies, "
                f"not all; {len(unknown)} of these are not among them"
            )
        rest = [name for name in case.members if name not in apart]
        start = min(case.members[name].start for name in apart)
        new = IncidentDraft(derived_ulid(start, "split", case.id, *sorted(apart)), start, start)
        _append_note(case, by, f"split off {new.id}")
        _append_note(new, by, f"split from {case.id}")
        self.correlator.split(case, rest, new, apart)
        return [*self._report(case), *self._report(new)]

    def _draft(self, incident_id: str) -> IncidentDraft:
        case = self.correlator.drafts.get(incident_id)
        if case is None:
            raise NotFoundError(f"incident {incident_id!r} is not followed any more")
        return case

    def _report(self, case: IncidentDraft) -> list[Incident]:
        case.known = True
        case.told = ()
        return self.correlator.report(case)


def _append_note(case: IncidentDraft, by: str, note: str) -> None:
    if note:
        case.note = "\n".join(part for part in (case.note, f"{by}: {note}") if part)
