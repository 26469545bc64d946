"""Decisions of people: approve, dismiss, schedule, apply, take back, change by hand, pause."""

import asyncio
from dataclasses import replace

from trimtab.engine.actions.decision_contracts import ALLOW
from trimtab.engine.actions.journal import ENGINE
from trimtab.engine.actions.launcher import OPEN, Starter
from trimtab.engine.actions.undo import Undoing
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

_TAKEN_BACK = frozenset(
    {ActionState.VERIFYING, ActionState.KEPT, ActionState.INCONCLUSIVE, ActionState.UNKNOWN}
)


class ActingDesk:
    """The port OperatorDecisions. Each decision is in the ledger, with its audit row, before it has an effect."""

    def __init__(self, starter: Starter, undoing: Undoing) -> None:
        self.starter = starter
        self.undoing = undoing
        self.ledger: Ledger = starter.journal.ledger
        self.clock = starter.journal.clock

    async def approve(self, recommendation_id: str, by: str) -> Recommendation:
        """Let it be done as soon as the guardrails allow. The approver may not be its proposer."""
        found = await self._open(recommendation_id, {RecommendationState.PENDING})
        approved = replace(
            found, state=RecommendationState.APPROVED, approver=_other(found, by), approved=self.clock.now()
        )
        return await self._save(approved, "approved", by, found.state)

    async def dismiss(self, recommendation_id: str, by: str, reason: str) -> Recommendation:
        """It will not be done."""
        found = await self._open(recommendation_id, OPEN)
        dismissed = replace(found, state=RecommendationState.DISMISSED, reason=reason)
        return await self._save(dismissed, "dismissed", by, found.state)

    async def schedule(self, recommendation_id: str, by: str, at: int) -> Recommendation:
        """Let it be done at a time, int64 ns. Raises RefusedError for one that is past."""
        now = self.clock.now()
        if at <= now:
            raise RefusedError("that time is past: give a later one, or apply it now")
        found = await self._open(recommendation_id, OPEN)
        scheduled = replace(
            found, state=RecommendationState.SCHEDULED, approver=_other(found, by), approved=now, scheduled=at
        )
        return await self._save(scheduled, "scheduled", by, found.state)

    async def apply(self, recommendation_id: str, by: str, key: str) -> Action:  # noqa: ARG002 - it is done once anyway
        """Do it now; proposed = written down, and sent as soon as the guardrails let it."""
        found = await self._recommendation(recommendation_id)
        if found.state is RecommendationState.APPLIED or found.state is RecommendationState.CLOSED:
            return await self._applied_before(found, by)
        found = await self._open(recommendation_id, OPEN)
        await self._not_paused()
        approver = found.approver or _other(found, by)
        decision = await self.starter.decide(
            replace(found, approver=approver, approved=self.clock.now()), True
        )
        if decision.verdict != ALLOW:
            raise RefusedError(decision.reason)
        made = self.starter.action_of(found, by)
        with self.starter.hold(made):
            action = await self.starter.journal.propose(made)
            if action.id != made.id:
                return await self._applied_before(found, by)
            return (await self.starter.send(action))[0]

    async def roll_back(self, action_id: str, by: str, key: str) -> Action:
        """Take an action back; the undoing. One that failed can be tried again with another key."""
        action = await asyncio.to_thread(self.ledger.action, action_id)
        key = f"undo:{action_id}:{key}"
        for undo in await self.undoing.of(action):
            if not undo.state.changed_nothing and not await self._taken_over(undo, by, key):
                return await self.undoing.go_on(await asyncio.to_thread(self.ledger.action, undo.id))
        if action.state not in _TAKEN_BACK:
            raise ConflictError(f"action {action_id} is {action.state}: there is nothing to take back")
        made = self.undoing.made(action, by, key, f"{by} took it back")
        return await self.undoing.go_on(await self._by_hand(made))

    async def run(self, tool: str, target: str, action: str, by: str, key: str) -> Action:
        """Tell a tool to do something, once."""
        made = self.starter.action(tool, target, action, None, None, by, f"{by}:{key}", is_action=True)
        return await self._by_hand(made)

    async def set_knob(
        self, tool: str, target: str, knob: str, before: Value, after: Value, by: str, key: str
    ) -> Action:
        """Change a setting by hand, where its value is still `before`; after = None resets it."""
        made = self.starter.action(tool, target, knob, before, after, by, f"{by}:{key}")
        return await self._by_hand(made)

    async def pause(self, by: str, reason: str) -> Pause:
        """Nothing acts any more until a person says so; people can still take back what was done."""
        return await self._switch(Pause(on=True, by=by, since=self.clock.now(), reason=reason))

    async def resume(self, by: str, reason: str) -> Pause:
        """Acting is allowed again."""
        if by in {"", ENGINE}:
            raise RefusedError("a person has to resume what was paused")
        return await self._switch(Pause(on=False, by=by, since=self.clock.now(), reason=reason))

    async def _switch(self, pause: Pause) -> Pause:
        await asyncio.to_thread(self.ledger.set_pause, pause)
        return pause

    async def _written(self, made: Action) -> Action:
        """As it stands in the ledger. Raises ConflictError where its key was used for something else."""
        stored = await self.starter.journal.propose(made)
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
                f"this Idempotency-Key was used for {stored.subject} of {stored.target}: use another"
            )
        return stored

    async def _by_hand(self, made: Action) -> Action:
        """Write it down and send it now, or say why not: nobody waits for it later.

        A person takes back while everything is paused, too: it restores what was there.
        """
        if made.undoes is None:
            await self._not_paused()
        with self.starter.hold(made):
            action = await self._written(made)
            if action.id != made.id:
                return action
            try:
                action, decision = await self.starter.send(action)
            except (NotFoundError, RefusedError) as error:
                await self._give_up(action, ActionState.REFUSED, str(error))
                raise
            except ToolError as error:
                await self._give_up(action, ActionState.FAILED, f"not sent: {error}")
                raise
            if action.state is not ActionState.PROPOSED:
                return action
            said = decision.reason if decision is not None and decision.verdict != ALLOW else ""
            reason = said or "everything was paused meanwhile"
            await self._give_up(action, ActionState.REFUSED, reason)
            raise RefusedError(reason)

    async def _taken_over(self, undo: Action, by: str, key: str) -> bool:
        """Whether an undoing that waits was called off: a person need not wait for what holds it up."""
        if undo.state is not ActionState.PROPOSED or undo.key == key or self.starter.busy(undo.id):
            return False
        try:
            words = f"not sent: {by} takes it back by hand"
            await self.starter.journal.end(undo, ActionState.REFUSED, words, actor=by)
        except ConflictError:  # it was sent in this moment
            return False
        return True

    async def _give_up(self, action: Action, state: ActionState, reason: str) -> None:
        await self.starter.journal.end(action, state, reason, actor=action.by)

    async def _not_paused(self) -> None:
        pause = await asyncio.to_thread(self.ledger.pause)
        if pause.on:
            because = f" ({pause.reason})" if pause.reason else ""
            raise RefusedError(f"{pause.by} paused everything{because}: resume first")

    async def _applied_before(self, found: Recommendation, by: str) -> Action:
        actions = await asyncio.to_thread(self.ledger.actions, recommendation_id=found.id)
        action = next((one for one in actions if one.undoes is None), None)
        if action is None or action.by != by:
            raise ConflictError(f"recommendation {found.id} is {found.state}: somebody was quicker")
        return action

    async def _recommendation(self, recommendation_id: str) -> Recommendation:
        return await asyncio.to_thread(self.ledger.recommendation, recommendation_id)

    async def _open(
        self, recommendation_id: str, states: "set[RecommendationState] | frozenset[RecommendationState]"
    ) -> Recommendation:
        found = await self._recommendation(recommendation_id)
        if found.state not in states:
            wanted = " or ".join(sorted(states))
            raise ConflictError(f"recommendation {found.id} is {found.state}, {wanted} was wanted")
        if found.state is RecommendationState.PENDING and found.expires <= self.clock.now():
            raise ConflictError(f"recommendation {found.id} has expired: what it was made from is old")
        return found

    async def _save(
        self, changed: Recommendation, audit: str, by: str, expected: RecommendationState
    ) -> Recommendation:
        await asyncio.to_thread(self.ledger.save_recommendation, changed, audit, by, expected)
        return changed


def _other(found: Recommendation, by: str) -> str:
    """Who approves: anybody but its proposer."""
    if by == found.proposer:
        raise RefusedError(f"{by} proposed it: somebody else has to approve")
    return by
