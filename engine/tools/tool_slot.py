"""One place in the rack: the tool that is in it now, who is using it, and why it may not be used."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from trimtab.engine.errors import NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.ports import CacheWarmer, Tool
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.tools.mode_check import unused_mode_keys
from trimtab.engine.tools.sandbox import ALLOWED_ERRORS, ToolFaultError, run_contained
from trimtab.engine.types import (
    AppliedChange,
    Knob,
    KnobReading,
    MemoryOutlook,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
    WarmingLoad,
)

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Outer limits in seconds; a tool's own are shorter."""

    read_s: float = 10.0
    act_s: float = 30.0


@dataclass(slots=True)
class LoadedTool:
    """A tool and how many calls are in it now."""

    tool: Tool
    calls: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def begin_call(self) -> None:
        """A call begins."""
        self.calls += 1
        self.idle.clear()

    def end_call(self) -> None:
        """A call has ended."""
        self.calls -= 1
        if self.calls == 0:
            self.idle.set()

    async def close_when_idle(self, limit_s: float) -> None:
        """Close the tool when nobody is in it any more, after limit_s at the latest."""
        if self.calls:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.idle.wait(), limit_s)
        try:
            await run_contained(self.tool.close(), limit_s)
        except (ToolFaultError, ToolError, TimeoutError) as error:
            log.warning("tool did not close", tool=self.tool.name, why=redact_text(str(error)))


@dataclass(slots=True)
class ToolSlot:
    """Where a tool is put in, taken out and replaced; calls go to whatever is in it at that moment.

    held       : None while it is disabled or could not be made
    quarantine : why it is not asked any more; "" = it is
    """

    name: str
    settings: ToolSettings
    deadlines: Deadlines
    enabled: bool = True
    loaded: LoadedTool | None = None
    quarantine: str = ""
    switch_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    status_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    last_status: ToolStatus | None = None
    last_status_ns: int = 0
    """int64 ns."""
    subjects_by_target: dict[str, set[str]] = field(default_factory=dict)
    """Names of knobs and actions by target, as they were seen since its settings hold."""

    def usable_tool(self) -> LoadedTool:
        """What is to be used right now. Raises RefusedError while disabled or quarantined."""
        if not self.enabled:
            raise RefusedError(f"{self.name} is disabled; enable it first")
        if self.quarantine or self.loaded is None:
            raise RefusedError(f"{self.name} is in quarantine: {self.quarantine or 'it was not made'}")
        return self.loaded

    def record_subjects(self, target: str, subjects: set[str]) -> tuple[str, ...]:
        """Note what a target has; once all are known, the keys of its modes that mean nothing, in words."""
        if target in self.subjects_by_target:
            return ()
        self.subjects_by_target[target] = subjects
        targets = self.targets()
        if not self.subjects_by_target.keys() >= set(targets):
            return ()
        return unused_mode_keys(
            self.settings.mode_by_subject(), targets, set().union(*self.subjects_by_target.values())
        )

    def targets(self) -> Sequence[str]:
        """Names of what may be changed: as the tool says, and as the settings say while it says nothing."""
        try:
            return self.call_sync("targets", lambda tool: tuple(tool.targets))
        except (RefusedError, ToolError):
            return self.settings.targets_of(self.name)

    def call_sync(self, what: str, ask: Callable[[Tool], T]) -> T:
        """What the tool says by itself. Raises what a tool may raise, as `call` does."""
        held = self.usable_tool()
        try:
            return ask(held.tool)
        except ALLOWED_ERRORS:
            raise
        except Exception as error:
            fault = ToolFaultError(f"{type(error).__name__}: {error}")
            self._enter_quarantine(held, what, fault)
            raise ToolError(f"{self.name} failed in {what} and is in quarantine: {fault}") from error

    async def call(
        self, what: str, ask: Callable[[Tool], Coroutine[Any, Any, T]], *, acts: bool = False
    ) -> T:
        """Ask the tool that is in it now, within the outer deadline.

        acts : it may change something: without an answer it is then not known whether it did

        Raises what a tool may raise; what it may not raise puts it into quarantine.
        """
        held = self.usable_tool()
        limit_s = self.deadlines.act_s if acts else self.deadlines.read_s
        unanswered = ToolUncertainError if acts else ToolError
        held.begin_call()
        try:
            return await run_contained(ask(held.tool), limit_s)
        except TimeoutError:
            raise unanswered(f"{self.name} gave no answer to {what} within {limit_s:g} s") from None
        except ToolFaultError as error:
            self._enter_quarantine(held, what, error)
            raise unanswered(f"{self.name} failed in {what} and is in quarantine: {error}") from error
        finally:
            held.end_call()

    def _enter_quarantine(self, held: LoadedTool, what: str, error: ToolFaultError) -> None:
        log.error("tool put into quarantine", tool=self.name, call=what, exc_info=error.__cause__ or error)
        if held is self.loaded:
            self.quarantine = f"{what} raised {redact_text(str(error))}; mend the tool, then enable it again"
            self.last_status = None


class SlotToolProxy:
    """The port Tool over a slot: whoever keeps it still talks to what is in the slot at that moment."""

    def __init__(self, slot: ToolSlot) -> None:
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
        self._require_known_target(target)
        return await self._slot.call("metrics", lambda tool: tool.metrics(target))

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """What can be set. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("knobs", lambda tool: tool.knobs(target))

    async def read(self, target: str, knob: str) -> KnobReading:
        """The value now. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call(f"read {knob}", lambda tool: tool.read(target, knob))

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:
        """Compare and set. Raises ConflictError, RefusedError, ToolError, ToolUncertainError."""
        self._require_permitted_target(target)
        return await self._slot.call(
            f"apply {knob}", lambda tool: tool.apply(target, knob, before, after), acts=True
        )

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:
        """What memory would come to. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("outlook", lambda tool: tool.outlook(target, knob, after))

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """What it can be told to do. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("actions", lambda tool: tool.actions(target))

    async def run(self, target: str, action: str, key: str) -> str:
        """Do it. Raises RefusedError, NotFoundError, ToolError, ToolUncertainError."""
        self._require_permitted_target(target)
        return await self._slot.call(f"run {action}", lambda tool: tool.run(target, action, key), acts=True)

    async def warming_load(self, target: str) -> WarmingLoad | None:
        """What warming would ask of the service behind it. Raises ToolError, RefusedError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("warming", lambda tool: _warming_load(tool, target))

    def command(self, target: str, subject: str, after: Value) -> str:
        """How a person would do it by hand."""
        return self._slot.call_sync("command", lambda tool: tool.command(target, subject, after))

    def grant(self) -> str:
        """How to make the least privileged account that suffices."""
        return self._slot.call_sync("grant", lambda tool: tool.grant())

    async def close(self) -> None:
        """The rack closes what it holds, nobody else does."""

    def _require_known_target(self, target: str) -> None:
        if target not in self.targets:
            raise NotFoundError(f"{self.name} has no target {target!r}; it has {', '.join(self.targets)}")

    def _require_permitted_target(self, target: str) -> None:
        if target not in self.targets:
            raise RefusedError(
                f"{target!r} is not a target of {self.name}: only {', '.join(self.targets)} may be changed; "
                f"name it in tools.{self.name}.targets"
            )


async def _warming_load(tool: Tool, target: str) -> WarmingLoad | None:
    return await tool.warming_load(target) if isinstance(tool, CacheWarmer) else None
