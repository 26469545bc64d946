"""Tool slot: the tool that is loaded under a name, the calls running on it, and its quarantine."""

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
    """Outer limits of a call in seconds: reads, and changes or actions. A tool's own limits are shorter."""

    read_s: float = 10.0
    act_s: float = 30.0


@dataclass(slots=True)
class LoadedTool:
    """A tool and the number of calls that run on it."""

    tool: Tool
    calls: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def begin_call(self) -> None:
        """Count a call that starts."""
        self.calls += 1
        self.idle.clear()

    def end_call(self) -> None:
        """Count a call that has ended."""
        self.calls -= 1
        if self.calls == 0:
            self.idle.set()

    async def close_when_idle(self, timeout_s: float) -> None:
        """Close the tool when no call runs on it any more, at the latest after `timeout_s`."""
        if self.calls:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.idle.wait(), timeout_s)
        try:
            await run_contained(self.tool.close(), timeout_s)
        except (ToolFaultError, ToolError, TimeoutError) as error:
            log.warning("tool_close_failed", tool=self.tool.name, error=redact_text(str(error)))


@dataclass(slots=True)
class ToolSlot:
    """Holder of one tool, which can be loaded, unloaded and replaced; each call uses the tool loaded then.

    loaded     : None while the tool is disabled or could not be built
    quarantine : why the tool is not called; "" = not quarantined
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
    """Time of `last_status`, int64 ns UTC."""
    subjects_by_target: dict[str, set[str]] = field(default_factory=dict)
    """Target -> names of its knobs and actions, collected since the settings last changed."""

    def usable_tool(self) -> LoadedTool:
        """Return the loaded tool. Raises RefusedError while it is disabled or quarantined."""
        if not self.enabled:
            raise RefusedError(f"{self.name} is disabled; enable it first")
        if self.quarantine or self.loaded is None:
            raise RefusedError(f"{self.name} is in quarantine: {self.quarantine or 'it was not built'}")
        return self.loaded

    def record_subjects(self, target: str, subjects: set[str]) -> tuple[str, ...]:
        """Record a target's knobs and actions; once all targets are known, return the unused mode keys."""
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
        """Return the tool's target names; those of the settings when the tool cannot be asked."""
        try:
            return self.call_sync("targets", lambda tool: tuple(tool.targets))
        except (RefusedError, ToolError):
            return self.settings.targets_of(self.name)

    def call_sync(self, what: str, function: Callable[[Tool], T]) -> T:
        """Call a synchronous method of the tool. Raises as `call` does."""
        loaded = self.usable_tool()
        try:
            return function(loaded.tool)
        except ALLOWED_ERRORS:
            raise
        except Exception as error:
            fault = ToolFaultError(f"{type(error).__name__}: {error}")
            self._enter_quarantine(loaded, what, fault)
            raise ToolError(f"{self.name} failed in {what} and is in quarantine: {fault}") from error

    async def call(
        self, what: str, function: Callable[[Tool], Coroutine[Any, Any, T]], *, acts: bool = False
    ) -> T:
        """Call a method of the tool within the outer deadline.

        what : name of the call, for messages
        acts : whether the call may change something; a missing answer is then uncertain

        Raises what a tool may raise; any other exception puts the tool into quarantine.
        """
        loaded = self.usable_tool()
        timeout_s = self.deadlines.act_s if acts else self.deadlines.read_s
        error_class = ToolUncertainError if acts else ToolError
        loaded.begin_call()
        try:
            return await run_contained(function(loaded.tool), timeout_s)
        except TimeoutError:
            raise error_class(f"{self.name} gave no answer to {what} within {timeout_s:g} s") from None
        except ToolFaultError as error:
            self._enter_quarantine(loaded, what, error)
            raise error_class(f"{self.name} failed in {what} and is in quarantine: {error}") from error
        finally:
            loaded.end_call()

    def _enter_quarantine(self, loaded: LoadedTool, what: str, error: ToolFaultError) -> None:
        log.error("tool_quarantined", tool=self.name, call=what, exc_info=error.__cause__ or error)
        if loaded is self.loaded:
            self.quarantine = f"{what} raised {redact_text(str(error))}; fix the tool, then enable it again"
            self.last_status = None


class SlotToolProxy:
    """Implementation of the port Tool that forwards each call to the tool loaded in a slot at that moment."""

    def __init__(self, slot: ToolSlot) -> None:
        self._slot = slot
        self.name = slot.name
        self.targets = slot.targets()
        self.trial = slot.settings.trial

    async def status(self) -> ToolStatus:
        """Return the tool's state. Raises nothing."""
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
        """Return the metrics by name. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("metrics", lambda tool: tool.metrics(target))

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """Return the knobs. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("knobs", lambda tool: tool.knobs(target))

    async def read(self, target: str, knob: str) -> KnobReading:
        """Return a knob's current value. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call(f"read {knob}", lambda tool: tool.read(target, knob))

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:
        """Compare and set a knob. Raises ConflictError, RefusedError, ToolError, ToolUncertainError."""
        self._require_permitted_target(target)
        return await self._slot.call(
            f"apply {knob}", lambda tool: tool.apply(target, knob, before, after), acts=True
        )

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:
        """Return the projected memory use of a value. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("outlook", lambda tool: tool.outlook(target, knob, after))

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """Return the actions. Raises ToolError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("actions", lambda tool: tool.actions(target))

    async def run(self, target: str, action: str, key: str) -> str:
        """Run an action. Raises RefusedError, NotFoundError, ToolError, ToolUncertainError."""
        self._require_permitted_target(target)
        return await self._slot.call(f"run {action}", lambda tool: tool.run(target, action, key), acts=True)

    async def warming_load(self, target: str) -> WarmingLoad | None:
        """Return the load that warming puts on the origin. Raises ToolError, RefusedError, NotFoundError."""
        self._require_known_target(target)
        return await self._slot.call("warming", lambda tool: _warming_load(tool, target))

    def command(self, target: str, subject: str, after: Value) -> str:
        """Return the command with which a person makes the same change."""
        return self._slot.call_sync("command", lambda tool: tool.command(target, subject, after))

    def grant(self) -> str:
        """Return the commands that create a least-privileged account."""
        return self._slot.call_sync("grant", lambda tool: tool.grant())

    async def close(self) -> None:
        """Do nothing: the registry closes the tools it loaded."""

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
