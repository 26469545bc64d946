"""Recommendation service: turns patterns of open incidents and target facts into recommendations."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from trimtab.engine.actions.decision_contracts import OPEN_STATES
from trimtab.engine.actions.guard.observation import TargetObserver, mode_in
from trimtab.engine.actions.guard.situation_builder import SituationBuilder
from trimtab.engine.actions.journal import ENGINE
from trimtab.engine.errors import ConflictError, EngineError, NotFoundError, ToolError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.ports import Clock, Incidents, KeyValueStore, Ledger, Toolbox, ToolView
from trimtab.engine.recommendations.recommender import DAY_NS, Advice, Recommender
from trimtab.engine.recommendations.remedies import ChangeDraft
from trimtab.engine.recommendations.scaling_advice import draft_scaling
from trimtab.engine.recommendations.target_facts import TargetFacts
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

STATE_KEY = "acting/guard"
"""Key of the guard's state in the key-value store."""
LIMIT = 200
HISTORY_NS = 30 * 86_400 * 10**9
"""Age of actions up to which drift of their knobs is detected, ns."""
_ANSWERING = (ToolState.UP, ToolState.EXPORT_ONLY)


@dataclass(frozen=True, slots=True)
class LedgerContents:
    """Contents of the ledger.

    recommendations : open and dismissed recommendations
    actions         : actions of the last 30 days, newest first
    """

    recommendations: Sequence[Recommendation]
    actions: Sequence[Action]


