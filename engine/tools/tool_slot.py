"""One place in the rack: the tool that is in it now, who is using it, and why it may not be used."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from trimtab.engine.errors import NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.ports import Tool, Warms
from trimtab.engine.redaction import clean_text
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.tools.mode_check import nowhere
from trimtab.engine.tools.sandbox import ALLOWED, FaultError, contained
from trimtab.engine.types import (
    Applied,
    Knob,
    KnobReading,
    MemoryOutlook,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
    Warming,
)

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Outer limits in seconds; a tool's own are shorter."""

    read_s: float = 10.0
    act_s: float = 30.0


@dataclass(slots=True)
class Held:
    """A tool and how many calls are in it now."""

    tool: Tool
    calls: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> None:
        """A call begins."""
        self.calls += 1
        self.idle.clear()

    def leave(self) -> None:
        """A call has ended."""
        self.calls -= 1
        if self.calls == 0:
            self.idle.set()

    async def retire(self, limit_s: float) -> None:
        """Close the tool when nobody is in it any more, after limit_s at the latest."""
        if self.calls:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.idle.wait(), limit_s)
        try:
            await contained(self.tool.close(), limit_s)
        except (FaultError, ToolError, TimeoutError) as error:
            log.warning("tool did not close", tool=self.tool.name, why=clean_text(str(error)))


@dataclass(slots=True)
class Slot:
    """Where a tool is put in, taken out and replaced; calls go to whatever is in it at that moment.

    held       : None while it is disabled or could not be made
    quarantine : why it is not asked any more; "" = it is
    """

    name: str
    settings: ToolSettings
    deadlines: Deadlines
    enabled: bool = True
    held: Held | None = None
    quarantine: str = ""
    switching: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    status: ToolStatus | None = None
    status_time: int = 0
    """int64 ns."""
    subjects: dict[str, set[str]] = field(default_factory=dict)
    """Names of knobs and actions by target, as they were seen since its settings hold."""

    def current(self) -> Held:
        """What is to be used right now. Raises RefusedError while disabled or quarantined."""
        if not self.enabled:
            raise RefusedError(f"{self.name} is disabled; enable it first")
        if self.quarantine or self.held is None:
            raise RefusedError(f"{self.name} is in quarantine: {self.quarantine or 'it was not made'}")
        return self.held

    def seen(self, target: str, subjects: set[str]) -> tuple[str, ...]:
        """Note what a target has; once all are known, the keys of its modes that mean nothing, in words."""
        if target in self.subjects:
            return ()
        self.subjects[target] = subjects
        targets = self.targets()
        if not self.subjects.keys() >= set(targets):
            return ()
        return nowhere(self.settings.modes(), targets, set().union(*self.subjects.values()))

    def targets(self) -> Sequence[str]:
        """Names of what may be changed: as the tool says, and as the settings say while it says nothing."""
        try:
            return self.look("targets", lambda tool: tuple(tool.targets))
        except (RefusedError, ToolError):
            return self.settings.targets_of(self.name)

    def look(self, what: str, ask: Callable[[Tool], T]) -> T:
        """What the tool says by itself. Raises what a tool may raise, as `call` does."""
        held = self.current()
        try:
            return ask(held.tool)
        except ALLOWED:
            raise
        except Exception as error:
            fault = FaultError(f"{type(error).__name__}: {error}")
            self._shut_in(held, what, fault)
            raise ToolError(f"{self.name} failed in {what} and is in quarantine: {fault}") from error

    async def call(
        self, what: str, ask: Callable[[Tool], Coroutine[Any, Any, T]], *, acts: bool = False
    ) -> T:
        """Ask the tool that is in it now, within the outer deadline.

        acts : it may change something: without an answer it is then not known whether it did

        Raises what a tool may raise; what it may not raise puts it into quarantine.
        """
        held = self.current()
        limit_s = self.deadlines.act_s if acts else self.deadlines.read_s
        unanswered = ToolUncertainError if acts else ToolError
        held.enter()
        try:
            return await contained(ask(held.tool), limit_s)
        except TimeoutError:
            raise unanswered(f"{self.name} gave no answer to {what} within {limit_s:g} s") from None
        except FaultError as error:
            self._shut_in(held, what, error)
            raise unanswered(f"{self.name} failed in {what} and is in quarantine: {error}") from error
        finally:
            held.leave()

    def _shut_in(self, held: Held, what: str, error: FaultError) -> None:
        log.error("tool put into quarantine", tool=self.name, call=what, exc_info=error.__cause__ or error)
        if held is self.held:
            self.quarantine = f"{what} raised {clean_text(str(error))}; mend the tool, then enable it again"
            self.status = None


