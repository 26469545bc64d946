"""Tool registry: the configured tools, fetched by name at each use, switched and replaced at run time."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from trimtab.engine.errors import NotFoundError, RefusedError, ToolError
from trimtab.engine.ports import Clock, KeyValueStore, TargetView, Tool, ToolView
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.tools import tool_catalogue
from trimtab.engine.tools.mode_check import subject_names
from trimtab.engine.tools.tool_slot import Deadlines, LoadedTool, SlotToolProxy, ToolSlot
from trimtab.engine.types import Knob, KnobReading

log = structlog.get_logger(__name__)
MAX_STATUS_AGE_S = 5.0


class ToolRegistry:
    """Implementation of the port Toolbox.

    settings     : tool name -> settings, as `Settings.tools`
    switches     : where the operators' enable and disable choices are stored
    build        : (name, settings) -> a tool that is not connected; may be slow, runs in a thread
    deadlines    : outer limits of all calls
    status_age_s : how long a status is reused, seconds
    """

    def __init__(
        self,
        settings: Mapping[str, ToolSettings],
        switches: KeyValueStore,
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
        self._slots = {name: ToolSlot(name, each, self._deadlines) for name, each in settings.items()}
        self._closing_tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> "ToolRegistry":
        """Build every enabled tool, without connecting it. Raises StoreError."""
        for slot in self._slots.values():
            async with slot.switch_lock:
                await self._load(slot)
        return self

    async def close(self) -> None:
        """Unload every tool and wait until all are closed."""
        for slot in self._slots.values():
            async with slot.switch_lock:
                self._unload(slot)
        while self._closing_tasks:
            await asyncio.wait(self._closing_tasks)

    async def reload(self, settings: Mapping[str, ToolSettings]) -> None:
        """Apply new settings: add new tools, remove missing ones and replace changed ones.

        Running calls finish on the tool they started on. Raises StoreError.
        """
        for name in [name for name in self._slots if name not in settings]:
            slot = self._slots.pop(name)
            async with slot.switch_lock:
                slot.quarantine = "it is no longer configured"
                self._unload(slot)
        for name, tool_settings in settings.items():
            slot = self._slots.setdefault(name, ToolSlot(name, tool_settings, self._deadlines))
            async with slot.switch_lock:
                if slot.loaded is None or slot.settings != tool_settings:
                    slot.settings = tool_settings
                    await self._load(slot)

    def names(self) -> Sequence[str]:
        """Return the names of all configured tools, sorted."""
        return sorted(self._slots)

    def tool(self, name: str) -> Tool:
        """Return a tool. Raises NotFoundError, RefusedError while it is disabled or quarantined."""
        slot = self._slot(name)
        slot.usable_tool()
        return SlotToolProxy(slot)

    async def enable(self, name: str, enabled: bool) -> ToolView:
        """Enable or disable a tool durably; enabling ends a quarantine. Raises NotFoundError, StoreError."""
        slot = self._slot(name)
        async with slot.switch_lock:
            choice = {"enabled": enabled, "settings": slot.settings.enabled}
            await asyncio.to_thread(self._switches.set, _switch_key(name), choice)
            if not enabled or slot.quarantine or slot.loaded is None:
                await self._load(slot)
        return await self.view(name)

    async def views(self) -> list[ToolView]:
        """Return all tools, sorted by name, with a status that is at most a few seconds old."""
        return list(await asyncio.gather(*(self._view(self._slots[name]) for name in self.names())))

    async def view(self, name: str) -> ToolView:
        """Return one tool. Raises NotFoundError."""
        return await self._view(self._slot(name))

    async def target(self, name: str, target: str) -> TargetView:
        """Return the metrics, knobs and actions of one target. Raises NotFoundError."""
        slot = self._slot(name)
        view = TargetView(name, target, {}, (), ())
        tool = SlotToolProxy(slot)
        try:
            async with asyncio.timeout(self._deadlines.read_s):
                view = replace(view, metrics=await tool.metrics(target))
                view = replace(view, actions=await tool.actions(target))
                knobs = await tool.knobs(target)
                view = replace(view, knobs=[(knob, None) for knob in knobs])
                view = replace(view, knobs=[await _read_knob(tool, target, knob) for knob in knobs])
        except (ToolError, RefusedError) as error:
            return replace(view, problem=str(error))
        except TimeoutError:
            return replace(
                view, problem=f"{name} did not answer all requests within {self._deadlines.read_s:g} s"
            )
        for problem in slot.record_subjects(target, subject_names(view)):
            log.warning("mode_without_effect", tool=name, reason=problem)
        return view

    def _slot(self, name: str) -> ToolSlot:
        if name not in self._slots:
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"there is no tool {name!r}; configured: {known}")
        return self._slots[name]

    async def _load(self, slot: ToolSlot) -> None:
        """Replace the slot's tool by a new one, or by none when the tool is disabled."""
        slot.enabled = await self._is_switched_on(slot)
        loaded = await self._build_tool(slot) if slot.enabled else None
        self._unload(slot)
        slot.loaded, slot.subjects_by_target = loaded, {}
        if loaded is not None:
            slot.quarantine = ""

    async def _build_tool(self, slot: ToolSlot) -> LoadedTool | None:
        try:
            return LoadedTool(await asyncio.to_thread(self._build, slot.name, slot.settings))
        except Exception as error:
            log.exception("tool_build_failed", tool=slot.name)
            slot.quarantine = f"it could not be built: {_build_problem(slot.settings.kind, error)}"
            return None

    async def _is_switched_on(self, slot: ToolSlot) -> bool:
        """Return the operator's choice; it applies until the setting `enabled` changes."""
        choice = await asyncio.to_thread(self._switches.get, _switch_key(slot.name))
        if isinstance(choice, dict) and choice.get("settings") == slot.settings.enabled:
            return bool(choice.get("enabled"))
        return slot.settings.enabled

    def _unload(self, slot: ToolSlot) -> None:
        loaded, slot.loaded, slot.last_status = slot.loaded, None, None
        if loaded is not None:
            task = asyncio.create_task(loaded.close_when_idle(self._deadlines.act_s))
            self._closing_tasks.add(task)
            task.add_done_callback(self._closing_tasks.discard)

    async def _view(self, slot: ToolSlot) -> ToolView:
        async with slot.status_lock:
            now = self._clock.now()
            if slot.last_status is None or now - slot.last_status_ns > self._status_age_ns:
                loaded = slot.loaded
                status = await SlotToolProxy(slot).status()
                if loaded is slot.loaded:
                    slot.last_status, slot.last_status_ns = status, now
            else:
                status = slot.last_status
        settings = slot.settings
        return ToolView(
            slot.name, settings.kind, slot.enabled, settings.trial, status, settings.mode_by_subject(),
            slot.targets(),
        )  # fmt: skip


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
