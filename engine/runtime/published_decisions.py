"""What people decide, told to everybody who looks; and what they say of incidents."""

from collections.abc import Callable, Sequence

from trimtab.engine.incidents.incident_service import Judging
from trimtab.engine.live.live_state import Live
from trimtab.engine.ports import Desk
from trimtab.engine.runtime.loop_context import Surroundings
from trimtab.engine.types import Action, Incident, Notice, Pause, Recommendation, Value


class ToldDesk:
    """The port Desk; each decision that was taken is an event of the live stream."""

    def __init__(self, desk: Desk, live: Live) -> None:
        self.desk = desk
        self.live = live

    async def approve(self, recommendation_id: str, by: str) -> Recommendation:
        """See `Desk.approve`."""
        return self._recommended(await self.desk.approve(recommendation_id, by))

    async def dismiss(self, recommendation_id: str, by: str, reason: str) -> Recommendation:
        """See `Desk.dismiss`."""
        return self._recommended(await self.desk.dismiss(recommendation_id, by, reason))

    async def schedule(self, recommendation_id: str, by: str, at: int) -> Recommendation:
        """See `Desk.schedule`."""
        return self._recommended(await self.desk.schedule(recommendation_id, by, at))

    async def apply(self, recommendation_id: str, by: str, key: str) -> Action:
        """See `Desk.apply`."""
        return self._acted(await self.desk.apply(recommendation_id, by, key))

    async def roll_back(self, action_id: str, by: str, key: str) -> Action:
        """See `Desk.roll_back`."""
        return self._acted(await self.desk.roll_back(action_id, by, key))

    async def run(self, tool: str, target: str, action: str, by: str, key: str) -> Action:
        """See `Desk.run`."""
        return self._acted(await self.desk.run(tool, target, action, by, key))

    async def set_knob(
        self, tool: str, target: str, knob: str, before: Value, after: Value, by: str, key: str
    ) -> Action:
        """See `Desk.set_knob`."""
        return self._acted(await self.desk.set_knob(tool, target, knob, before, after, by, key))

    async def pause(self, by: str, reason: str) -> Pause:
        """See `Desk.pause`."""
        return self._switched(await self.desk.pause(by, reason))

    async def resume(self, by: str, reason: str) -> Pause:
        """See `Desk.resume`."""
        return self._switched(await self.desk.resume(by, reason))

    def _recommended(self, recommendation: Recommendation) -> Recommendation:
        self.live.tell("recommendation", recommendation)
        return recommendation

    def _acted(self, action: Action) -> Action:
        self.live.tell("action", action)
        return action

    def _switched(self, pause: Pause) -> Pause:
        self.live.tell("pause", pause)
        return pause


class IncidentsDesk:
    """The port IncidentDesk over the incidents that are followed, in the work thread."""

    def __init__(self, around: Surroundings, judging: Judging) -> None:
        self.around = around
        self.judging = judging

    async def acknowledge(self, incident_id: str, by: str, note: str = "") -> Incident:
        """Somebody looks after it."""
        return await self._said(incident_id, lambda: self.judging.said.acknowledge(incident_id, by, note))

    async def resolve(self, incident_id: str, by: str, note: str = "") -> Incident:
        """It is over, or is no trouble."""
        return await self._said(incident_id, lambda: self.judging.said.resolve(incident_id, by, note))

    async def reopen(self, incident_id: str, by: str, note: str = "") -> Incident:
        """It is not over."""
        return await self._said(incident_id, lambda: self.judging.said.reopen(incident_id, by, note))

    async def merge(self, incident_id: str, into: str, by: str) -> Incident:
        """The anomalies of `incident_id` belong to `into`; gives that one back."""
        await self.around.off_loop(self.judging.follow, into)
        return await self._said(incident_id, lambda: self.judging.said.merge(into, [incident_id], by))

    async def split(self, incident_id: str, anomaly_ids: Sequence[str], by: str) -> Incident:
        """These anomalies (some of its, not all) are another incident; gives the new one back."""
        return await self._said(incident_id, lambda: self.judging.said.split(incident_id, anomaly_ids, by))

    async def _said(self, incident_id: str, say: Callable[[], list[Incident]]) -> Incident:
        """The last of the incidents that it changed."""

        def told() -> tuple[list[Incident], list[Notice]]:
            self.judging.follow(incident_id)
            changed = say()
            return changed, self.judging.say(changed)

        changed, notices = await self.around.off_loop(told)
        for incident in changed:
            self.around.live.tell("incident", incident)
        if notices and self.around.notifications is not None:
            await self.around.notifications.take(notices)
        return changed[-1]
