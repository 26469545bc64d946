"""Every few seconds: patterns of open incidents, and what the tools say now -> recommendations."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from trimtab.engine.actions.guard.observation import Seeing, mode_in
from trimtab.engine.actions.guard.situation_builder import Memory as GuardMemory
from trimtab.engine.actions.journal import ENGINE
from trimtab.engine.errors import ConflictError, EngineError, NotFoundError, ToolError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.ports import Clock, Incidents, KeyValueStore, Ledger, Toolbox, ToolView
from trimtab.engine.recommendations.recommender import DAY, STANDING, Advice, Recommender
from trimtab.engine.recommendations.remedies import Draft
from trimtab.engine.recommendations.scaling_advice import draft_of
from trimtab.engine.recommendations.target_facts import Facts
from trimtab.engine.sources.managed_tools import HIT_RATIOS, metric_series_key
from trimtab.engine.types import (
    Action,
    ActionState,
    Capacity,
    Incident,
    Recommendation,
    RecommendationState,
    ToolState,
    new_ulid,
)

log = structlog.get_logger(__name__)

STATE = "acting/guard"
"""Under which what the guard remembers is kept."""
MOST = 200
REMEMBERED_NS = 30 * 86_400 * 10**9
"""So long a knob is held to be as it was set."""
_ANSWERING = (ToolState.UP, ToolState.EXPORT_ONLY)


@dataclass(frozen=True, slots=True)
class Read:
    """What the ledger says.

    said    : what stands and what was dismissed, however much has expired since
    actions : of the last 30 days, newest first
    """

    said: Sequence[Recommendation]
    actions: Sequence[Action]


class Advising:
    """Makes recommendations and keeps them, and tells the guard what it came to.

    monotonic : nanoseconds that no clock change touches
    """

    def __init__(
        self,
        incidents: Incidents,
        ledger: Ledger,
        toolbox: Toolbox,
        guard: GuardMemory,
        seeing: Seeing,
        memory: KeyValueStore,
        live: LiveState,
        clock: Clock,
        monotonic: Callable[[], int],
    ) -> None:
        self.incidents = incidents
        self.ledger = ledger
        self.toolbox = toolbox
        self.guard = guard
        self.seeing = seeing
        self.memory = memory
        self.live = live
        self.clock = clock
        self.monotonic = monotonic
        self.recommender = Recommender(new_ulid, self.command)
        self.withheld: dict[str, str] = {}
        """Fingerprint -> why it is not recommended now, as of the newest look."""
        self.off: tuple[Recommendation, ...] = ()
        """What would be recommended, were its mode not off, as of the newest look."""
        self.capacity: Mapping[str, Capacity] = {}
        """What is scaled with its load, as it was evaluated last."""
        self._read: Read | None = None
        self.scaled: dict[str, tuple[str, ...]] = {}
        """Tool, target and knob joined by "/" -> series that its size follows; for those who guard it."""

    async def resume(self) -> None:
        """Go on with what the guard remembered; what cannot be read begins anew. Raises StoreError."""
        state = await asyncio.to_thread(self.memory.get, STATE)
        if state is None:
            return
        try:
            self.guard.restore(state)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("what the guard remembered cannot be read, it begins anew", error=repr(error))

    async def look(self) -> list[Recommendation]:
        """One evaluation; what is new or changed. Raises StoreError."""
        now = self.clock.now()
        open_ones = await asyncio.to_thread(self.incidents.incidents, open_only=True, limit=MOST)
        wanting = [one for one in open_ones if any(match.until is None for match in one.patterns)]
        facts = await self._facts(wanting) if wanting else []
        read = await asyncio.to_thread(self._anew, now)
        before, actions = read.said, [one for one in read.actions if one.created >= now - DAY]
        scaling = await self._scaling()
        advice = self.recommender.advise(now, wanting, facts, before, actions, scaling)
        self.withheld, self.off = dict(advice.withheld), advice.off
        self.seeing.generations = {one.fingerprint: one.generation for one in advice.made}
        self.guard.tick(self.monotonic())
        going = await asyncio.to_thread(self._about_to_go, advice, actions)
        self.guard.evaluated([*advice.made, *advice.off, *going])
        await asyncio.to_thread(self.memory.set, STATE, self.guard.state())
        kept = await self.keep(now, advice.made, before)
        changed = {one.id: one for one in kept}
        stands = [changed.pop(one.id, one) for one in before]
        self._read = Read([*stands, *changed.values()], read.actions)
        return kept

    async def read(self, now: int) -> Read:
        """As the look of this turn read and left it, once; else read anew. Raises StoreError."""
        read, self._read = self._read, None
        return await asyncio.to_thread(self._anew, now) if read is None else read

    def _anew(self, now: int) -> Read:
        said = [
            one for state in (*STANDING, RecommendationState.DISMISSED)
            for one in self.ledger.recommendations(state=state, limit=MOST)
        ]  # fmt: skip
        return Read(said, self.ledger.actions(since=now - REMEMBERED_NS, limit=MOST))

    def _about_to_go(self, advice: Advice, actions: Sequence[Action]) -> list[Recommendation]:
        """Those that would be made again, were they not written down as actions that are not sent yet."""
        withheld = {fingerprint for fingerprint, _ in advice.withheld}
        waiting = [one.recommendation_id for one in actions if one.state is ActionState.PROPOSED]
        found = [self.ledger.recommendation(one) for one in waiting if one is not None]
        return [one for one in found if one.fingerprint in withheld]

    async def keep(
        self, now: int, made: Sequence[Recommendation], before: Sequence[Recommendation]
    ) -> list[Recommendation]:
        """Write down what is new, another plan, or would soon expire."""
        known = {one.id: one for one in before}
        kept = []
        for one in made:
            old = known.get(one.id)
            word = _word(old, one, now)
            if not word:
                continue
            try:
                await asyncio.to_thread(
                    self.ledger.save_recommendation, one, word, ENGINE, None if old is None else old.state
                )
            except ConflictError:  # a person was quicker, and their word counts
                continue
            kept.append(one)
        return kept

    async def _facts(self, wanting: Sequence[Incident]) -> list[Facts]:
        """Of every target of a kind that a pattern asks for."""
        kinds = {name.partition(".")[0] for i in wanting for match in i.patterns for name in match.remedies}
        return await self.facts_of(kinds)

    async def facts_of(
        self, kinds: Collection[str], wanted: Callable[[ToolView, str], bool] = lambda *_: True
    ) -> list[Facts]:
        """Of every target of these kinds of tools that is wanted and answers."""
        views = [view for view in await self.toolbox.views() if view.enabled and view.kind in kinds]
        asked = [(view, target) for view in views for target in view.targets if wanted(view, target)]
        found = await asyncio.gather(*(self._fact(*one) for one in asked), return_exceptions=True)
        for problem in found:
            if isinstance(problem, BaseException) and not isinstance(problem, EngineError):
                raise problem
        return [one for one in found if isinstance(one, Facts)]

    async def _scaling(self) -> list[Draft]:
        """What the size of something has to become for its load; a tool that does not answer waits."""
        found = []
        for one in [one for one in self.capacity.values() if one.tool and one.wanted is not None]:
            try:
                view = await self.toolbox.view(one.tool)
                made = draft_of(one, await self._fact(view, one.target)) if view.enabled else None
            except EngineError as error:
                log.info("a capacity cannot be changed now", capacity=one.name, why=str(error))
                continue
            if made is not None:
                found.append(made)
        places = {f"{one.tool}/{one.target}/{one.knob}": one.series_ids for one in self.capacity.values()}
        self.scaled.update(places)  # never empty meanwhile: those who guard read it in their threads
        for gone in self.scaled.keys() - places.keys():
            del self.scaled[gone]
        return found

    async def _fact(self, view: ToolView, target: str) -> Facts:
        if view.status.state not in _ANSWERING:
            raise NotFoundError(f"{view.name} does not answer: {view.status.detail}")
        seen = await self.toolbox.target(view.name, target)
        if seen.problem:
            raise ToolError(f"{target} of {view.name} answers in part only: {seen.problem}")
        labels = {"tool": view.name, "target": target}
        series = {metric: metric_series_key(metric, labels).id for metric in (*seen.metrics, *HIT_RATIOS)}
        metrics = {**seen.metrics, **self._shares(series)}
        subjects = [*(knob.name for knob, _ in seen.knobs), *(action.name for action in seen.actions), "*"]
        return Facts(
            view.name, view.kind, target, metrics,
            {knob.name: (knob, reading) for knob, reading in seen.knobs},
            {action.name: action for action in seen.actions},
            {subject: mode_in(view, target, subject) for subject in subjects},
            series={
                name: series_id for name, series_id in series.items()
                if self.live.watched_series(series_id) is not None
            },
            writable=view.status.state is ToolState.UP,
        )  # fmt: skip

    def _shares(self, series: dict[str, str]) -> dict[str, float]:
        """Figures that only the series of the tools have, as the hit ratio of the last interval."""
        seen = {name: self.live.watched_series(series[name]) for name in HIT_RATIOS}
        return {name: v.value for name, v in seen.items() if v is not None and v.value is not None}

    def command(self, draft: Draft) -> str:
        """How a person would do it by hand; "" where its tool does not say."""
        try:
            tool = self.toolbox.tool(draft.facts.tool)
            return tool.command(draft.facts.target, draft.subject, draft.after)
        except EngineError:
            return ""


def _word(old: Recommendation | None, new: Recommendation, now: int) -> str:
    """What the audit says of it; "" = it stands as it is."""
    if old is None:
        return "proposed"
    if old.generation != new.generation or old.mode is not new.mode:
        return "revised"
    return "renewed" if old.expires - now < (new.expires - now) // 2 else ""
