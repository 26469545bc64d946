"""The life of an action, step by step: nothing is sent before `executing` stands in the ledger."""

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from trimtab.engine.errors import ConflictError
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.types import Action, ActionState, Effect, KnobReading, Outcome, Value

ENGINE = "trimtab"
"""The actor of what nobody asked for."""
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
"""From each state where to; what has ended can still be taken back by a person."""


def check(action: Action, after: ActionState) -> None:
    """Raises ConflictError where an action cannot go there.

    >>> from trimtab.engine.types import ActionState
    >>> sorted(TRANSITIONS[ActionState.EXECUTING])
    [<ActionState.FAILED: 'failed'>, <ActionState.UNKNOWN: 'unknown'>, <ActionState.VERIFYING: 'verifying'>]
    """
    if after not in TRANSITIONS[action.state]:
        raise ConflictError(f"action {action.id} is {action.state} and cannot become {after}")


def same(one: Value, other: Value) -> bool:
    """Whether two readings of a knob are one value; numbers up to rounding.

    >>> same(0.1 + 0.2, 0.3), same("1", 1), same(True, 1), same(None, 0)
    (True, False, False, False)
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or math.isclose(one, other, rel_tol=1e-9)
    return one == other


def reads(reading: KnobReading, value: Value) -> bool:
    """Whether a knob is at a value; None = at the tool's own default, set by nobody."""
    return not reading.set_here if value is None else same(reading.value, value)


def restores(action: Action) -> bool:
    """Whether a person takes something back: the pause does not stop that, it stops what makes news."""
    return action.undoes is not None and action.by != ENGINE


def proof(action: Action, reading: KnobReading) -> ActionState:
    """What a knob's value says of an action that was interrupted.

    verifying = it took effect; failed = it did not; unknown = somebody else's value is there
    """
    if reads(reading, action.after):
        return ActionState.VERIFYING
    return ActionState.FAILED if reads(reading, action.before) else ActionState.UNKNOWN


def locked(actions: Iterable[Action]) -> str | None:
    """Why nothing may be done by itself on a target, None = it may.

    actions : of that target, newest first. An undoing that failed, or a change of which nobody knows
              whether it took effect, locks it until a person has changed it by hand and that was kept.
    """
    for action in actions:
        if action.by != ENGINE and action.undoes is None and action.state is ActionState.KEPT:
            return None
        if action.state is ActionState.UNKNOWN:
            return (
                f"whether action {action.id} changed {action.subject} is not known: look, and set it by hand"
            )
        if action.undoes is not None and action.state is ActionState.FAILED:
            return f"{action.subject} could not be taken back (action {action.id}): look, and set it by hand"
    return None


class Journal:
    """Moves actions through their states, each with its audit row, off the event loop.

    Raises ConflictError where somebody else moved the action, StoreError where it cannot be written.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock

    async def propose(self, action: Action) -> Action:
        """Write it down as proposed; the one that has its key already where there is one."""
        return await asyncio.to_thread(self.ledger.propose, action, "proposed", action.by)

    async def executing(self, action: Action, reading: KnobReading | None) -> Action:
        """It is about to be sent; `reading` is the knob before."""
        changed: dict[str, Any] = {"started": self.clock.now()}
        details: dict[str, Value] = {}
        if reading is not None:
            changed["set_before"] = reading.set_here
            details = {"reading": reading.value, "set_before": reading.set_here}
        return await self._move(action, ActionState.EXECUTING, details, **changed)

    async def verifying(self, action: Action, told: str) -> Action:
        """It took effect; `told` is what the tool said."""
        words = "; ".join(part for part in (action.told, told) if part)
        return await self._move(action, ActionState.VERIFYING, {"told": told}, told=words)

    async def end(
        self,
        action: Action,
        state: ActionState,
        words: str,
        effect: Effect | None = None,
        actor: str = ENGINE,
    ) -> Action:
        """Nothing more comes of it."""
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
        check(action, state)
        moved = replace(action, state=state, **changed)
        return await asyncio.to_thread(
            self.ledger.transition, moved, action.state, str(state), actor, details
        )
