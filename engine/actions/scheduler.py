"""What happens by itself: expire, start what may start, watch what runs, take back what does harm."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from trimtab.engine.actions.decision_contracts import ALLOW, GuardedBy, Tell
from trimtab.engine.actions.journal import ENGINE, locked
from trimtab.engine.actions.launcher import Starter
from trimtab.engine.actions.undo import Undoing
from trimtab.engine.actions.verification import Judgement, Verdict, Watch, Watched, judge, measured
from trimtab.engine.errors import (
    ConflictError,
    EngineError,
    LockedError,
    NotFoundError,
    RefusedError,
    StoreError,
    ToolError,
)
from trimtab.engine.ports import ScoreLog
from trimtab.engine.types import Action, ActionState, Mode, Recommendation, RecommendationState

log = structlog.get_logger(__name__)

_S = 1_000_000_000
_MANY = 1000


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds; of an action they are multiplied by its `time_scale`.

    plan     : so long an action that is written down may wait until it is sent
    undo     : the same of one that takes another back
    by_hand  : so long somebody waits for what they asked for
    approval : so long an approval, or a scheduled time, holds
    watch    : how long a change is watched once its knob has warmed up, in `checks` checks
    lag      : so late samples come
    recover  : so long a tool that does not answer is asked what became of an interrupted action
    """

    plan_s: float = 300.0
    undo_s: float = 3600.0
    by_hand_s: float = 60.0
    approval_s: float = 900.0
    watch_s: float = 600.0
    checks: int = 10
    bad_checks: int = 3
    lag_s: float = 15.0
    recover_s: float = 300.0
    warm_up_s: float = 60.0


