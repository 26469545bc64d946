"""One action through its tool: sent once at most, and read back where no answer came."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from trimtab.engine.actions.journal import Journal, proof, reads, restores
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.ports import Clock, Tool, Toolbox
from trimtab.engine.types import Action, ActionState, KnobReading

log = structlog.get_logger(__name__)

_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Deadlines:
    """In seconds.

    send   : from writing `executing` until an answer
    read   : for reading a value back
    settle : between two readings that say that nothing was changed: a late change would come in between
    """

    send_s: float = 30.0
    read_s: float = 10.0
    settle_s: float = 1.0


class Executor:
    """Sends actions.

    boundary : called with the name of each point where a crash would part what belongs together (tests)
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
        """Ids of what this process is sending or reading back now."""

    async def execute(self, action: Action) -> Action:
        """Send what is proposed; it comes back verifying, failed or unknown, or as it was while paused.

        Raises ConflictError where somebody else sends it, StoreError where the journal cannot be
        written: then nothing was sent, or it was and `recover` finds out.
        """
        if action.id in self.in_flight:
            raise ConflictError(f"action {action.id} is being sent already")
        self.in_flight.add(action.id)
        try:
            return await self._execute(action)
        finally:
            self.in_flight.discard(action.id)

    async def recover(self, action: Action, give_up: bool) -> Action:
        """Find out what became of an action that was interrupted while executing; it is never sent again.

        give_up : call it unknown where its tool cannot be read; else it is left for the next time
        """
        self.in_flight.add(action.id)
        try:
            return await self._look(action, "it was interrupted", give_up)
        finally:
            self.in_flight.discard(action.id)

    async def _execute(self, action: Action) -> Action:
        try:
            tool = self._tool(action)
            reading = await self._ready(tool, action)
        except (ConflictError, NotFoundError, RefusedError, ToolError) as error:
            if action.undoes is not None and isinstance(error, ToolError):
                return action  # what does harm is taken back once its tool answers again
            return await self.journal.end(action, ActionState.FAILED, f"not sent: {error}")
        self.boundary("executor.ready")
        if not restores(action) and (await asyncio.to_thread(self.journal.ledger.pause)).on:
            return action
        action = await self.journal.executing(action, reading)
        self.boundary("executor.send")
        try:
            told = await self._send(tool, action, reading)
        except (ToolUncertainError, TimeoutError) as error:
            return await self._look(action, str(error) or f"no answer in {self.deadlines.send_s:g} s")
        except (ConflictError, NotFoundError, RefusedError, ToolError) as error:
            return await self.journal.end(action, ActionState.FAILED, str(error))
        except Exception as error:
            log.exception("a tool raised what it may not raise", tool=action.tool, action=action.id)
            return await self._look(action, f"the tool broke: {type(error).__name__}")
        self.boundary("executor.sent")
        return await self.journal.verifying(action, told)

    async def stale(self, action: Action) -> str | None:
        """Why a proposed change can never be sent: the knob was changed since. None = it can, or unknown."""
        try:
            await self._ready(self._tool(action), action)
        except ConflictError as error:
            return str(error)
        except (NotFoundError, RefusedError, ToolError):
            return None
        return None

    def _tool(self, action: Action) -> Tool:
        tool = self.toolbox.tool(action.tool)
        if action.target not in tool.targets:
            named = ", ".join(tool.targets) or "none"
            raise RefusedError(f"{action.target!r} is no target of {action.tool}, which may change {named}")
        return tool

    async def _ready(self, tool: Tool, action: Action) -> KnobReading | None:
        """The knob as it is now. Raises ConflictError where it is not as the action expects."""
        if action.is_action:
            return None
        reading = await self._read(tool, action)
        if not reads(reading, action.before):
            raise ConflictError(
                f"{action.subject} of {action.target} is {reading.value!r}, {action.before!r} was expected: "
                "somebody changed it since"
            )
        return reading

    async def _read(self, tool: Tool, action: Action) -> KnobReading:
        try:
            async with asyncio.timeout(self.deadlines.read_s):
                return await tool.read(action.target, action.subject)
        except TimeoutError:
            raise ToolError(f"{action.tool} gave no value in {self.deadlines.read_s:g} s") from None

    async def _send(self, tool: Tool, action: Action, reading: KnobReading | None) -> str:
        if self.clock.now() - (action.started or 0) > self.deadlines.send_s * _S:
            # This process stood still since: another engine may have taken over and looked already.
            raise ToolError(f"not sent: more than {self.deadlines.send_s:g} s passed before it could be")
        async with asyncio.timeout(self.deadlines.send_s):
            if reading is None:
                return await tool.run(action.target, action.subject, action.key)
            applied = await tool.apply(action.target, action.subject, reading.value, action.after)
        permanent = f"; to make it last: {applied.permanent}" if applied.permanent else ""
        return f"lasts {applied.lasts}{permanent}"

    async def _look(self, action: Action, why: str, give_up: bool = True) -> Action:
        """Read back what was sent without an answer, and go on as that proves."""
        if action.is_action:
            words = f"{why}; whether it was done cannot be read back, and it is not done again"
            return await self.journal.end(action, ActionState.UNKNOWN, words)
        try:
            state, reading = await self._proved(action)
        except (NotFoundError, RefusedError, ToolError) as error:
            if not give_up:
                return action
            words = f"{why}; the value could not be read back ({error})"
            return await self.journal.end(action, ActionState.UNKNOWN, words)
        if state is ActionState.VERIFYING:
            return await self.journal.verifying(action, f"{why}; reading back shows {reading.value!r}")
        says = "it was not changed" if state is ActionState.FAILED else "somebody else changed it"
        return await self.journal.end(action, state, f"{why}; it reads {reading.value!r}: {says}")

    async def _proved(self, action: Action) -> tuple[ActionState, KnobReading]:
        tool = self.toolbox.tool(action.tool)
        reading = await self._read(tool, action)
        state = proof(action, reading)
        if state is ActionState.FAILED and self.deadlines.settle_s > 0:
            await self.clock.sleep_until(self.clock.now() + round(self.deadlines.settle_s * _S))
            reading = await self._read(tool, action)
            state = proof(action, reading)
        return state, reading