class RecommendationService:
    """Creates and stores recommendations, and records each evaluation for the guard.

    situation_builder : receives the proposals of each evaluation; its state is kept in `state_store`
    observer          : receives the newest plan generations
    monotonic         : monotonic clock, ns
    """

    def __init__(
        self,
        incidents: Incidents,
        ledger: Ledger,
        toolbox: Toolbox,
        situation_builder: SituationBuilder,
        observer: TargetObserver,
        state_store: KeyValueStore,
        live: LiveState,
        clock: Clock,
        monotonic: Callable[[], int],
    ) -> None:
        self.incidents = incidents
        self.ledger = ledger
        self.toolbox = toolbox
        self.situation_builder = situation_builder
        self.observer = observer
        self.state_store = state_store
        self.live = live
        self.clock = clock
        self.monotonic = monotonic
        self.recommender = Recommender(new_ulid, self.command)
        self.withheld: dict[str, str] = {}
        """Fingerprint -> why it is not recommended, as of the newest update."""
        self.switched_off: tuple[Recommendation, ...] = ()
        """Recommendations withheld only because their mode is off, as of the newest update."""
        self.capacity: Mapping[str, Capacity] = {}
        """Newest capacity of each scaled service."""
        self._contents: LedgerContents | None = None
        self.load_series: dict[str, tuple[str, ...]] = {}
        """Path "tool/target/knob" of a scaled knob -> ids of the load series it follows; for the guard."""

    async def resume(self) -> None:
        """Restore the guard's state; a malformed state is discarded. Raises StoreError."""
        state = await asyncio.to_thread(self.state_store.get, STATE_KEY)
        if state is None:
            return
        try:
            self.situation_builder.restore(state)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("guard_state_discarded", error=repr(error))

    async def update(self) -> list[Recommendation]:
        """Run one evaluation; return the new and changed recommendations. Raises StoreError."""
        now = self.clock.now()
        open_ones = await asyncio.to_thread(self.incidents.incidents, open_only=True, limit=LIMIT)
        wanting = [one for one in open_ones if any(match.until is None for match in one.patterns)]
        facts = await self._facts(wanting) if wanting else []
        read = await asyncio.to_thread(self._read_ledger, now)
        before, actions = read.recommendations, [one for one in read.actions if one.created >= now - DAY_NS]
        scaling = await self._scaling_drafts()
        advice = self.recommender.advise(now, wanting, facts, before, actions, scaling)
        self.withheld, self.switched_off = dict(advice.withheld), advice.switched_off
        self.observer.generations = {one.fingerprint: one.generation for one in advice.recommendations}
        self.situation_builder.advance(self.monotonic())
        going = await asyncio.to_thread(self._proposed_for, advice, actions)
        self.situation_builder.record_evaluation([*advice.recommendations, *advice.switched_off, *going])
        await asyncio.to_thread(self.state_store.set, STATE_KEY, self.situation_builder.state())
        kept = await self.save(now, advice.recommendations, before)
        changed = {one.id: one for one in kept}
        unchanged = [changed.pop(one.id, one) for one in before]
        self._contents = LedgerContents([*unchanged, *changed.values()], read.actions)
        return kept

    async def ledger_contents(self, now: int) -> LedgerContents:
        """Return the ledger's contents, once from the newest update, else read anew. Raises StoreError."""
        read, self._contents = self._contents, None
        return await asyncio.to_thread(self._read_ledger, now) if read is None else read

    def _read_ledger(self, now: int) -> LedgerContents:
        recommendations = [
            one for state in (*OPEN_STATES, RecommendationState.DISMISSED)
            for one in self.ledger.recommendations(state=state, limit=LIMIT)
        ]  # fmt: skip
        return LedgerContents(recommendations, self.ledger.actions(since=now - HISTORY_NS, limit=LIMIT))

    def _proposed_for(self, advice: Advice, actions: Sequence[Action]) -> list[Recommendation]:
        """Return recommendations withheld because their action is proposed, but not sent yet."""
        withheld = {fingerprint for fingerprint, _ in advice.withheld}
        waiting = [one.recommendation_id for one in actions if one.state is ActionState.PROPOSED]
        found = [self.ledger.recommendation(one) for one in waiting if one is not None]
        return [one for one in found if one.fingerprint in withheld]

    async def save(
        self, now: int, made: Sequence[Recommendation], before: Sequence[Recommendation]
    ) -> list[Recommendation]:
        """Store recommendations that are new, changed, or close to expiry; return them."""
        known = {one.id: one for one in before}
        kept = []
        for one in made:
            old = known.get(one.id)
            word = _audit_word(old, one, now)
            if not word:
                continue
            try:
                await asyncio.to_thread(
                    self.ledger.save_recommendation, one, word, ENGINE, None if old is None else old.state
                )
            except ConflictError:  # an operator decided meanwhile; the decision stays
                continue
            kept.append(one)
        return kept

    async def _facts(self, wanting: Sequence[Incident]) -> list[TargetFacts]:
        """Return the facts of every target of a kind that a pattern names a remedy for."""
        kinds = {name.partition(".")[0] for i in wanting for match in i.patterns for name in match.remedies}
        return await self.target_facts(kinds)

    async def target_facts(
        self, kinds: Collection[str], wanted: Callable[[ToolView, str], bool] = lambda *_: True
    ) -> list[TargetFacts]:
        """Return the facts of all wanted targets of these tool kinds that answer."""
        views = [view for view in await self.toolbox.views() if view.enabled and view.kind in kinds]
        asked = [(view, target) for view in views for target in view.targets if wanted(view, target)]
        found = await asyncio.gather(*(self._facts_of_target(*one) for one in asked), return_exceptions=True)
        for problem in found:
            if isinstance(problem, BaseException) and not isinstance(problem, EngineError):
                raise problem
        return [one for one in found if isinstance(one, TargetFacts)]

    async def _scaling_drafts(self) -> list[ChangeDraft]:
        """Return the drafts of due scaling steps; tools that do not answer are skipped."""
        found = []
        for one in [one for one in self.capacity.values() if one.tool and one.wanted is not None]:
            try:
                view = await self.toolbox.view(one.tool)
                made = (
                    draft_scaling(one, await self._facts_of_target(view, one.target))
                    if view.enabled
                    else None
                )
            except EngineError as error:
                log.info("scaling_target_unavailable", capacity=one.name, error=str(error))
                continue
            if made is not None:
                found.append(made)
        places = {f"{one.tool}/{one.target}/{one.knob}": one.series_ids for one in self.capacity.values()}
        self.load_series.update(places)  # updated in place, never empty: other threads read it
        for gone in self.load_series.keys() - places.keys():
            del self.load_series[gone]
        return found

    async def _facts_of_target(self, view: ToolView, target: str) -> TargetFacts:
        if view.status.state not in _ANSWERING:
            raise NotFoundError(f"{view.name} does not answer: {view.status.detail}")
        target_view = await self.toolbox.target(view.name, target)
        if target_view.problem:
            raise ToolError(f"{target} of {view.name} answers only in part: {target_view.problem}")
        labels = {"tool": view.name, "target": target}
        series = {
            metric: metric_series_key(metric, labels).id for metric in (*target_view.metrics, *HIT_RATIOS)
        }
        metrics = {**target_view.metrics, **self._hit_ratios(series)}
        subjects = [
            *(knob.name for knob, _ in target_view.knobs),
            *(action.name for action in target_view.actions),
            "*",
        ]
        return TargetFacts(
            view.name, view.kind, target, metrics,
            {knob.name: (knob, reading) for knob, reading in target_view.knobs},
            {action.name: action for action in target_view.actions},
            {subject: mode_in(view, target, subject) for subject in subjects},
            series_ids={
                name: series_id for name, series_id in series.items()
                if self.live.watched_series(series_id) is not None
            },
            writable=view.status.state is ToolState.UP,
        )  # fmt: skip

    def _hit_ratios(self, series: dict[str, str]) -> dict[str, float]:
        """Return the hit ratios of the last interval, which only the tools' series provide."""
        views = {name: self.live.watched_series(series[name]) for name in HIT_RATIOS}
        return {name: v.value for name, v in views.items() if v is not None and v.value is not None}

    def command(self, draft: ChangeDraft) -> str:
        """Return the shell command for a manual change; "" if the tool has none."""
        try:
            tool = self.toolbox.tool(draft.facts.tool)
            return tool.command(draft.facts.target, draft.subject, draft.after)
        except EngineError:
            return ""


def _audit_word(old: Recommendation | None, new: Recommendation, now: int) -> str:
    """Return the audit word for storing it; "" = nothing to store."""
    if old is None:
        return "proposed"
    if old.generation != new.generation or old.mode is not new.mode:
        return "revised"
    return "renewed" if old.expires - now < (new.expires - now) // 2 else ""
