"""Taking an action back: once, to the exact value before, and only while the value is still ours."""

import asyncio
from collections.abc import Callable

from trimtab.engine.actions.journal import Journal
from trimtab.engine.errors import RefusedError
from trimtab.engine.types import Action, ActionState


def undo_of(action: Action, undo_id: str, key: str, by: str, now: int, why: str) -> Action:
    """The action that takes another back: to the value before, or to the tool's default where none was set.

    Raises RefusedError for what cannot be taken back.
    """
    if action.is_action:
        raise RefusedError(f"{action.subject} was done, it has no value to go back to")
    if action.undoes is not None:
        raise RefusedError(f"action {action.id} is itself an undoing: change the knob instead")
    return Action(
        id=undo_id, key=key, recommendation_id=action.recommendation_id, tool=action.tool,
        target=action.target, subject=action.subject, is_action=False, before=action.after,
        after=action.before if action.set_before else None, set_before=True,
        state=ActionState.PROPOSED, mode=action.mode, by=by, created=now, undoes=action.id,
        time_scale=action.time_scale, told=why,
    )  # fmt: skip


class Undoing:
    """Writes undoings down, and what they mean for what they took back."""

    def __init__(self, journal: Journal, new_id: Callable[[], str]) -> None:
        self.journal = journal
        self.new_id = new_id

    def made(self, action: Action, by: str, key: str, why: str) -> Action:
        """What takes it back, not yet written down. Raises RefusedError."""
        return undo_of(action, self.new_id(), key, by, self.journal.clock.now(), why)

    async def go_on(self, undo: Action) -> Action:
        """From where it was sent, as after a crash, to what it means for the action that it takes back."""
        if undo.state is ActionState.VERIFYING:
            undo = await self.journal.end(undo, ActionState.KEPT, "the value before is back")
        if undo.state.is_final:
            await self._settle(undo)
        return undo

    async def of(self, action: Action) -> list[Action]:
        """The undoings of an action, newest first."""
        found = await asyncio.to_thread(
            self.journal.ledger.actions, tool=action.tool, target=action.target, since=action.created
        )
        return [other for other in found if other.undoes == action.id]

    async def _settle(self, undo: Action) -> None:
        if undo.undoes is None or undo.state is ActionState.REFUSED:
            return  # nothing was tried
        action = await asyncio.to_thread(self.journal.ledger.action, undo.undoes)
        words = undo.outcome.words if undo.outcome is not None else ""
        if undo.state is ActionState.KEPT:
            if action.state not in {ActionState.ROLLED_BACK, ActionState.FAILED}:
                why = undo.told.partition("; ")[0]
                await self.journal.end(action, ActionState.ROLLED_BACK, f"rolled back: {why}", actor=undo.by)
        elif action.state is ActionState.VERIFYING:
            await self.journal.end(
                action,
                ActionState.INCONCLUSIVE,
                f"not taken back ({words}): nothing is done here by itself now",
            )
