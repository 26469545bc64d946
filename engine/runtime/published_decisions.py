"""Publishes operator decisions on actions and incidents to the live event stream."""

from collections.abc import Callable, Sequence

from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.ports import OperatorDecisions
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.types import Action, Incident, Notice, Pause, Recommendation, Value


class PublishedDecisions:
    """The port OperatorDecisions; publishes every accepted decision as a live event.

    decisions : carries the decisions out
    live      : receives the events
    """

    def __init__(self, decisions: OperatorDecisions, live: LiveState) -> None:
        self.decisions = decisions
        self.live = live

    async def approve(self, recommendation_id: str, by: str) -> Recommendation:
        """See `OperatorDecisions.approve`."""
        return self._publish_recommendation(await self.decisions.approve(recommendation_id, by))

    async def dismiss(self, recommendation_id: str, by: str, reason: str) -> Recommendation:
        """See `OperatorDecisions.dismiss`."""
        return self._publish_recommendation(await self.decisions.dismiss(recommendation_id, by, reason))

    async def schedule(self, recommendation_id: str, by: str, at: int) -> Recommendation:
        """See `OperatorDecisions.schedule`."""
        return self._publish_recommendation(await self.decisions.schedule(recommendation_id, by, at))

    async def apply(self, recommendation_id: str, by: str, key: str) -> Action:
        """See `OperatorDecisions.apply`."""
        return self._publish_action(await self.decisions.apply(recommendation_id, by, key))

    async def roll_back(self, action_id: str, by: str, key: str) -> Action:
        """See `OperatorDecisions.roll_back`."""
        return self._publish_action(await self.decisions.roll_back(action_id, by, key))

    async def run(self, tool: str, target: str, action: str, by: str, key: str) -> Action:
        """See `OperatorDecisions.run`."""
        return self._publish_action(await self.decisions.run(tool, target, action, by, key))

    async def set_knob(
        self, tool: str, target: str, knob: str, before: Value, after: Value, by: str, key: str
    ) -> Action:
        """See `OperatorDecisions.set_knob`."""
        return self._publish_action(await self.decisions.set_knob(tool, target, knob, before, after, by, key))

    async def pause(self, by: str, reason: str) -> Pause:
        """See `OperatorDecisions.pause`."""
        return self._publish_pause(await self.decisions.pause(by, reason))

    async def resume(self, by: str, reason: str) -> Pause:
        """See `OperatorDecisions.resume`."""
        return self._publish_pause(await self.decisions.resume(by, reason))

    def _publish_recommendation(self, recommendation: Recommendation) -> Recommendation:
        self.live.publish("recommendation", recommendation)
        return recommendation

    def _publish_action(self, action: Action) -> Action:
        self.live.publish("action", action)
        return action

    def _publish_pause(self, pause: Pause) -> Pause:
        self.live.publish("pause", pause)
        return pause


class PublishedIncidentActions:
    """The port IncidentActions: runs in the worker thread and publishes each changed incident."""

    def __init__(self, context: LoopContext, incident_service: IncidentService) -> None:
        self.context = context
        self.incident_service = incident_service

    async def acknowledge(self, incident_id: str, by: str, note: str = "") -> Incident:
        """See `IncidentActions.acknowledge`."""
        return await self._apply(
            incident_id, lambda: self.incident_service.operator_actions.acknowledge(incident_id, by, note)
        )

    async def resolve(self, incident_id: str, by: str, note: str = "") -> Incident:
        """See `IncidentActions.resolve`."""
        return await self._apply(
            incident_id, lambda: self.incident_service.operator_actions.resolve(incident_id, by, note)
        )

    async def reopen(self, incident_id: str, by: str, note: str = "") -> Incident:
        """See `IncidentActions.reopen`."""
        return await self._apply(
            incident_id, lambda: self.incident_service.operator_actions.reopen(incident_id, by, note)
        )

    async def merge(self, incident_id: str, into: str, by: str) -> Incident:
        """See `IncidentActions.merge`."""
        await self.context.run_in_worker(self.incident_service.follow, into)
        return await self._apply(
            incident_id, lambda: self.incident_service.operator_actions.merge(into, [incident_id], by)
        )

    async def split(self, incident_id: str, anomaly_ids: Sequence[str], by: str) -> Incident:
        """See `IncidentActions.split`."""
        return await self._apply(
            incident_id, lambda: self.incident_service.operator_actions.split(incident_id, anomaly_ids, by)
        )

    async def _apply(self, incident_id: str, change: Callable[[], list[Incident]]) -> Incident:
        """Apply an operator action, publish all changed incidents and return the last of them."""

        def apply() -> tuple[list[Incident], list[Notice]]:
            self.incident_service.follow(incident_id)
            changed = change()
            return changed, self.incident_service.apply_operator_changes(changed)

        changed, notices = await self.context.run_in_worker(apply)
        for incident in changed:
            self.context.live.publish("incident", incident)
        if notices and self.context.notifications is not None:
            await self.context.notifications.enqueue(notices)
        return changed[-1]
