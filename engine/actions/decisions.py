"""Operator decisions: approve, dismiss, schedule, apply, roll back, change manually, pause."""

import asyncio
from dataclasses import replace

from trimtab.engine.actions.decision_contracts import ALLOW, OPEN_STATES
from trimtab.engine.actions.journal import ENGINE
from trimtab.engine.actions.launcher import ActionLauncher
from trimtab.engine.actions.undo import Undo
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError
from trimtab.engine.ports import Ledger
from trimtab.engine.types import (
    Action,
    ActionState,
    Pause,
    Recommendation,
    RecommendationState,
    Value,
)

_CAN_ROLL_BACK = frozenset(
    {ActionState.VERIFYING, ActionState.KEPT, ActionState.INCONCLUSIVE, ActionState.UNKNOWN}
)


class Decisions:
    """Implements OperatorDecisions. Each decision is stored with its audit row before it takes effect."""

    def __init__(self, launcher: ActionLauncher, undo: Undo) -> None:
        self.launcher = launcher
        self.undo = undo
        self.ledger: Ledger = launcher.journal.ledger
        self.clock = launcher.journal.clock

    async def approve(self, recommendation_id: str, by: str) -> Recommendation:
        """Approve a recommendation; it starts as soon as the guard allows. The proposer may not approve."""
        found = await self._open_recommendation(recommendation_id, {RecommendationState.PENDING})
        approved = replace(
            found,
            state=RecommendationState.APPROVED,
            approver=_approver(found, by),
            approved=self.clock.now(),
        )
        return await self._save(approved, "approved", by, found.state)

    async def dismiss(self, recommendation_id: str, by: str, reason: str) -> Recommendation:
        """Dismiss a recommendation."""
        found = await self._open_recommendation(recommendation_id, OPEN_STATES)
        dismissed = replace(found, state=RecommendationState.DISMISSED, reason=reason)
        return await self._save(dismissed, "dismissed", by, found.state)

    async def schedule(self, recommendation_id: str, by: str, at: int) -> Recommendation:
        """Approve a recommendation for a time, int64 ns UTC. Raises RefusedError if the time is past."""
        now = self.clock.now()
        if at <= now:
            raise RefusedError(
                "the scheduled time is in the past: choose a later time, or apply the recommendation now"
            )
        found = await self._open_recommendation(recommendation_id, OPEN_STATES)
        scheduled = replace(
            found,
            state=RecommendationState.SCHEDULED,
            approver=_approver(found, by),
            approved=now,
            scheduled=at,
        )
        return await self._save(scheduled, "scheduled", by, found.state)

    async def apply(self, recommendation_id: str, by: str, key: str) -> Action:  # noqa: ARG002 - applied at most once anyway
        """Apply a recommendation now. An action in state `proposed` is journaled and waits for the guard."""
        found = await self._recommendation(recommendation_id)
        if found.state is RecommendationState.APPLIED or found.state is RecommendationState.CLOSED:
            return await self._existing_action(found, by)
        found = await self._open_recommendation(recommendation_id, OPEN_STATES)
        await self._require_not_paused()
        approver = found.approver or _approver(found, by)
        decision = await self.launcher.decide(
            replace(found, approver=approver, approved=self.clock.now()), True
        )
        if decision.verdict != ALLOW:
            raise RefusedError(decision.reason)
        made = self.launcher.action_for(found, by)
        with self.launcher.reserve(made):
            action = await self.launcher.journal.propose(made)
            if action.id != made.id:
                return await self._existing_action(found, by)
            return (await self.launcher.send(action))[0]

    async def roll_back(self, action_id: str, by: str, key: str) -> Action:
        """Roll an action back and return the undo action. A failed undo can be retried with another key."""
        action = await asyncio.to_thread(self.ledger.action, action_id)
        key = f"undo:{action_id}:{key}"
        for undo in await self.undo.undos_of(action):
            if not undo.state.changed_nothing and not await self._cancel_waiting_undo(undo, by, key):
                return await self.undo.finish(await asyncio.to_thread(self.ledger.action, undo.id))
        if action.state not in _CAN_ROLL_BACK:
            raise ConflictError(f"action {action_id} is {action.state}: there is nothing to roll back")
        made = self.undo.new_undo(action, by, key, f"requested by {by}")
        return await self.undo.finish(await self._execute_now(made))

    async def run(self, tool: str, target: str, action: str, by: str, key: str) -> Action:
        """Run an action of a tool once per key."""
        made = self.launcher.new_action(tool, target, action, None, None, by, f"{by}:{key}", is_action=True)
        return await self._execute_now(made)

    async def set_knob(
        self, tool: str, target: str, knob: str, before: Value, after: Value, by: str, key: str
    ) -> Action:
        """Set a knob manually if its value is still `before`; after=None resets it to the default."""
        made = self.launcher.new_action(tool, target, knob, before, after, by, f"{by}:{key}")
        return await self._execute_now(made)

    async def pause(self, by: str, reason: str) -> Pause:
        """Pause all actions until an operator resumes. Manual rollbacks stay possible."""
        return await self._set_pause(Pause(on=True, by=by, since=self.clock.now(), reason=reason))

    async def resume(self, by: str, reason: str) -> Pause:
        """Resume actions. Raises RefusedError for the engine itself."""
        if by in {"", ENGINE}:
            raise RefusedError("only an operator can resume actions")
        return await self._set_pause(Pause(on=False, by=by, since=self.clock.now(), reason=reason))

    async def _set_pause(self, pause: Pause) -> Pause:
        await asyncio.to_thread(self.ledger.set_pause, pause)
        return pause

    async def _propose(self, made: Action) -> Action:
        """Return the stored action. Raises ConflictError if its key belongs to a different action."""
        stored = await self.launcher.journal.propose(made)
        wanted = (made.tool, made.target, made.subject, made.before, made.after, made.is_action)
        if (
            stored.tool,
            stored.target,
            stored.subject,
            stored.before,
            stored.after,
            stored.is_action,
        ) != wanted:
            raise ConflictError(
                f"this Idempotency-Key was used for {stored.subject} of {stored.target}: use a new key"
            )
        return stored

    async def _execute_now(self, made: Action) -> Action:
        """Journal a manual action and send it now, or end it with the reason it was not sent.

        An operator may roll back while actions are paused, because that restores the previous value.
        """
        if made.undoes is None:
            await self._require_not_paused()
        with self.launcher.reserve(made):
            action = await self._propose(made)
            if action.id != made.id:
                return action
            try:
                action, decision = await self.launcher.send(action)
            except (NotFoundError, RefusedError) as error:
                await self._end(action, ActionState.REFUSED, str(error))
                raise
            except ToolError as error:
                await self._end(action, ActionState.FAILED, f"not sent: {error}")
                raise
            if action.state is not ActionState.PROPOSED:
                return action
            reason = decision.reason if decision is not None and decision.verdict != ALLOW else ""
            reason = reason or "actions were paused before it could be sent"
            await self._end(action, ActionState.REFUSED, reason)
            raise RefusedError(reason)

    async def _cancel_waiting_undo(self, undo: Action, by: str, key: str) -> bool:
        """Cancel an undo that waits for the guard, so that an operator can undo now; return success."""
        if undo.state is not ActionState.PROPOSED or undo.key == key or self.launcher.is_busy(undo.id):
            return False
        try:
            reason = f"not sent: {by} rolls it back manually"
            await self.launcher.journal.end(undo, ActionState.REFUSED, reason, actor=by)
        except ConflictError:  # it has just been sent
            return False
        return True

    async def _end(self, action: Action, state: ActionState, reason: str) -> None:
        await self.launcher.journal.end(action, state, reason, actor=action.by)

    async def _require_not_paused(self) -> None:
        pause = await asyncio.to_thread(self.ledger.pause)
        if pause.on:
            because = f" ({pause.reason})" if pause.reason else ""
            raise RefusedError(f"{pause.by} paused all actions{because}: resume first")

    async def _existing_action(self, found: Recommendation, by: str) -> Action:
        actions = await asyncio.to_thread(self.ledger.actions, recommendation_id=found.id)
        action = next((candidate for candidate in actions if candidate.undoes is None), None)
        if action is None or action.by != by:
            raise ConflictError(f"recommendation {found.id} was already {found.state} by another request")
        return action

    async def _recommendation(self, recommendation_id: str) -> Recommendation:
        return await asyncio.to_thread(self.ledger.recommendation, recommendation_id)

    async def _open_recommendation(
        self, recommendation_id: str, states: "set[RecommendationState] | frozenset[RecommendationState]"
    ) -> Recommendation:
        found = await self._recommendation(recommendation_id)
        if found.state not in states:
            wanted = " or ".join(sorted(states))
            raise ConflictError(
                f"recommendation {found.id} is {found.state}; this needs a recommendation that is {wanted}"
            )
        if found.state is RecommendationState.PENDING and found.expires <= self.clock.now():
            raise ConflictError(f"recommendation {found.id} has expired: use a newer recommendation")
        return found

    async def _save(
        self, changed: Recommendation, audit: str, by: str, expected: RecommendationState
    ) -> Recommendation:
        await asyncio.to_thread(self.ledger.save_recommendation, changed, audit, by, expected)
        return changed


def _approver(found: Recommendation, by: str) -> str:
    """Return the approver. Raises RefusedError if the proposer approves."""
    if by == found.proposer:
        raise RefusedError(f"{by} proposed this change: another operator has to approve it")
    return by
