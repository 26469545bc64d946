"""What past incidents teach: metrics and entities that move together, similar incidents, recent changes."""

from collections.abc import Mapping
from itertools import islice
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
"""Weight of a further series of the same entity and metric, such as a machine's second core."""
MIN_NOVELTY = 0.25
"""Minimum weight of a series, however often its metric moved with the others."""
MAX_COMPARED = 32
"""Members of a draft that a new series is compared with."""
MAX_ENTITIES = 100
"""Maximum number of entities listed in an incident."""
MAX_CHANGE_MEMBERS = 200
"""Anomalies of an incident whose labels are compared with change events."""
_PARTS = ("entities", "metrics", "usual", "past", "changes")


class IncidentMemory:
    """Learned from the incidents of an installation.

    entities, metrics : co-movement in all incidents
    usual             : co-movement of metrics, weighted less for severe incidents, which stay evidence
    past              : past incidents by similarity
    changes           : recent change events
    """

    def __init__(self) -> None:
        self.entities = CoMovement()
        self.metrics = CoMovement()
        self.usual = CoMovement()
        self.past = IncidentSimilarity()
        self.changes = ChangeLog()

    def novelty(self, draft: IncidentDraft, location: SeriesLocation) -> float:
        """Return a series' weight as evidence, 0..1: less where its metric usually moves with the others."""
        novelty = 1.0
        for member in list(draft.members.values())[:MAX_COMPARED]:
            if member.metric != location.metric:
                novelty = min(novelty, 1.0 - self.usual.move_ratio(member.metric, location.metric))
            elif member.entity == location.entity:
                novelty = min(novelty, SAME_METRIC_NOVELTY)
        return max(novelty, MIN_NOVELTY)

    def to_incident(self, draft: IncidentDraft, interval_s: float) -> Incident:
        """Return the current incident of a draft."""
        suspected = rank_suspects(draft.members.values(), self.entities, self.metrics, interval_s)
        matches = sorted(draft.patterns.values(), key=lambda m: (m.until is not None, -m.confidence, m.name))
        return Incident(
            id=draft.id,
            start=draft.start,
            end=draft.end,
            state=draft.state,
            title=incident_title(draft, suspected),
            severity=round(draft.severity, 4),
            level=level_of(draft.severity),
            user_facing=draft.user_facing,
            mass=draft.mass,
            entities=tuple(draft.entities()[:MAX_ENTITIES]),
            anomaly_ids=tuple(draft.members),
            suspects=suspected,
            patterns=tuple(matches),
            change_ids=draft.change_ids,
            similar=draft.similar,
            acknowledged_by=draft.acknowledged_by,
            note=draft.note,
        )

    def find_near_changes(self, draft: IncidentDraft) -> tuple[str, ...]:
        """Return the ids of change events that may have caused an incident, newest first."""
        end = draft.last if draft.end is None else draft.ended
        labels = (member.labels for member in islice(draft.members.values(), MAX_CHANGE_MEMBERS))
        return self.changes.find_near(draft.start, end, labels, draft.series)

    def find_similar(self, draft: IncidentDraft) -> None:
        """Update the draft's list of similar past incidents."""
        draft.similar = self.past.most_similar(draft_fingerprint(draft), exclude=draft.id)

    def learn(self, draft: IncidentDraft, time: int) -> None:
        """Learn from an ended draft; `time` is int64 ns. Mass events are ignored."""
        if draft.mass:
            return
        by_entity: dict[str, int] = {}
        by_metric: dict[str, int] = {}
        for member in sorted(draft.members.values(), key=lambda m: m.start):
            by_entity.setdefault(member.entity, member.start)
            by_metric.setdefault(member.metric, member.start)
        self.entities.learn(by_entity, time)
        self.metrics.learn(by_metric, time)
        self.usual.learn(by_metric, time, max(1.0 - draft.severity, 0.0))
        if draft.severity >= MEDIUM or draft.patterns:
            self.past.add(draft.id, draft_fingerprint(draft))

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return {name: getattr(self, name).state() for name in _PARTS}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`."""
        for name in _PARTS:
            getattr(self, name).restore(state[name])


def draft_fingerprint(draft: IncidentDraft) -> Fingerprint:
    """Return the similarity features of a draft."""
    members = sorted(draft.members.values(), key=lambda m: m.start)[:MAX_ENTITIES]
    series = ((m.entity, m.metric, str(m.direction)) for m in members)
    names = (match.name for match in draft.patterns.values())
    return fingerprint(draft.entities(), series, names, mass=draft.mass)
