"""In-memory fakes of the control loop's ports: incidents, ledger, decisions, incident actions."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ulid import ULID

from tests.fakes.fake_models import FakeModelService
from tests.fakes.fake_tools import FakeToolbox
from tests.fakes.ports import FakeClock, FakeLiveView
from trimtab.engine.api.loop_ports import LoopPorts
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, StoreError
from trimtab.engine.types import (
    Action,
    ActionState,
    Alert,
    AuditRow,
    Capacity,
    Change,
    Incident,
    IncidentState,
    Mode,
    Outcome,
    Pause,
    Recommendation,
    RecommendationState,
    Silence,
    Value,
)

REVERSIBLE = {ActionState.VERIFYING, ActionState.KEPT, ActionState.INCONCLUSIVE}


def _page(records: Iterable[Any], after: str | None, limit: int) -> list[Any]:
    newest = sorted(records, key=lambda record: record.id, reverse=True)
    return [record for record in newest if after is None or record.id < after][:limit]


class FakeIncidents:
    """In-memory incidents and change events."""

    def __init__(self) -> None:
        self.by_id: dict[str, Incident] = {}
        self.changes_by_id: dict[str, Change] = {}

    def save_incidents(self, incidents: Iterable[Incident]) -> None:
        self.by_id.update({incident.id: incident for incident in incidents})

    def incident(self, incident_id: str) -> Incident:
        if incident_id not in self.by_id:
            raise NotFoundError(f"there is no incident {incident_id!r}")
        return self.by_id[incident_id]

    def incidents(
        self,
        *,
        state: IncidentState | None = None,
        open_only: bool = False,
        since: int | None = None,
        until: int | None = None,
        pattern: str | None = None,
        min_severity: float | None = None,
        search: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Incident]:
        words = (search or "").lower().split()
        found = (
            i
            for i in self.by_id.values()
            if i.merged_into is None
            and (state is None or i.state is state)
            and (not open_only or i.end is None)
            and (since is None or i.end is None or i.end >= since)
            and (until is None or i.start < until)
            and (pattern is None or pattern in {p.name for p in i.patterns})
            and (min_severity is None or i.severity >= min_severity)
            and all(word in f"{i.title} {' '.join(i.entities)}".lower() for word in words)
        )
        return _page(found, after, limit)

    def save_change(self, change: Change) -> None:
        self.changes_by_id[change.id] = change

    def changes(
        self,
        *,
        since: int | None = None,
        until: int | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Change]:
        found = (
            c
            for c in self.changes_by_id.values()
            if (since is None or c.time >= since) and (until is None or c.time < until)
        )
        return _page(found, after, limit)


class FakeLedger:
    """In-memory ledger. While `broken` is set, every write raises StoreError with that message."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.recommendations_by_id: dict[str, Recommendation] = {}
        self.actions_by_id: dict[str, Action] = {}
        self.rows: list[AuditRow] = []
        self.pause_state = Pause(on=False)
        self.silences_by_id: dict[str, Silence] = {}
        self.broken: str | None = None

    def save_recommendation(self, recommendation: Recommendation, audit: str, actor: str) -> None:
        self.append_audit(audit, recommendation.id, actor)
        self.recommendations_by_id[recommendation.id] = recommendation

    def recommendation(self, recommendation_id: str) -> Recommendation:
        if recommendation_id not in self.recommendations_by_id:
            raise NotFoundError(f"there is no recommendation {recommendation_id!r}")
        return self.recommendations_by_id[recommendation_id]

    def recommendations(
        self,
        *,
        state: RecommendationState | None = None,
        incident_id: str | None = None,
        tool: str | None = None,
        target: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Recommendation]:
        wanted = {"state": state, "incident_id": incident_id, "tool": tool, "target": target}
        return _page(_matching(self.recommendations_by_id.values(), wanted), after, limit)

    def propose(self, action: Action, audit: str, actor: str) -> Action:
        existing = next((a for a in self.actions_by_id.values() if a.key == action.key), None)
        if existing is not None:
            return existing
        self.append_audit(audit, action.id, actor)
        self.actions_by_id[action.id] = action
        return action

    def transition(
        self,
        action: Action,
        expected: ActionState,
        audit: str,
        actor: str,
        details: dict[str, Value] | None = None,
    ) -> Action:
        stored = self.action(action.id)
        if stored.state is not expected:
            raise ConflictError(f"action {action.id} is {stored.state}, not {expected}")
        self.append_audit(audit, action.id, actor, details)
        self.actions_by_id[action.id] = action
        return action

    def action(self, action_id: str) -> Action:
        if action_id not in self.actions_by_id:
            raise NotFoundError(f"there is no action {action_id!r}")
        return self.actions_by_id[action_id]

    def actions(
        self,
        *,
        state: ActionState | None = None,
        unfinished: bool = False,
        recommendation_id: str | None = None,
        tool: str | None = None,
        target: str | None = None,
        since: int | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Action]:
        wanted = {"state": state, "recommendation_id": recommendation_id, "tool": tool, "target": target}
        found = (
            action
            for action in _matching(self.actions_by_id.values(), wanted)
            if not (unfinished and action.state.is_final) and (since is None or action.created >= since)
        )
        return _page(found, after, limit)

    def append_audit(
        self, what: str, subject: str, actor: str, details: dict[str, Value] | None = None
    ) -> AuditRow:
        if self.broken:
            raise StoreError(self.broken)
        previous = self.rows[-1].hash if self.rows else "0" * 64
        digest = hashlib.sha256(f"{previous} {what} {subject} {actor}".encode()).hexdigest()
        seq = len(self.rows) + 1
        row = AuditRow(seq, self.clock.now(), actor, what, subject, details or {}, previous, digest)
        self.rows.append(row)
        return row

    def audit_rows(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> list[AuditRow]:
        return [r for r in self.rows if r.seq > after and subject in {None, r.subject}][:limit]

    def pause(self) -> Pause:
        return self.pause_state

    def set_pause(self, pause: Pause) -> None:
        self.append_audit("paused" if pause.on else "resumed", "pause", pause.by, {"reason": pause.reason})
        self.pause_state = pause

    def silences(self) -> list[Silence]:
        return list(self.silences_by_id.values())[::-1]

    def add_silence(self, silence: Silence) -> None:
        self.append_audit("silenced", silence.id, silence.by)
        self.silences_by_id[silence.id] = silence

    def end_silence(self, silence_id: str, by: str) -> Silence:
        if silence_id not in self.silences_by_id:
            raise NotFoundError(f"there is no silence {silence_id!r}")
        now = self.clock.now()
        if self.silences_by_id[silence_id].until <= now:
            raise ConflictError(f"silence {silence_id} is over already")
        self.append_audit("silence ended", silence_id, by)
        self.silences_by_id[silence_id] = replace(self.silences_by_id[silence_id], until=now)
        return self.silences_by_id[silence_id]


def _matching(records: Iterable[Any], wanted: Mapping[str, object]) -> list[Any]:
    filters = {name: value for name, value in wanted.items() if value is not None}
    return [row for row in records if all(getattr(row, name) == value for name, value in filters.items())]


class FakeOperatorDecisions:
    """Decisions that write to the fake ledger. While `refusal` is set, changes raise RefusedError with it."""

    def __init__(self, clock: FakeClock, ledger: FakeLedger, live: FakeLiveView) -> None:
        self.clock = clock
        self.ledger = ledger
        self.live = live
        self.refusal: str | None = None

    def _raise_if_refused(self) -> None:
        if self.ledger.pause().on:
            raise RefusedError("everything is paused; resume first")
        if self.refusal:
            raise RefusedError(self.refusal)

    def _decide(self, recommendation_id: str, what: str, by: str, **changed: Any) -> Recommendation:
        before = self.ledger.recommendation(recommendation_id)
        if before.state not in {RecommendationState.PENDING, RecommendationState.APPROVED}:
            raise ConflictError(f"recommendation {recommendation_id} is {before.state} already")
        after = replace(before, **changed)
        self.ledger.save_recommendation(after, f"recommendation {what}", by)
        self.live.publish("recommendation", asdict(after))
        return after

    async def approve(self, recommendation_id: str, by: str) -> Recommendation:
        self._raise_if_refused()
        changed = {"state": RecommendationState.APPROVED, "approver": by, "approved": self.clock.now()}
        return self._decide(recommendation_id, "approved", by, **changed)

    async def dismiss(self, recommendation_id: str, by: str, reason: str) -> Recommendation:
        changed = {"state": RecommendationState.DISMISSED, "reason": reason}
        return self._decide(recommendation_id, "dismissed", by, **changed)

    async def schedule(self, recommendation_id: str, by: str, at: int) -> Recommendation:
        changed = {"state": RecommendationState.SCHEDULED, "approver": by, "scheduled": at}
        return self._decide(recommendation_id, "scheduled", by, **changed)

    async def apply(self, recommendation_id: str, by: str, key: str) -> Action:
        self._raise_if_refused()
        applied = self._decide(recommendation_id, "applied", by, state=RecommendationState.APPLIED)
        return self._act(
            by, key, recommendation_id=applied.id, tool=applied.tool, target=applied.target,
            subject=applied.subject, is_action=applied.is_action, before=applied.before, after=applied.after,
        )  # fmt: skip

    async def roll_back(self, action_id: str, by: str, key: str) -> Action:
        action = self.ledger.action(action_id)
        if action.state not in REVERSIBLE:
            raise ConflictError(f"action {action_id} is {action.state} and cannot be taken back")
        outcome = Outcome(ActionState.ROLLED_BACK, f"rolled back: {by} took it back")
        back = replace(action, state=ActionState.ROLLED_BACK, ended=self.clock.now(), outcome=outcome)
        self.ledger.transition(back, action.state, "action rolled back", by)
        self.live.publish("action", asdict(back))
        return self._act(
            by, key, tool=action.tool, target=action.target, subject=action.subject, is_action=False,
            before=action.after, after=action.before, undoes=action.id, state=ActionState.KEPT,
        )  # fmt: skip

    async def run(self, tool: str, target: str, action: str, by: str, key: str) -> Action:
        self._raise_if_refused()
        return self._act(
            by, key, tool=tool, target=target, subject=action, is_action=True, told=f"{action} done"
        )

    async def set_knob(
        self, tool: str, target: str, knob: str, before: Value, after: Value, by: str, key: str
    ) -> Action:
        self._raise_if_refused()
        return self._act(by, key, tool=tool, target=target, subject=knob, before=before, after=after)

    async def pause(self, by: str, reason: str) -> Pause:
        return self._switch(Pause(on=True, by=by, since=self.clock.now(), reason=reason))

    async def resume(self, by: str, reason: str) -> Pause:
        return self._switch(Pause(on=False, by=by, since=self.clock.now(), reason=reason))

    def _switch(self, pause: Pause) -> Pause:
        self.ledger.set_pause(pause)
        self.live.publish("pause", asdict(pause))
        return pause

    def _act(self, by: str, key: str, **fields: Any) -> Action:
        now = self.clock.now()
        defaults = {
            "id": str(ULID.from_timestamp(now / 1e9)), "recommendation_id": None, "before": None,
            "after": None, "set_before": True, "state": ActionState.VERIFYING, "mode": Mode.APPROVE,
            "created": now, "started": now, "is_action": False,
        }  # fmt: skip
        action = self.ledger.propose(Action(key=key, by=by, **(defaults | fields)), "action executed", by)
        self.live.publish("action", asdict(action))
        return action


class FakeIncidentActions:
    """Operator actions on the fake incidents."""

    def __init__(self, incidents: FakeIncidents, live: FakeLiveView) -> None:
        self.incidents = incidents
        self.live = live

    def _change(self, incident_id: str, **changed: Any) -> Incident:
        after = replace(self.incidents.incident(incident_id), **changed)
        self.incidents.save_incidents([after])
        self.live.publish("incident", asdict(after))
        return after

    async def acknowledge(self, incident_id: str, by: str, note: str = "") -> Incident:
        if self.incidents.incident(incident_id).state is IncidentState.RESOLVED:
            raise ConflictError(f"incident {incident_id} is resolved; reopen it first")
        return self._change(incident_id, state=IncidentState.ACKNOWLEDGED, acknowledged_by=by, note=note)

    async def resolve(self, incident_id: str, by: str, note: str = "") -> Incident:  # noqa: ARG002 - as in the port
        return self._change(incident_id, state=IncidentState.RESOLVED, note=note)

    async def reopen(self, incident_id: str, by: str, note: str = "") -> Incident:  # noqa: ARG002 - as in the port
        return self._change(incident_id, state=IncidentState.OPEN, note=note)

    async def merge(self, incident_id: str, into: str, by: str) -> Incident:  # noqa: ARG002 - as in the port
        merged = self._change(incident_id, merged_into=into)
        other = self.incidents.incident(into)
        return self._change(into, anomaly_ids=other.anomaly_ids + merged.anomaly_ids)

    async def split(self, incident_id: str, anomaly_ids: Sequence[str], by: str) -> Incident:
        del by
        original = self.incidents.incident(incident_id)
        split_off = replace(original, id=str(ULID()), anomaly_ids=tuple(anomaly_ids))
        rest = tuple(a for a in original.anomaly_ids if a not in anomaly_ids)
        self.incidents.save_incidents([split_off, replace(original, anomaly_ids=rest)])
        return split_off


class FakeControlLoop:
    """All fakes of the control loop."""

    def __init__(self, clock: FakeClock, live: FakeLiveView) -> None:
        self.incidents = FakeIncidents()
        self.ledger = FakeLedger(clock)
        self.decisions = FakeOperatorDecisions(clock, self.ledger, live)
        self.incident_actions = FakeIncidentActions(self.incidents, live)
        self.toolbox = FakeToolbox()
        self.models: FakeModelService | None = FakeModelService()
        self.alerts: list[Alert] = []
        self.audit_problem: str | None = None
        """Problem found when verifying the audit; None = intact."""
        self.capacity: dict[str, Capacity] = {}

    async def take_alerts(self, alerts: Sequence[Alert], by: str) -> None:  # noqa: ARG002 - as in the port
        """Record incoming alerts."""
        self.alerts += alerts

    def ports(self) -> LoopPorts:
        """Return the ports as the API expects them."""
        return LoopPorts(
            self.incidents,
            self.incident_actions,
            self.ledger,
            self.decisions,
            self.toolbox,
            self.take_alerts,
            lambda: self.audit_problem,
            models=self.models,
            capacity=self.capacity,
        )
