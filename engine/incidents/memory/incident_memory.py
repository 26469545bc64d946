"""What is remembered of incidents: what moved together, which first, what looked alike, what changed near."""

from collections.abc import Mapping
from typing import Any

from trimtab.engine.changes.change_log import ChangeLog
from trimtab.engine.incidents.incident_draft import IncidentDraft
from trimtab.engine.incidents.incident_wording import incident_title
from trimtab.engine.incidents.memory.co_movement import CoMovement
from trimtab.engine.incidents.memory.similarity import Fingerprint, IncidentSimilarity, fingerprint
from trimtab.engine.incidents.root_cause import rank_suspects
from trimtab.engine.incidents.series_directory import SeriesLocation
from trimtab.engine.incidents.severity import MEDIUM, level_of
from trimtab.engine.types import Incident

SAME_METRIC_NOVELTY = 0.5
"""What a further series of one entity and metric adds, as the second core of a machine does."""
MIN_NOVELTY = 0.25
"""What a series adds at least, however often its metric moved with the others before."""
MAX_COMPARED = 32
"""Metrics of a case that a new one is compared with."""
MAX_ENTITIES = 100
"""Named in an incident."""
_PARTS = ("entities", "metrics", "usual", "past", "changes")


class IncidentMemory:
    """Of an installation's incidents.

    entities, metrics : what moved together in all of them
    usual             : metrics that moved together, severe incidents left out: what happens often and is bad
                        stays bad
    """

    def __init__(self) -> None:
        self.entities = CoMovement()
        self.metrics = CoMovement()
        self.usual = CoMovement()
        self.past = IncidentSimilarity()
        self.changes = ChangeLog()

    def novelty(self, case: IncidentDraft, place: SeriesLocation) -> float:
        """What a series adds as evidence, 0..1: little where its metric always moves with these."""
        new = 1.0
        for member in list(case.members.values())[:MAX_COMPARED]:
            if member.metric != place.metric:
                new = min(new, 1.0 - self.usual.move_ratio(member.metric, place.metric))
            elif member.entity == place.entity:
                new = min(new, SAME_METRIC_NOVELTY)
        return max(new, MIN_NOVELTY)

    def to_incident(self, case: IncidentDraft, interval_s: float) -> Incident:
        """The incident as it stands."""
        suspected = rank_suspects(case.members.values(), self.entities, self.metrics, interval_s)
        matches = sorted(case.patterns.values(), key=lambda m: (m.until is not None, -m.confidence, m.name))
        return Incident(
            id=case.id, start=case.start, end=case.end, state=case.state, title=incident_title(case, suspected),
            severity=round(case.severity, 4), level=level_of(case.severity), user_facing=case.user_facing,
            mass=case.mass, entities=tuple(case.entities()[:MAX_ENTITIES]), anomaly_ids=tuple(case.members),
            suspects=suspected, patterns=tuple(matches), change_ids=case.change_ids, similar=case.similar,
            acknowledged_by=case.acknowledged_by, note=case.note,
        )  # fmt: skip

    def find_similar(self, case: IncidentDraft) -> None:
        """Find past incidents that looked like it."""
        case.similar = self.past.most_similar(draft_fingerprint(case), exclude=case.id)

    def learn(self, case: IncidentDraft, time: int) -> None:
        """A case is over: what moved together in it, which first, and what it looked like."""
        if case.mass:
            return
        by_entity: dict[str, int] = {}
        by_metric: dict[str, int] = {}
        for member in sorted(case.members.values(), key=lambda m: m.start):
            by_entity.setdefault(member.entity, member.start)
            by_metric.setdefault(member.metric, member.start)
        self.entities.learn(by_entity, time)
        self.metrics.learn(by_metric, time)
        self.usual.learn(by_metric, time, max(1.0 - case.severity, 0.0))
        if case.severity >= MEDIUM or case.patterns:
            self.past.add(case.id, draft_fingerprint(case))

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return {name: getattr(self, name).state() for name in _PARTS}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name in _PARTS:
            getattr(self, name).restore(state[name])


def draft_fingerprint(case: IncidentDraft) -> Fingerprint:
    """What is characteristic of a case."""
    moved = sorted(case.members.values(), key=lambda m: m.start)[:MAX_ENTITIES]
    series = ((m.entity, m.metric, str(m.direction)) for m in moved)
    names = (match.name for match in case.patterns.values())
    return fingerprint(case.entities(), series, names, mass=case.mass)
