"""Inbox notices without an incident: drifted knobs and misconfigurations."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from trimtab.engine.actions import drift
from trimtab.engine.actions.decision_contracts import OPEN_STATES
from trimtab.engine.actions.guard.observation import mode_in
from trimtab.engine.actions.journal import ENGINE
from trimtab.engine.errors import ConflictError, EngineError
from trimtab.engine.ports import ToolView
from trimtab.engine.recommendations.finding_recommendations import (
    CHECK_SUFFIX,
    is_unwanted,
    recommendation_for,
    refresh,
)
from trimtab.engine.recommendations.misconfigurations import all_findings
from trimtab.engine.recommendations.one_off_check import RULES, TargetReadings
from trimtab.engine.recommendations.recommendation_service import LedgerContents, RecommendationService
from trimtab.engine.recommendations.target_facts import TargetFacts
from trimtab.engine.types import KnobReading, Recommendation, RecommendationState, Value, new_ulid

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S = 3600.0
"""Seconds between checks of one target; the first check follows its first answer."""


class InboxNotices:
    """Recommends fixes of drifted knobs and misconfigurations; `update` is called every few seconds."""

    def __init__(self, recommendations: RecommendationService) -> None:
        self.recommendations = recommendations
        self.ledger, self.toolbox, self.clock = (
            recommendations.ledger,
            recommendations.toolbox,
            recommendations.clock,
        )
        self._checked: dict[tuple[str, str], tuple[int, Mapping[str, float]]] = {}
        """(tool, target) -> time of the newest check, int64 ns UTC, and the metrics then."""
        self._drifted: dict[drift.KnobKey, tuple[str, object]] = {}
        """Knob -> action id and drifted value at the previous update."""

    async def update(self) -> list[Recommendation]:
        """Update all notices; return the new and changed ones. Raises StoreError."""
        now = self.clock.now()
        read = await self.recommendations.ledger_contents(now)
        before = read.recommendations
        made = [*await self._drift_notices(now, read), *await self._check_targets(now, before)]
        return await self.recommendations.save(now, made, before)

    async def _drift_notices(self, now: int, read: LedgerContents) -> list[Recommendation]:
        """Return notices of knobs that have the same drifted value at this and the previous update."""
        before, actions = read.recommendations, read.actions
        held = drift.knobs_in_effect(actions)
        readings = await self._readings(held)
        apart = drift.drifted_knobs(held, readings)
        doubtful = apart.keys() | (held.keys() - readings.keys()) | drift.knobs_being_changed(actions)
        still = {drift.fingerprint_of(place) for place in doubtful}
        await self._expire(
            before, drift.DRIFT_SUFFIX, still, "the knob has the set value again, or was set again"
        )
        was = self._drifted
        self._drifted = {place: (action.id, readings[place].value) for place, action in apart.items()}
        modes = {view.name: view for view in await self.toolbox.views()} if apart else {}
        made = []
        for place, action in apart.items():
            if was.get(place) != self._drifted[place] or place[0] not in modes:
                continue
            fresh = drift.drift_recommendation(
                now, new_ulid(now), action, readings[place], mode_in(modes[place[0]], place[1], place[2]),
                self._command(place, action.after),
            )  # fmt: skip
            if drift.is_wanted(fresh, action, before):
                made.append(refresh(fresh, before))
        return made

    async def _readings(self, held: Mapping[drift.KnobKey, object]) -> dict[drift.KnobKey, KnobReading]:
        """Return the readings of the knobs that can be read."""
        found = {}
        for tool, target, knob in held:
            try:
                found[tool, target, knob] = await self.toolbox.tool(tool).read(target, knob)
            except EngineError as error:
                log.debug("knob_unreadable", tool=tool, target=target, knob=knob, error=str(error))
        return found

    async def _check_targets(self, now: int, before: Sequence[Recommendation]) -> list[Recommendation]:
        """Return notices of all targets due for their hourly check."""

        def due(view: ToolView, target: str) -> bool:
            last = self._checked.get((view.name, target))
            return last is None or now - last[0] >= CHECK_INTERVAL_S * 1e9

        made = []
        for facts in await self.recommendations.target_facts(RULES.keys(), due):
            place = (facts.tool, facts.target)
            fresh = self._check_target(now, facts, before)
            self._checked[place] = (now, facts.metrics)
            others = [one for one in before if (one.tool, one.target) == place]
            still = {one.fingerprint for one in fresh}
            await self._expire(others, CHECK_SUFFIX, still, "the newest check did not find it any more")
            made += fresh
        return made

    def _check_target(
        self, now: int, facts: TargetFacts, before: Sequence[Recommendation]
    ) -> list[Recommendation]:
        """Return the notices of one target."""
        then, earlier = self._checked.get((facts.tool, facts.target), (now, {}))
        looks = TargetReadings(facts, earlier, max((now - then) / 1e9, 1.0))
        notices: dict[str, Recommendation] = {}
        for finding in all_findings(looks):
            fresh = recommendation_for(now, new_ulid(now), finding, facts, self.recommendations.command)
            if fresh is not None and not is_unwanted(now, fresh, before):
                notices.setdefault(fresh.fingerprint, refresh(fresh, before))
        return list(notices.values())

    async def _expire(self, before: Sequence[Recommendation], end: str, still: set[str], why: str) -> None:
        """Expire open recommendations with this fingerprint suffix that are not in `still`."""
        for old in before:
            if old.state not in OPEN_STATES or not old.fingerprint.endswith(end) or old.fingerprint in still:
                continue
            expired = replace(old, state=RecommendationState.EXPIRED, reason=why)
            try:
                await asyncio.to_thread(
                    self.ledger.save_recommendation, expired, "expired", ENGINE, old.state
                )
            except ConflictError as error:
                log.info("recommendation_changed_concurrently", recommendation=old.id, error=str(error))

    def _command(self, place: drift.KnobKey, after: Value) -> str:
        try:
            return self.toolbox.tool(place[0]).command(place[1], place[2], after)
        except EngineError:
            return ""
