"""Sends actions through their tools: at most once, with a read back when no answer arrives."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from trimtab.engine.actions.journal import Journal, is_at_value, is_manual_undo, state_from_reading
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.ports import Clock, Tool, Toolbox
from trimtab.engine.types import Action, ActionState, KnobReading

log = structlog.get_logger(__name__)

_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Time limits in seconds.

    send_s   : from the journal entry `executing` to the tool's answer
    read_s   : for one reading of a knob
    settle_s : between the two readings that prove that nothing was changed
    """

    send_s: float = 30.0
    read_s: float = 10.0
    settle_s: float = 1.0


class Executor:
    """Executes actions and recovers interrupted ones.

    deadlines : time limits in seconds
    boundary  : called with the name of each crash point (tests)
    """

    def __init__(
        self,
        journal: Journal,
        toolbox: Toolbox,
        clock: Clock,
        deadlines: Deadlines | None = None,
        boundary: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.journal = journal
        self.toolbox = toolbox
        self.clock = clock
        self.deadlines = deadlines or Deadlines()
        self.boundary = boundary
        self.in_flight: set[str] = set()
        """Ids of the actions that this process is sending or reading back."""

    async def execute(self, action: Action) -> Action:
        """Send a proposed action; returns it verifying, failed or unknown, or unchanged while paused.

        Raises ConflictError if the action is already being sent, StoreError if the journal cannot be written:
        then either nothing was sent, or `recover` determines the outcome.
        """
        if action.id in self.in_flight:
            raise ConflictError(f"action {action.id} is already being sent")
        self.in_flight.add(action.id)
        try:
            return await self._execute(action)
        finally:
            self.in_flight.discard(action.id)

    async def recover(self, action: Action, give_up: bool) -> Action:
        """Determine the outcome of an action interrupted while executing. It is never sent again.

        give_up : end it as unknown if its tool cannot be read; otherwise leave it for the next step
        """
        self.in_flight.add(action.id)
        try:
            return await self._read_back(action, "it was interrupted", give_up)
        finally:
            self.in_flight.discard(action.id)

    async def _execute(self, action: Action) -> Action:
        try:
            tool = self._tool(action)
            reading = await self._check_before(tool, action)
        except (ConflictError, NotFoundError, RefusedError, ToolError) as error:
            if action.undoes is not None and isinstance(error, ToolError):
                return action  # a rollback waits until its tool answers again
            return await self.journal.end(action, ActionState.FAILED, f"not sent: {error}")
        self.boundary("executor.ready")
        if not is_manual_undo(action) and (await asyncio.to_thread(self.journal.ledger.pause)).on:
            return action
        action = await self.journal.mark_executing(action, reading)
        self.boundary("executor.send")
        try:
            receipt = await self._send(tool, action, reading)
        except (ToolUncertainError, TimeoutError) as error:
            return await self._read_back(action, str(error) or f"no answer in {self.deadlines.send_s:g} s")
        except (ConflictError, NotFoundError, RefusedError, ToolError) as error:
            return await self.journal.end(action, ActionState.FAILED, str(error))
        except Exception as error:
            log.exception("tool_raised_unexpected_error", tool=action.tool, action=action.id)
            return await self._read_back(action, f"the tool failed: {type(error).__name__}")
        self.boundary("executor.sent")
        return await self.journal.mark_verifying(action, receipt)

    async def stale_reason(self, action: Action) -> str | None:
        """Return why a proposed change can never be sent (its knob changed); None = it can, or unknown."""
        try:
            await self._check_before(self._tool(action), action)
        except ConflictError as error:
            return str(error)
        except (NotFoundError, RefusedError, ToolError):
            return None
        return None

    def _tool(self, action: Action) -> Tool:
        tool = self.toolbox.tool(action.tool)
        if action.target not in tool.targets:
            named = ", ".join(tool.targets) or "none"
            raise RefusedError(f"{action.target!r} is not a target of {action.tool}; its targets are {named}")
        return tool

    async def _check_before(self, tool: Tool, action: Action) -> KnobReading | None:
        """Return the knob's reading. Raises ConflictError if it is not the value the action expects."""
        if action.is_action:
            return None
        reading = await self._read(tool, action)
        if not is_at_value(reading, action.before):
            raise ConflictError(
                f"{action.subject} of {action.target} is {reading.value!r}, {action.before!r} was expected: "
                "it was changed in the meantime"
            )
        return reading

    async def _read(self, tool: Tool, action: Action) -> KnobReading:
        try:
            async with asyncio.timeout(self.deadlines.read_s):
                return await tool.read(action.target, action.subject)
        except TimeoutError:
            raise ToolError(
                f"{action.tool} did not return a value within {self.deadlines.read_s:g} s"
            ) from None

    async def _send(self, tool: Tool, action: Action, reading: KnobReading | None) -> str:
        if self.clock.now() - (action.started or 0) > self.deadlines.send_s * _S:
            # This process was suspended: another engine may have taken over and read the value back.
            raise ToolError(
                f"not sent: the deadline of {self.deadlines.send_s:g} s passed before it was sent"
            )
        async with asyncio.timeout(self.deadlines.send_s):
            if reading is None:
                return await tool.run(action.target, action.subject, action.key)
            applied = await tool.apply(action.target, action.subject, reading.value, action.after)
        permanent = f"; to make it last: {applied.permanent}" if applied.permanent else ""
        return f"lasts {applied.lasts}{permanent}"

    async def _read_back(self, action: Action, why: str, give_up: bool = True) -> Action:
        """Read the knob after a send without an answer, and move the action to the state this proves."""
        if action.is_action:
            reason = f"{why}; whether it ran cannot be read back, and it is not run again"
            return await self.journal.end(action, ActionState.UNKNOWN, reason)
        try:
            state, reading = await self._read_state(action)
        except (NotFoundError, RefusedError, ToolError) as error:
            if not give_up:
                return action
            reason = f"{why}; the value could not be read back ({error})"
            return await self.journal.end(action, ActionState.UNKNOWN, reason)
        if state is ActionState.VERIFYING:
            return await self.journal.mark_verifying(action, f"{why}; reading back shows {reading.value!r}")
        outcome = "it was not changed" if state is ActionState.FAILED else "it was changed by something else"
        return await self.journal.end(action, state, f"{why}; it reads {reading.value!r}: {outcome}")

    async def _read_state(self, action: Action) -> tuple[ActionState, KnobReading]:
        tool = self.toolbox.tool(action.tool)
        reading = await self._read(tool, action)
        state = state_from_reading(action, reading)
        if state is ActionState.FAILED and self.deadlines.settle_s > 0:
            await self.clock.sleep_until(self.clock.now() + round(self.deadlines.settle_s * _S))
            reading = await self._read(tool, action)
            state = state_from_reading(action, reading)
        return state, reading
