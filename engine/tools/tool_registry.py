"""The tools that are configured: fetched by name at each use, switched and replaced while running."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from trimtab.engine.errors import NotFoundError, RefusedError, ToolError
from trimtab.engine.ports import Clock, TargetView, Tool, ToolView
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.tools import tool_catalogue
from trimtab.engine.tools.mode_check import subject_names
from trimtab.engine.tools.tool_slot import Deadlines, LoadedTool, SlotToolProxy, ToolSlot
from trimtab.engine.types import Knob, KnobReading

log = structlog.get_logger(__name__)
MAX_STATUS_AGE_S = 5.0


class Memory(Protocol):
    """Single values that outlive a restart, as JSON; called in a thread. Raises StoreError."""

    def get(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """What was set; None = nothing was."""
        ...

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - as above
        """Remember it; durable when it returns."""
        ...


class ToolRegistry:
    """The port Toolbox.

    settings  : by name of the tool, as `Settings.tools`
    memory    : where it is kept which tools a person has switched on or off
    build     : (name, settings) -> a tool that is not connected yet; may be slow, runs in a thread
    """

    def __init__(
        self,
        settings: Mapping[str, ToolSettings],
        switches: Memory,
        clock: Clock,
        build: Callable[[str, ToolSettings], Tool] = tool_catalogue.build,
        deadlines: Deadlines | None = None,
        status_age_s: float = MAX_STATUS_AGE_S,
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._switches = switches
        self._clock = clock
        self._build = build
        self._status_age_ns = round(status_age_s * 1e9)
        self._slots = {name: ToolSlot(name, part, self._deadlines) for name, part in settings.items()}
        self._closing_tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> "ToolRegistry":
        """Put every tool in that is switched on; connects to nothing. Raises StoreError."""
        for slot in self._slots.values():
            async with slot.switch_lock:
                await self._load(slot)
        return self

    async def close(self) -> None:
        """Take every tool out and wait until all are closed."""
        for slot in self._slots.values():
            async with slot.switch_lock:
                self._unload(slot)
        while self._closing_tasks:
            await asyncio.wait(self._closing_tasks)

    async def reload(self, settings: Mapping[str, ToolSettings]) -> None:
        """Go on with these: what is new comes, what is gone goes, what has changed is replaced.

        A call that is under way ends where it began. Raises StoreError.
        """
        for name in [name for name in self._slots if name not in settings]:
            slot = self._slots.pop(name)
            async with slot.switch_lock:
                slot.quarantine = "it is not configured any more"
                self._unload(slot)
        for name, part in settings.items():
            slot = self._slots.setdefault(name, ToolSlot(name, part, self._deadlines))
            async with slot.switch_lock:
                if slot.loaded is None or slot.settings != part:
                    slot.settings = part
                    await self._load(slot)

    def names(self) -> Sequence[str]:
        """Of all that are configured, sorted."""
        return sorted(self._slots)

    def tool(self, name: str) -> Tool:
        """The tool to be used right now. Raises NotFoundError; RefusedError while disabled or quarantined."""
        slot = self._slot(name)
        slot.usable_tool()
        return SlotToolProxy(slot)

    async def enable(self, name: str, enabled: bool) -> ToolView:
        """Switch it; enabling ends a quarantine. Durable. Raises NotFoundError, StoreError."""
        slot = self._slot(name)
        async with slot.switch_lock:
            word = {"enabled": enabled, "settings": slot.settings.enabled}
            await asyncio.to_thread(self._switches.set, _switch_key(name), word)
            if not enabled or slot.quarantine or slot.loaded is None:
                await self._load(slot)
        return await self.view(name)

    async def views(self) -> list[ToolView]:
        """All, by name, with a status that is a few seconds old at most."""
        return list(await asyncio.gather(*(self._view(self._slots[name]) for name in self.names())))

    async def view(self, name: str) -> ToolView:
        """One of them. Raises NotFoundError."""
        return await self._view(self._slot(name))

    async def target(self, name: str, target: str) -> TargetView:
        """What is known of one target now. Raises NotFoundError."""
        slot = self._slot(name)
        seen = TargetView(name, target, {}, (), ())
        tool = SlotToolProxy(slot)
        try:
            async with asyncio.timeout(self._deadlines.read_s):
                seen = replace(seen, metrics=await tool.metrics(target))
                seen = replace(seen, actions=await tool.actions(target))
                knobs = await tool.knobs(target)
                seen = replace(seen, knobs=[(knob, None) for knob in knobs])
                seen = replace(seen, knobs=[await _read_knob(tool, target, knob) for knob in knobs])
        except (ToolError, RefusedError) as error:
            return replace(seen, problem=str(error))
        except TimeoutError:
            return replace(seen, problem=f"{name} did not answer all in {self._deadlines.read_s:g} s")
        for words in slot.record_subjects(target, subject_names(seen)):
            log.warning("a mode is without effect", tool=name, why=words)
        return seen

    def _slot(self, name: str) -> ToolSlot:
        if name not in self._slots:
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"no tool is called {name!r}; there are: {known}")
        return self._slots[name]

    async def _load(self, slot: ToolSlot) -> None:
        """A fresh tool in place of what is there, unless it is switched off."""
        slot.enabled = await self._is_switched_on(slot)
        fresh = await self._build_tool(slot) if slot.enabled else None
        self._unload(slot)
        slot.loaded, slot.subjects_by_target = fresh, {}
        if fresh is not None:
            slot.quarantine = ""

    async def _build_tool(self, slot: ToolSlot) -> LoadedTool | None:
        try:
            return LoadedTool(await asyncio.to_thread(self._build, slot.name, slot.settings))
        except Exception as error:
            log.exception("tool could not be made", tool=slot.name)
            slot.quarantine = f"it could not be made: {_build_problem(slot.settings.kind, error)}"
            return None

    async def _is_switched_on(self, slot: ToolSlot) -> bool:
        """A person's word holds until the settings say something new."""
        word = await asyncio.to_thread(self._switches.get, _switch_key(slot.name))
        if isinstance(word, dict) and word.get("settings") == slot.settings.enabled:
            return bool(word.get("enabled"))
        return slot.settings.enabled

    def _unload(self, slot: ToolSlot) -> None:
        held, slot.loaded, slot.last_status = slot.loaded, None, None
        if held is not None:
            task = asyncio.create_task(held.close_when_idle(self._deadlines.act_s))
            self._closing_tasks.add(task)
            task.add_done_callback(self._closing_tasks.discard)

    async def _view(self, slot: ToolSlot) -> ToolView:
        async with slot.status_lock:
            now = self._clock.now()
            if slot.last_status is None or now - slot.last_status_ns > self._status_age_ns:
                held = slot.loaded
                status = await SlotToolProxy(slot).status()
                if held is slot.loaded:
                    slot.last_status, slot.last_status_ns = status, now
            else:
                status = slot.last_status
        part = slot.settings
        return ToolView(
            slot.name, part.kind, slot.enabled, part.trial, status, part.mode_by_subject(), slot.targets()
        )


async def _read_knob(tool: Tool, target: str, knob: Knob) -> tuple[Knob, KnobReading | None]:
    try:
        return knob, await tool.read(target, knob.name)
    except NotFoundError:
        return knob, None


def _switch_key(name: str) -> str:
    return f"tool.{name}.enabled"


def _build_problem(kind: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; pip install 'trimtab[{kind}]'"
    return redact_text(f"{type(error).__name__}: {error}")
