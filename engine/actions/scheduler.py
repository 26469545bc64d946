"""Action scheduler: starts due actions, verifies running ones, rolls back harm, expires old ones."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from trimtab.engine.actions.decision_contracts import ALLOW, NotifyOperators, SelectGuardrailMetrics
from trimtab.engine.actions.journal import ENGINE, lock_reason
from trimtab.engine.actions.launcher import ActionLauncher
from trimtab.engine.actions.undo import Undo
from trimtab.engine.actions.verification import (
    Verification,
    VerificationPlan,
    VerificationSeries,
    VerificationVerdict,
    measure_effect,
    verify,
)
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
_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class SchedulerTimes:
    """Durations in seconds, multiplied by an action's `time_scale`.

    plan_s     : maximum wait of a journaled action until it is sent
    undo_s     : the same for an undo
    by_hand_s  : the same for a manual action
    approval_s : validity of an approval or a scheduled time
    watch_s    : verification time after the knob's warm-up, in `checks` checks
    bad_checks : number of bad checks that triggers a rollback
    lag_s      : delay of samples
    recover_s  : time for which an unreachable tool is asked for the outcome of an interrupted action
    warm_up_s  : warm-up of actions and of knobs that cannot be read
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


class ActionScheduler:
    """Advances all actions and recommendations; `step` is called every second. Slow work runs in tasks.

    scores            : source of the samples for verification
    guarded_metrics : returns the series to verify in addition to an action's own metric
    notify            : notifies operators that an action needs attention
    """

    def __init__(
        self,
        launcher: ActionLauncher,
        undo: Undo,
        scores: ScoreLog,
        guarded_metrics: SelectGuardrailMetrics,
        notify: NotifyOperators,
        times: SchedulerTimes | None = None,
    ) -> None:
        self.launcher = launcher
        self.undo = undo
        self.scores = scores
        self.guarded_metrics = guarded_metrics
        self.notify = notify
        self.times = times or SchedulerTimes()
        self.journal = launcher.journal
        self.ledger = launcher.journal.ledger
        self.verifications: dict[str, Verification] = {}
        """Newest verification of each running action, by action id."""
        self.blocked_reasons: dict[str, str] = {}
        """Recommendation or action id -> why it does not start."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._notified: set[tuple[str, str]] = set()
        self._takeover_error: LockedError | None = None

    async def step(self, now: int) -> None:
        """Advance everything once. Raises LockedError once another engine has taken over.

        Work that fails because of the store or a tool is retried at the next step.
        """
        if self._takeover_error is not None:
            raise self._takeover_error
        try:
            await self._step(now)
        except LockedError:
            raise
        except StoreError as error:
            log.warning("ledger_unavailable", error=str(error))

    async def start(self) -> None:
        """Append the audit row `started`, which also updates the audit head in the data folder."""
        await asyncio.to_thread(self.ledger.append_audit, "started", "engine", ENGINE)

    async def _step(self, now: int) -> None:
        paused = (await asyncio.to_thread(self.ledger.pause)).on
        unfinished = await asyncio.to_thread(self.ledger.actions, unfinished=True, limit=_LIMIT)
        self._forget({action.id for action in unfinished})
        for action in reversed(unfinished):
            if action.id not in self._tasks and not self.launcher.is_busy(action.id):
                await self._run_safely(action.id, self._advance(action, now, paused))
        still_open = {action.id for action in unfinished}
        for state in (RecommendationState.APPLIED, *_CAN_START):
            found = await asyncio.to_thread(self.ledger.recommendations, state=state, limit=_LIMIT)
            still_open.update(recommendation.id for recommendation in found)
            for recommendation in reversed(found):
                await self._run_safely(
                    recommendation.id, self._advance_recommendation(recommendation, now, paused)
                )
        for name in self.blocked_reasons.keys() - still_open:
            del self.blocked_reasons[name]

    async def wait_until_idle(self) -> None:
        """Wait until no action is being sent or read back."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values())

    async def close(self) -> None:
        """Cancel the tasks; interrupted actions are recovered at the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _advance(self, action: Action, now: int, paused: bool) -> None:
        scale = action.time_scale
        if action.state is ActionState.EXECUTING:
            give_up = now - (action.started or 0) > self.times.recover_s * scale * _S
            self._run_in_background(action.id, self._recover(action, give_up))
        elif action.state is ActionState.PROPOSED:
            if now - action.created > self._max_wait_s(action) * scale * _S:
                ended = await self.journal.end(action, ActionState.FAILED, self._too_late_reason(action))
                await self._settle_undo(ended)
            elif not paused and not _is_manual(action):
                self._run_in_background(action.id, self._send(action))
        elif action.undoes is not None:
            await self.undo.finish(action)
        else:
            await self._verify(action, now, paused)

    def _max_wait_s(self, action: Action) -> float:
        if action.undoes is not None:
            return self.times.undo_s
        return self.times.by_hand_s if _is_manual(action) else self.times.plan_s

    def _too_late_reason(self, action: Action) -> str:
        why = self.blocked_reasons.pop(action.id, "")
        cause = "the request timed out" if _is_manual(action) else "its plan is too old"
        return f"not sent: {cause}{': ' if why else ''}{why}"

    async def _send(self, action: Action) -> None:
        try:
            action, decision = await self.launcher.send(action)
            why = "" if decision is None or decision.verdict == ALLOW else decision.reason
        except (NotFoundError, RefusedError, ToolError) as error:
            why = str(error)
        if why:
            self._set_blocked(action.id, why)
            if action.undoes is not None:
                action = await self._retry_or_fail_undo(action, why)
        await self._settle_undo(action)

    async def _retry_or_fail_undo(self, undo: Action, reason: str) -> Action:
        """End an undo whose knob was changed since as failed; otherwise leave it for the next step."""
        stale = await self.launcher.executor.stale_reason(undo)
        if stale is not None:
            return await self.journal.end(undo, ActionState.FAILED, f"not sent: {stale}")
        self._notify_once(undo, f"rollback is waiting: {reason}")
        return undo

    async def _recover(self, action: Action, give_up: bool) -> None:
        action = await self.launcher.executor.recover(action, give_up)
        if action.state is ActionState.UNKNOWN and action.outcome is not None:
            self._notify_once(action, action.outcome.words)
        await self._settle_undo(action)

    async def _settle_undo(self, action: Action) -> None:
        """Finish an undo and settle the action that it undoes."""
        if action.undoes is None:
            return
        undo = await self.undo.finish(action)
        if undo.state in {ActionState.FAILED, ActionState.UNKNOWN} and undo.outcome is not None:
            self._notify_once(undo, f"rollback failed: {undo.outcome.words}")

    async def _verify(self, action: Action, now: int, paused: bool) -> None:
        undoings = await self.undo.undos_of(action)
        tried = [undo for undo in undoings if undo.state is not ActionState.REFUSED]
        if tried:
            if tried[0].state.is_final:
                await self._settle_undo(tried[0])
            return
        plan, recommendation = await self._verification_plan(action), await self._recommendation(action)
        series = await asyncio.to_thread(self._verification_series, action, recommendation, plan, now)
        verification = verify(series, plan, now)
        self.verifications[action.id] = verification
        if verification.verdict is VerificationVerdict.KEEP:
            effect = recommendation.effect if recommendation is not None else None
            has_series = effect is not None and bool(effect.series_id)
            measured = measure_effect(series[0], effect, plan, now) if effect and has_series else None
            await self.journal.end(action, ActionState.KEPT, verification.reason, measured)
        elif verification.verdict is VerificationVerdict.GIVE_UP:
            await self.journal.end(action, ActionState.INCONCLUSIVE, verification.reason)
            self._notify_once(action, verification.reason)
        elif verification.verdict is VerificationVerdict.HOLD:
            self._notify_once(action, verification.reason)
        elif verification.verdict is VerificationVerdict.ROLL_BACK:
            await self._roll_back(action, verification.reason, paused, f"undo:{action.id}/{len(undoings)}")

    async def _roll_back(self, action: Action, why: str, paused: bool, key: str) -> None:
        if action.is_action:
            await self.journal.end(action, ActionState.INCONCLUSIVE, f"{why}; it cannot be rolled back")
            self._notify_once(action, f"{why}; it cannot be rolled back")
        elif paused:
            self._notify_once(action, f"{why}; it is not rolled back while actions are paused")
        else:
            self._notify_once(action, f"rolling back: {why}")
            undo = await self.journal.propose(self.undo.new_undo(action, ENGINE, key, why))
            self._run_in_background(undo.id, self._send(undo))

    async def _verification_plan(self, action: Action) -> VerificationPlan:
        warm_up_s, scale = self.times.warm_up_s, action.time_scale
        if not action.is_action:
            try:
                known = await self.launcher.toolbox.tool(action.tool).knobs(action.target)
                warm_up_s = next((knob.warm_up_s for knob in known if knob.name == action.subject), warm_up_s)
            except EngineError as error:
                log.info("default_warm_up_used", action=action.id, error=str(error))
        changed = action.started or action.created
        return VerificationPlan(
            changed, changed + round(warm_up_s * scale * _S), round(self.times.watch_s * scale * _S),
            self.times.checks, self.times.bad_checks, round(self.times.lag_s * scale * _S),
        )  # fmt: skip

    async def _recommendation(self, action: Action) -> Recommendation | None:
        if action.recommendation_id is None:
            return None
        return await asyncio.to_thread(self.ledger.recommendation, action.recommendation_id)

    def _verification_series(
        self, action: Action, recommendation: Recommendation | None, plan: VerificationPlan, now: int
    ) -> list[VerificationSeries]:
        """Return the series to verify, the action's own metric first."""
        effect = recommendation.effect if recommendation is not None else None
        wanted = [(one.series_id, one.name, one.more_is_better) for one in self.guarded_metrics(action)]
        if effect is not None and effect.series_id:
            own = (effect.series_id, effect.figure, effect.more_is_better)
            wanted = [own, *(one for one in wanted if one[0] != effect.series_id)]
        since = plan.changed - plan.length
        return [
            VerificationSeries(name, self.scores.read(series_id, since, now), more_is_better)
            for series_id, name, more_is_better in wanted
        ]

    async def _advance_recommendation(self, found: Recommendation, now: int, paused: bool) -> None:
        """Close, expire or start a recommendation."""
        if found.state is RecommendationState.APPLIED:
            await self._close(found)
            return
        if _deadline(found, self.times.approval_s) <= now:
            reason = self.blocked_reasons.pop(found.id, "") or found.reason or "no operator decided in time"
            expired = replace(found, state=RecommendationState.EXPIRED, reason=reason)
            await asyncio.to_thread(self.ledger.save_recommendation, expired, "expired", ENGINE, found.state)
        elif not paused and _is_due(found, now):
            await self._start(found)

    async def _start(self, found: Recommendation) -> None:
        by = found.approver or ENGINE
        decision = await self.launcher.decide(found, bool(found.approver))
        why = decision.reason if decision.verdict != ALLOW else None
        if why is None and by == ENGINE:
            target_actions = await asyncio.to_thread(
                self.ledger.actions, tool=found.tool, target=found.target
            )
            why = lock_reason(target_actions)
        if why is not None:
            self._set_blocked(found.id, why)
            return
        self.blocked_reasons.pop(found.id, None)
        action = await self.journal.propose(self.launcher.action_for(found, by))
        self._run_in_background(action.id, self._send(action))

    async def _close(self, found: Recommendation) -> None:
        actions = await asyncio.to_thread(self.ledger.actions, recommendation_id=found.id)
        action = next((one for one in actions if one.undoes is None), None)
        if action is None or not action.state.is_final:
            return
        words = action.outcome.words if action.outcome is not None else str(action.state)
        closed = replace(found, state=RecommendationState.CLOSED, reason=words)
        await asyncio.to_thread(self.ledger.save_recommendation, closed, "closed", ENGINE, found.state)

    def _run_in_background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run work as a task, at most one per name."""
        if name in self._tasks:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(self._run_safely(name, work))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _run_safely(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run work; log its errors so that they do not stop other work."""
        try:
            await work
        except LockedError as error:
            self._takeover_error = error
            log.error("lease_lost", error=str(error))
        except ConflictError as error:
            log.info("state_changed_concurrently", subject=name, error=str(error))
        except EngineError as error:
            log.warning("scheduler_work_failed", subject=name, error=str(error))
        except Exception:
            log.exception("scheduler_work_crashed", subject=name)

    def _set_blocked(self, name: str, why: str) -> None:
        if _without_digits(self.blocked_reasons.get(name, "")) != _without_digits(why):
            log.info("action_blocked", subject=name, reason=why)
        self.blocked_reasons[name] = why

    def _notify_once(self, action: Action, words: str) -> None:
        if (action.id, words) not in self._notified:
            self._notified.add((action.id, words))
            self.notify(action, words)

    def _forget(self, unfinished: set[str]) -> None:
        self.verifications = {
            name: newest for name, newest in self.verifications.items() if name in unfinished
        }
        self._notified = {(name, words) for name, words in self._notified if name in unfinished}


_CAN_START = (RecommendationState.SCHEDULED, RecommendationState.APPROVED, RecommendationState.PENDING)


def _is_manual(action: Action) -> bool:
    """Return whether an operator requested this action directly. Such actions are not sent after a crash."""
    return action.by != ENGINE and action.recommendation_id is None and action.undoes is None


def _without_digits(why: str) -> str:
    """Return the reason without digits, which change every second."""
    return "".join(letter for letter in why if not letter.isdigit())


def _deadline(found: Recommendation, approval_s: float) -> int:
    """Return the time from which a recommendation may not start, int64 ns UTC."""
    if found.state is RecommendationState.PENDING:
        return found.expires
    since = found.scheduled if found.state is RecommendationState.SCHEDULED else found.approved
    return (since or found.created) + round(approval_s * _S)


def _is_due(found: Recommendation, now: int) -> bool:
    """Return whether the recommendation may start without another decision."""
    if found.state is RecommendationState.PENDING:
        return found.mode is Mode.AUTO
    return found.state is RecommendationState.APPROVED or (found.scheduled or 0) <= now