class SlotTool:
    """The port Tool over a slot: whoever keeps it still talks to what is in the slot at that moment."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self.name = slot.name
        self.targets = slot.targets()
        self.trial = slot.settings.trial

    async def status(self) -> ToolStatus:
        """How it does. Raises nothing."""
        try:
            return await self._slot.call("status", lambda tool: tool.status())
        except RefusedError:
            pass
        except ToolError as error:
            if not self._slot.quarantine:
                return ToolStatus(ToolState.UNREACHABLE, str(error))
        if self._slot.enabled:
            return ToolStatus(ToolState.QUARANTINED, self._slot.quarantine)
        return ToolStatus(ToolState.DISABLED, "enable it to use it")

    async def metrics(self, target: str) -> Mapping[str, float]:
        """Figures by name. Raises ToolError, NotFoundError."""
        self._find(target)
        return await self._slot.call("metrics", lambda tool: tool.metrics(target))

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """What can be set. Raises ToolError, NotFoundError."""
        self._find(target)
        return await self._slot.call("knobs", lambda tool: tool.knobs(target))

    async def read(self, target: str, knob: str) -> KnobReading:
        """The value now. Raises ToolError, NotFoundError."""
        self._find(target)
        return await self._slot.call(f"read {knob}", lambda tool: tool.read(target, knob))

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> Applied:
        """Compare and set. Raises ConflictError, RefusedError, ToolError, ToolUncertainError."""
        self._permit(target)
        return await self._slot.call(
            f"apply {knob}", lambda tool: tool.apply(target, knob, before, after), acts=True
        )

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:
        """What memory would come to. Raises ToolError, NotFoundError."""
        self._find(target)
        return await self._slot.call("outlook", lambda tool: tool.outlook(target, knob, after))

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """What it can be told to do. Raises ToolError, NotFoundError."""
        self._find(target)
        return await self._slot.call("actions", lambda tool: tool.actions(target))

    async def run(self, target: str, action: str, key: str) -> str:
        """Do it. Raises RefusedError, NotFoundError, ToolError, ToolUncertainError."""
        self._permit(target)
        return await self._slot.call(f"run {action}", lambda tool: tool.run(target, action, key), acts=True)

    async def warming(self, target: str) -> Warming | None:
        """What warming would ask of the service behind it. Raises ToolError, RefusedError, NotFoundError."""
        self._find(target)
        return await self._slot.call("warming", lambda tool: _warming(tool, target))

    def command(self, target: str, subject: str, after: Value) -> str:
        """How a person would do it by hand."""
        return self._slot.look("command", lambda tool: tool.command(target, subject, after))

    def grant(self) -> str:
        """How to make the least privileged account that suffices."""
        return self._slot.look("grant", lambda tool: tool.grant())

    async def close(self) -> None:
        """The rack closes what it holds, nobody else does."""

    def _find(self, target: str) -> None:
        if target not in self.targets:
            raise NotFoundError(f"{self.name} has no target {target!r}; it has {', '.join(self.targets)}")

    def _permit(self, target: str) -> None:
        if target not in self.targets:
            raise RefusedError(
                f"{target!r} is not a target of {self.name}: only {', '.join(self.targets)} may be changed; "
                f"name it in tools.{self.name}.targets"
            )


async def _warming(tool: Tool, target: str) -> Warming | None:
    return await tool.warming(target) if isinstance(tool, Warms) else None
