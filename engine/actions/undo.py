"""Undo of an action: restores the exact previous value, if the current value is still the action's."""

import asyncio
from collections.abc import Callable

from trimtab.engine.actions.journal import Journal
from trimtab.engine.errors import RefusedError
from trimtab.engine.types import Action, ActionState


def undo_action(action: Action, undo_id: str, key: str, by: str, now: int, why: str) -> Action:
    """Return the action that undoes another: restores its previous value, or the default if none was set.

    Raises RefusedError if the action cannot be undone.
    """
    if action.is_action:
        raise RefusedError(f"{action.subject} is not a knob: it has no previous value to restore")
    if action.undoes is not None:
        raise RefusedError(f"action {action.id} is itself an undo: set the knob instead")
    return Action(
        id=undo_id, key=key, recommendation_id=action.recommendation_id, tool=action.tool,
        target=action.target, subject=action.subject, is_action=False, before=action.after,
        after=action.before if action.set_before else None, set_before=True,
        state=ActionState.PROPOSED, mode=action.mode, by=by, created=now, undoes=action.id,
        time_scale=action.time_scale, told=why,
    )  # fmt: skip


class Undo:
    """Creates undo actions and settles the actions that they undo.

    new_id : returns a ULID
    """

    def __init__(self, journal: Journal, new_id: Callable[[], str]) -> None:
        self.journal = journal
        self.new_id = new_id

    def new_undo(self, action: Action, by: str, key: str, why: str) -> Action:
        """Return an undo action, not yet journaled. Raises RefusedError if the action cannot be undone."""
        return undo_action(action, self.new_id(), key, by, self.journal.clock.now(), why)

    async def finish(self, undo: Action) -> Action:
        """End an acknowledged undo as kept and settle the action that it undoes; safe to repeat."""
        if undo.state is ActionState.VERIFYING:
            undo = await self.journal.end(undo, ActionState.KEPT, "the previous value is restored")
        if undo.state.is_final:
            await self._end_undone_action(undo)
        return undo

    async def undos_of(self, action: Action) -> list[Action]:
        """Return the undo actions of an action, newest first."""
        found = await asyncio.to_thread(
            self.journal.ledger.actions, tool=action.tool, target=action.target, since=action.created
        )
        return [other for other in found if other.undoes == action.id]

    async def _end_undone_action(self, undo: Action) -> None:
        if undo.undoes is None or undo.state is ActionState.REFUSED:
            return  # it was never sent
        action = await asyncio.to_thread(self.journal.ledger.action, undo.undoes)
        reason = undo.outcome.words if undo.outcome is not None else ""
        if undo.state is ActionState.KEPT:
            if action.state not in {ActionState.ROLLED_BACK, ActionState.FAILED}:
                why = undo.told.partition("; ")[0]
                await self.journal.end(action, ActionState.ROLLED_BACK, f"rolled back: {why}", actor=undo.by)
        elif action.state is ActionState.VERIFYING:
            await self.journal.end(
                action,
                ActionState.INCONCLUSIVE,
                f"rollback failed ({reason}): automatic actions on this target are locked",
            )
