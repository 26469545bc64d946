"""Notices for the inbox that no incident asks for: knobs that somebody reverted, and what is set badly."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from trimtab.engine.actions import drift
from trimtab.engine.actions.guard.observation import mode_in
from trimtab.engine.actions.journal import ENGINE
from trimtab.engine.errors import ConflictError, EngineError
from trimtab.engine.ports import ToolView
from trimtab.engine.recommendations.finding_recommendations import LOOK, notice_of, refreshed, unwanted
from trimtab.engine.recommendations.misconfigurations import all_findings
from trimtab.engine.recommendations.one_off_check import RULES, Looks
from trimtab.engine.recommendations.recommendation_service import Advising, Read
from trimtab.engine.recommendations.recommender import STANDING
from trimtab.engine.recommendations.target_facts import Facts
from trimtab.engine.types import KnobReading, Recommendation, RecommendationState, Value, new_ulid

log = structlog.get_logger(__name__)

EVERY_S = 3600.0
"""Between two looks at one target; the first is made as soon as it answers."""


class Noticing:
    """Asked to `look` every few seconds. Writes recommendations, changes nothing else."""

    def __init__(self, advising: Advising) -> None:
        self.advising = advising
        self.ledger, self.toolbox, self.clock = advising.ledger, advising.toolbox, advising.clock
        self._looked: dict[tuple[str, str], tuple[int, Mapping[str, float]]] = {}
        """When a target was looked at, int64 ns, and its figures then."""
        self._drifted: dict[drift.Place, tuple[str, object]] = {}
        """Of the look before: the action that set a knob, and the value that was there instead."""

    async def look(self) -> list[Recommendation]:
        """What is new or has changed. Raises StoreError."""
        now = self.clock.now()
        read = await self.advising.read(now)
        before = read.said
        made = [*await self._reverted(now, read), *await self._misfits(now, before)]
        return await self.advising.keep(now, made, before)

    async def _reverted(self, now: int, read: Read) -> list[Recommendation]:
        """Knobs that read otherwise than they were set, at this look and the one before."""
        before, actions = read.said, read.actions
        held = drift.held(actions)
        readings = await self._readings(held)
        apart = drift.drifted(held, readings)
        doubtful = apart.keys() | (held.keys() - readings.keys()) | drift.under_way(actions)
        still = {drift.fingerprint_of(place) for place in doubtful}
        await self._over(before, drift.DRIFT, still, "the knob is as it was set, or was set anew")
        was = self._drifted
        self._drifted = {place: (action.id, readings[place].value) for place, action in apart.items()}
        modes = {view.name: view for view in await self.toolbox.views()} if apart else {}
        made = []
        for place, action in apart.items():
            if was.get(place) != self._drifted[place] or place[0] not in modes:
                continue
            fresh = drift.notice(
                now, new_ulid(now), action, readings[place], mode_in(modes[place[0]], place[1], place[2]),
                self._command(place, action.after),
            )  # fmt: skip
            if drift.wanted(fresh, action, before):
                made.append(refreshed(fresh, before))
        return made

    async def _readings(self, held: Mapping[drift.Place, object]) -> dict[drift.Place, KnobReading]:
        """Of the knobs that can be read now."""
        found = {}
        for tool, target, knob in held:
            try:
                found[tool, target, knob] = await self.toolbox.tool(tool).read(target, knob)
            except EngineError as error:
                log.debug("a knob is not read", tool=tool, target=target, knob=knob, why=str(error))
        return found

    async def _misfits(self, now: int, before: Sequence[Recommendation]) -> list[Recommendation]:
        """What a look at each target shows, at the first time that it answers and every hour."""

        def due(view: ToolView, target: str) -> bool:
            last = self._looked.get((view.name, target))
            return last is None or now - last[0] >= EVERY_S * 1e9

        made = []
        for facts in await self.advising.facts_of(RULES.keys(), due):
            place = (facts.tool, facts.target)
            fresh = self._seen(now, facts, before)
            self._looked[place] = (now, facts.metrics)
            others = [one for one in before if (one.tool, one.target) == place]
            still = {one.fingerprint for one in fresh}
            await self._over(others, LOOK, still, "the last look did not find it any more")
            made += fresh
        return made

    def _seen(self, now: int, facts: Facts, before: Sequence[Recommendation]) -> list[Recommendation]:
        """What is to be said of one target."""
        then, earlier = self._looked.get((facts.tool, facts.target), (now, {}))
        looks = Looks(facts, earlier, max((now - then) / 1e9, 1.0))
        notices: dict[str, Recommendation] = {}
        for finding in all_findings(looks):
            fresh = notice_of(now, new_ulid(now), finding, facts, self.advising.command)
            if fresh is not None and not unwanted(now, fresh, before):
                notices.setdefault(fresh.fingerprint, refreshed(fresh, before))
        return list(notices.values())

    async def _over(self, before: Sequence[Recommendation], end: str, still: set[str], why: str) -> None:
        """Expire those that stand, whose fingerprint ends so and is not among `still`."""
        for old in before:
            if old.state not in STANDING or not old.fingerprint.endswith(end) or old.fingerprint in still:
                continue
            expired = replace(old, state=RecommendationState.EXPIRED, reason=why)
            try:
                await asyncio.to_thread(
                    self.ledger.save_recommendation, expired, "expired", ENGINE, old.state
                )
            except ConflictError as error:
                log.info("somebody was quicker", recommendation=old.id, why=str(error))

    def _command(self, place: drift.Place, after: Value) -> str:
        try:
            return self.toolbox.tool(place[0]).command(place[1], place[2], after)
        except EngineError:
            return ""
