"""Action state machine: an action is journaled as `executing` before it is sent."""

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from trimtab.engine.errors import ConflictError
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.types import Action, ActionState, Effect, KnobReading, Outcome, Value

ENGINE = "trimtab"
"""Actor name of the engine itself in the ledger and the audit."""
S = ActionState
TRANSITIONS: Mapping[ActionState, frozenset[ActionState]] = {
    S.PROPOSED: frozenset({S.EXECUTING, S.FAILED, S.REFUSED}),
    S.EXECUTING: frozenset({S.VERIFYING, S.FAILED, S.UNKNOWN}),
    S.VERIFYING: frozenset({S.KEPT, S.ROLLED_BACK, S.INCONCLUSIVE}),
    S.KEPT: frozenset({S.ROLLED_BACK}),
    S.INCONCLUSIVE: frozenset({S.ROLLED_BACK}),
    S.UNKNOWN: frozenset({S.ROLLED_BACK}),
    S.ROLLED_BACK: frozenset(),
    S.FAILED: frozenset(),
    S.REFUSED: frozenset(),
}
"""Allowed next states. A finished action can still be rolled back by an operator."""


def check_transition(action: Action, after: ActionState) -> None:
    """Raise ConflictError if the action cannot move to the state.

    >>> from trimtab.engine.types import ActionState
    >>> sorted(TRANSITIONS[ActionState.EXECUTING])
    [<ActionState.FAILED: 'failed'>, <ActionState.UNKNOWN: 'unknown'>, <ActionState.VERIFYING: 'verifying'>]
    """
    if after not in TRANSITIONS[action.state]:
        raise ConflictError(f"action {action.id} is {action.state} and cannot become {after}")


def is_same_value(one: Value, other: Value) -> bool:
    """Return whether two readings of a knob are the same value; numbers are compared to 1e-9.

    >>> [is_same_value(*pair) for pair in ((0.1 + 0.2, 0.3), ("1", 1), (True, 1), (None, 0))]
    [True, False, False, False]
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or math.isclose(one, other, rel_tol=1e-9)
    return one == other


def is_at_value(reading: KnobReading, value: Value) -> bool:
    """Return whether a knob is at a value; None = not set explicitly (the tool's default)."""
    return not reading.set_here if value is None else is_same_value(reading.value, value)


def is_manual_undo(action: Action) -> bool:
    """Return whether an operator undoes an action, which a pause does not stop."""
    return action.undoes is not None and action.by != ENGINE


def state_from_reading(action: Action, reading: KnobReading) -> ActionState:
    """Return the state of an interrupted action according to its knob's value.

    verifying = the action took effect; failed = it did not; unknown = the knob has a third value
    """
    if is_at_value(reading, action.after):
        return ActionState.VERIFYING
    return ActionState.FAILED if is_at_value(reading, action.before) else ActionState.UNKNOWN


def lock_reason(actions: Iterable[Action]) -> str | None:
    """Return why automatic actions on a target are locked; None = they are allowed.

    actions : actions on the target, newest first. A failed undo or an unknown outcome locks the target until
              a manual change of it is kept.
    """
    for action in actions:
        if action.by != ENGINE and action.undoes is None and action.state is ActionState.KEPT:
            return None
        if action.state is ActionState.UNKNOWN:
            return (
                f"it is unknown whether action {action.id} changed {action.subject}: "
                "check it and set it manually"
            )
        if action.undoes is not None and action.state is ActionState.FAILED:
            name = action.subject
            return f"{name} could not be rolled back (action {action.id}): check it and set it manually"
    return None


class Journal:
    """Moves actions through their states in a worker thread; each transition has an audit row.

    Methods raise ConflictError if the stored action has another state, StoreError if the write fails.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock

    async def propose(self, action: Action) -> Action:
        """Store an action as proposed; returns the stored action with the same key if there is one."""
        return await asyncio.to_thread(self.ledger.propose, action, "proposed", action.by)

    async def mark_executing(self, action: Action, reading: KnobReading | None) -> Action:
        """Mark the action as about to be sent; `reading` is the knob before the change."""
        changed: dict[str, Any] = {"started": self.clock.now()}
        details: dict[str, Value] = {}
        if reading is not None:
            changed["set_before"] = reading.set_here
            details = {"reading": reading.value, "set_before": reading.set_here}
        return await self._move(action, ActionState.EXECUTING, details, **changed)

    async def mark_verifying(self, action: Action, receipt: str) -> Action:
        """Mark the action as acknowledged by its tool; `receipt` is the tool's answer."""
        receipts = "; ".join(part for part in (action.told, receipt) if part)
        return await self._move(action, ActionState.VERIFYING, {"told": receipt}, told=receipts)

    async def end(
        self,
        action: Action,
        state: ActionState,
        words: str,
        effect: Effect | None = None,
        actor: str = ENGINE,
    ) -> Action:
        """End the action in a final state, with the reason and the measured effect, if any."""
        details: dict[str, Value] = {"words": words}
        if effect is not None:
            details |= {"figure": effect.figure, "low": effect.low, "high": effect.high}
        return await self._move(
            action, state, details, actor, outcome=Outcome(state, words, effect), ended=self.clock.now()
        )

    async def _move(
        self,
        action: Action,
        state: ActionState,
        details: dict[str, Value],
        actor: str = ENGINE,
        **changed: Any,  # noqa: ANN401 - fields of Action
    ) -> Action:
        check_transition(action, state)
        moved = replace(action, state=state, **changed)
        return await asyncio.to_thread(
            self.ledger.transition, moved, action.state, str(state), actor, details
        )