class Conductor:
    """Asked to `step` every second; what takes longer goes on beside it.

    scores  : where samples are read for the watch
    guarded : the series that are watched beside an action's own figure
    tell    : tells people what needs them
    """

    def __init__(
        self,
        starter: Starter,
        undoing: Undoing,
        scores: ScoreLog,
        guarded: GuardedBy,
        tell: Tell,
        times: Times | None = None,
    ) -> None:
        self.starter = starter
        self.undoing = undoing
        self.scores = scores
        self.guarded = guarded
        self.tell = tell
        self.times = times or Times()
        self.journal = starter.journal
        self.ledger = starter.journal.ledger
        self.judgements: dict[str, Judgement] = {}
        """Of each action that is being watched, by id: for people to see."""
        self.waiting: dict[str, str] = {}
        """Why a recommendation that could start by itself does not, by id."""
        self._going: dict[str, asyncio.Task[None]] = {}
        self._told: set[tuple[str, str]] = set()
        self._lost: LockedError | None = None

    async def step(self, now: int) -> None:
        """Look at everything once. Raises LockedError once another engine has taken over.

        Where the store or a tool fails, what is affected is left for the next step.
        """
        if self._lost is not None:
            raise self._lost
        try:
            await self._step(now)
        except LockedError:
            raise
        except StoreError as error:
            log.warning("the ledger cannot be read", why=str(error))

    async def start(self) -> None:
        """Begin: an audit row, which also brings the end of the audit in the data folder up to date."""
        await asyncio.to_thread(self.ledger.append_audit, "started", "engine", ENGINE)

    async def _step(self, now: int) -> None:
        paused = (await asyncio.to_thread(self.ledger.pause)).on
        unfinished = await asyncio.to_thread(self.ledger.actions, unfinished=True, limit=_MANY)
        self._forget({action.id for action in unfinished})
        for action in reversed(unfinished):
            if action.id not in self._going and not self.starter.busy(action.id):
                await self._safely(action.id, self._go_on(action, now, paused))
        still_open = {action.id for action in unfinished}
        for state in (RecommendationState.APPLIED, *_STARTING):
            found = await asyncio.to_thread(self.ledger.recommendations, state=state, limit=_MANY)
            still_open.update(recommendation.id for recommendation in found)
            for recommendation in reversed(found):
                await self._safely(recommendation.id, self._decide(recommendation, now, paused))
        for name in self.waiting.keys() - still_open:
            del self.waiting[name]

    async def settled(self) -> None:
        """Until nothing is being sent or read back."""
        while self._going:
            await asyncio.gather(*self._going.values())

    async def close(self) -> None:
        """Stop; what is under way is found out at the next start."""
        for task in self._going.values():
            task.cancel()
        await asyncio.gather(*self._going.values(), return_exceptions=True)

    async def _go_on(self, action: Action, now: int, paused: bool) -> None:
        scale = action.time_scale
        if action.state is ActionState.EXECUTING:
            give_up = now - (action.started or 0) > self.times.recover_s * scale * _S
            self._beside(action.id, self._recover(action, give_up))
        elif action.state is ActionState.PROPOSED:
            if now - action.created > self._life_s(action) * scale * _S:
                ended = await self.journal.end(action, ActionState.FAILED, self._too_late(action))
                await self._undone(ended)
            elif not paused and not _asked_for(action):
                self._beside(action.id, self._send(action))
        elif action.undoes is not None:
            await self.undoing.go_on(action)
        else:
            await self._watch(action, now, paused)

    def _life_s(self, action: Action) -> float:
        if action.undoes is not None:
            return self.times.undo_s
        return self.times.by_hand_s if _asked_for(action) else self.times.plan_s

    def _too_late(self, action: Action) -> str:
        why = self.waiting.pop(action.id, "")
        old = "whoever asked for it waits no longer" if _asked_for(action) else "its plan is too old"
        return f"not sent: {old}{': ' if why else ''}{why}"

    async def _send(self, action: Action) -> None:
        try:
            action, decision = await self.starter.send(action)
            why = "" if decision is None or decision.verdict == ALLOW else decision.reason
        except (NotFoundError, RefusedError, ToolError) as error:
            why = str(error)
        if why:
            self._wait(action.id, why)
            if action.undoes is not None:
                action = await self._held_up(action, why)
        await self._undone(action)

    async def _held_up(self, undo: Action, reason: str) -> Action:
        """What the guard does not let through: over where the value is no longer ours, else tried again."""
        stale = await self.starter.executor.stale(undo)
        if stale is not None:
            return await self.journal.end(undo, ActionState.FAILED, f"not sent: {stale}")
        self._tell_once(undo, f"not yet taken back: {reason}")
        return undo

    async def _recover(self, action: Action, give_up: bool) -> None:
        action = await self.starter.executor.recover(action, give_up)
        if action.state is ActionState.UNKNOWN and action.outcome is not None:
            self._tell_once(action, action.outcome.words)
        await self._undone(action)

    async def _undone(self, action: Action) -> None:
        """What it means for the action that this one takes back."""
        if action.undoes is None:
            return
        undo = await self.undoing.go_on(action)
        if undo.state in {ActionState.FAILED, ActionState.UNKNOWN} and undo.outcome is not None:
            self._tell_once(undo, f"not taken back: {undo.outcome.words}")

    async def _watch(self, action: Action, now: int, paused: bool) -> None:
        undoings = await self.undoing.of(action)
        tried = [undo for undo in undoings if undo.state is not ActionState.REFUSED]
        if tried:
            if tried[0].state.is_final:
                await self._undone(tried[0])
            return
        watch, recommendation = await self._plan(action), await self._recommended(action)
        watched = await asyncio.to_thread(self._watched, action, recommendation, watch, now)
        said = judge(watched, watch, now)
        self.judgements[action.id] = said
        if said.verdict is Verdict.KEEP:
            effect = recommendation.effect if recommendation is not None else None
            shown = bool(effect is not None and effect.series_id)
            figure = measured(watched[0], effect, watch, now) if shown and effect is not None else None
            await self.journal.end(action, ActionState.KEPT, said.words, figure)
        elif said.verdict is Verdict.GIVE_UP:
            await self.journal.end(action, ActionState.INCONCLUSIVE, said.words)
            self._tell_once(action, said.words)
        elif said.verdict is Verdict.HOLD:
            self._tell_once(action, said.words)
        elif said.verdict is Verdict.ROLL_BACK:
            await self._roll_back(action, said.words, paused, f"undo:{action.id}/{len(undoings)}")

    async def _roll_back(self, action: Action, why: str, paused: bool, key: str) -> None:
        if action.is_action:
            await self.journal.end(action, ActionState.INCONCLUSIVE, f"{why}; it cannot be taken back")
            self._tell_once(action, f"{why}; it cannot be taken back")
        elif paused:
            self._tell_once(action, f"{why}; it is not taken back while everything is paused")
        else:
            self._tell_once(action, f"taking it back: {why}")
            undo = await self.journal.propose(self.undoing.made(action, ENGINE, key, why))
            self._beside(undo.id, self._send(undo))

    async def _plan(self, action: Action) -> Watch:
        warm_up_s, scale = self.times.warm_up_s, action.time_scale
        if not action.is_action:
            try:
                known = await self.starter.toolbox.tool(action.tool).knobs(action.target)
                warm_up_s = next((knob.warm_up_s for knob in known if knob.name == action.subject), warm_up_s)
            except EngineError as error:
                log.info("the usual warm-up is taken", action=action.id, why=str(error))
        changed = action.started or action.created
        return Watch(
            changed, changed + round(warm_up_s * scale * _S), round(self.times.watch_s * scale * _S),
            self.times.checks, self.times.bad_checks, round(self.times.lag_s * scale * _S),
        )  # fmt: skip

    async def _recommended(self, action: Action) -> Recommendation | None:
        if action.recommendation_id is None:
            return None
        return await asyncio.to_thread(self.ledger.recommendation, action.recommendation_id)

    def _watched(
        self, action: Action, recommendation: Recommendation | None, watch: Watch, now: int
    ) -> list[Watched]:
        """Its own figure first."""
        effect = recommendation.effect if recommendation is not None else None
        wanted = [(one.series_id, one.name, one.more_is_better) for one in self.guarded(action)]
        if effect is not None and effect.series_id:
            own = (effect.series_id, effect.figure, effect.more_is_better)
            wanted = [own, *(one for one in wanted if one[0] != effect.series_id)]
        since = watch.changed - watch.length
        return [
            Watched(name, self.scores.read(series_id, since, now), more_is_better)
            for series_id, name, more_is_better in wanted
        ]

    async def _decide(self, found: Recommendation, now: int, paused: bool) -> None:
        """Close, expire, or start a recommendation."""
        if found.state is RecommendationState.APPLIED:
            await self._close(found)
            return
        over = _over(found, self.times.approval_s)
        if over <= now:
            reason = self.waiting.pop(found.id, "") or found.reason or "nobody decided in time"
            expired = replace(found, state=RecommendationState.EXPIRED, reason=reason)
            await asyncio.to_thread(self.ledger.save_recommendation, expired, "expired", ENGINE, found.state)
        elif not paused and _due(found, now):
            await self._start(found)

    async def _start(self, found: Recommendation) -> None:
        by = found.approver or ENGINE
        decision = await self.starter.decide(found, bool(found.approver))
        why = decision.reason if decision.verdict != ALLOW else None
        if why is None and by == ENGINE:
            there = await asyncio.to_thread(self.ledger.actions, tool=found.tool, target=found.target)
            why = locked(there)
        if why is not None:
            self._wait(found.id, why)
            return
        self.waiting.pop(found.id, None)
        action = await self.journal.propose(self.starter.action_of(found, by))
        self._beside(action.id, self._send(action))

    async def _close(self, found: Recommendation) -> None:
        actions = await asyncio.to_thread(self.ledger.actions, recommendation_id=found.id)
        action = next((one for one in actions if one.undoes is None), None)
        if action is None or not action.state.is_final:
            return
        words = action.outcome.words if action.outcome is not None else str(action.state)
        closed = replace(found, state=RecommendationState.CLOSED, reason=words)
        await asyncio.to_thread(self.ledger.save_recommendation, closed, "closed", ENGINE, found.state)

    def _beside(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Go on with one thing while the others are looked at; one task a thing."""
        if name in self._going:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(self._safely(name, work))
        self._going[name] = task
        task.add_done_callback(lambda _: self._going.pop(name, None))

    async def _safely(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """One thing that fails holds nothing else up."""
        try:
            await work
        except LockedError as error:
            self._lost = error
            log.error("another engine took over", why=str(error))
        except ConflictError as error:
            log.info("somebody was quicker", subject=name, why=str(error))
        except EngineError as error:
            log.warning("left for the next time", subject=name, why=str(error))
        except Exception:
            log.exception("left for the next time", subject=name)

    def _wait(self, name: str, why: str) -> None:
        if _bare(self.waiting.get(name, "")) != _bare(why):
            log.info("waits", subject=name, why=why)
        self.waiting[name] = why

    def _tell_once(self, action: Action, words: str) -> None:
        if (action.id, words) not in self._told:
            self._told.add((action.id, words))
            self.tell(action, words)

    def _forget(self, unfinished: set[str]) -> None:
        self.judgements = {name: said for name, said in self.judgements.items() if name in unfinished}
        self._told = {(name, words) for name, words in self._told if name in unfinished}


_STARTING = (RecommendationState.SCHEDULED, RecommendationState.APPROVED, RecommendationState.PENDING)


def _asked_for(action: Action) -> bool:
    """Whether a person asked for just this and waits: what a crash left of that nobody sends later."""
    return action.by != ENGINE and action.recommendation_id is None and action.undoes is None


def _bare(why: str) -> str:
    """Without its figures, which change by the second."""
    return "".join(letter for letter in why if not letter.isdigit())


def _over(found: Recommendation, approval_s: float) -> int:
    """When nobody may start it any more, int64 ns."""
    if found.state is RecommendationState.PENDING:
        return found.expires
    since = found.scheduled if found.state is RecommendationState.SCHEDULED else found.approved
    return (since or found.created) + round(approval_s * _S)


def _due(found: Recommendation, now: int) -> bool:
    """Whether it may start without anybody saying more."""
    if found.state is RecommendationState.PENDING:
        return found.mode is Mode.AUTO
    return found.state is RecommendationState.APPROVED or (found.scheduled or 0) <= now
