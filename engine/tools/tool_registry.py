"""The tools that are configured: fetched by name at each use, switched and replaced while running."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from trimtab.engine.errors import NotFoundError, RefusedError, ToolError
from trimtab.engine.ports import Clock, TargetView, Tool, ToolView
from trimtab.engine.redaction import clean_text
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.tools import tool_catalogue
from trimtab.engine.tools.mode_check import subjects_of
from trimtab.engine.tools.tool_slot import Deadlines, Held, Slot, SlotTool
from trimtab.engine.types import Knob, KnobReading

log = structlog.get_logger(__name__)
STATUS_AGE_S = 5.0


class Memory(Protocol):
    """Single values that outlive a restart, as JSON; called in a thread. Raises StoreError."""

    def get(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """What was set; None = nothing was."""
        ...

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - as above
        """Remember it; durable when it returns."""
        ...


class Rack:
    """The port Toolbox.

    settings  : by name of the tool, as `Settings.tools`
    memory    : where it is kept which tools a person has switched on or off
    build     : (name, settings) -> a tool that is not connected yet; may be slow, runs in a thread
    """

    def __init__(
        self,
        settings: Mapping[str, ToolSettings],
        memory: Memory,
        clock: Clock,
        build: Callable[[str, ToolSettings], Tool] = tool_catalogue.build,
        deadlines: Deadlines | None = None,
        status_age_s: float = STATUS_AGE_S,
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._memory = memory
        self._clock = clock
        self._build = build
        self._status_age_ns = round(status_age_s * 1e9)
        self._slots = {name: Slot(name, part, self._deadlines) for name, part in settings.items()}
        self._retiring: set[asyncio.Task[None]] = set()

    async def open(self) -> "Rack":
        """Put every tool in that is switched on; connects to nothing. Raises StoreError."""
        for slot in self._slots.values():
            async with slot.switching:
                await self._put_in(slot)
        return self

    async def close(self) -> None:
        """Take every tool out and wait until all are closed."""
        for slot in self._slots.values():
            async with slot.switching:
                self._take_out(slot)
        while self._retiring:
            await asyncio.wait(self._retiring)

    async def reload(self, settings: Mapping[str, ToolSettings]) -> None:
        """Go on with these: what is new comes, what is gone goes, what has changed is replaced.

        A call that is under way ends where it began. Raises StoreError.
        """
        for name in [name for name in self._slots if name not in settings]:
            slot = self._slots.pop(name)
            async with slot.switching:
                slot.quarantine = "it is not configured any more"
                self._take_out(slot)
        for name, part in settings.items():
            slot = self._slots.setdefault(name, Slot(name, part, self._deadlines))
            async with slot.switching:
                if slot.held is None or slot.settings != part:
                    slot.settings = part
                    await self._put_in(slot)

    def names(self) -> Sequence[str]:
        """Of all that are configured, sorted."""
        return sorted(self._slots)

    def tool(self, name: str) -> Tool:
        """The tool to be used right now. Raises NotFoundError; RefusedError while disabled or quarantined."""
        slot = self._slot(name)
        slot.current()
        return SlotTool(slot)

    async def enable(self, name: str, enabled: bool) -> ToolView:
        """Switch it; enabling ends a quarantine. Durable. Raises NotFoundError, StoreError."""
        slot = self._slot(name)
        async with slot.switching:
            word = {"enabled": enabled, "settings": slot.settings.enabled}
            await asyncio.to_thread(self._memory.set, _switch(name), word)
            if not enabled or slot.quarantine or slot.held is None:
                await self._put_in(slot)
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
        tool = SlotTool(slot)
        try:
            async with asyncio.timeout(self._deadlines.read_s):
                seen = replace(seen, metrics=await tool.metrics(target))
                seen = replace(seen, actions=await tool.actions(target))
                knobs = await tool.knobs(target)
                seen = replace(seen, knobs=[(knob, None) for knob in knobs])
                seen = replace(seen, knobs=[await _reading(tool, target, knob) for knob in knobs])
        except (ToolError, RefusedError) as error:
            return replace(seen, problem=str(error))
        except TimeoutError:
            return replace(seen, problem=f"{name} did not answer all in {self._deadlines.read_s:g} s")
        for words in slot.seen(target, subjects_of(seen)):
            log.warning("a mode is without effect", tool=name, why=words)
        return seen

    def _slot(self, name: str) -> Slot:
        if name not in self._slots:
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"no tool is called {name!r}; there are: {known}")
        return self._slots[name]

    async def _put_in(self, slot: Slot) -> None:
        """A fresh tool in place of what is there, unless it is switched off."""
        slot.enabled = await self._switched_on(slot)
        fresh = await self._made(slot) if slot.enabled else None
        self._take_out(slot)
        slot.held, slot.subjects = fresh, {}
        if fresh is not None:
            slot.quarantine = ""

    async def _made(self, slot: Slot) -> Held | None:
        try:
            return Held(await asyncio.to_thread(self._build, slot.name, slot.settings))
        except Exception as error:
            log.exception("tool could not be made", tool=slot.name)
            slot.quarantine = f"it could not be made: {_needed(slot.settings.kind, error)}"
            return None

    async def _switched_on(self, slot: Slot) -> bool:
        """A person's word holds until the settings say something new."""
        word = await asyncio.to_thread(self._memory.get, _switch(slot.name))
        if isinstance(word, dict) and word.get("settings") == slot.settings.enabled:
            return bool(word.get("enabled"))
        return slot.settings.enabled

    def _take_out(self, slot: Slot) -> None:
        held, slot.held, slot.status = slot.held, None, None
        if held is not None:
            task = asyncio.create_task(held.retire(self._deadlines.act_s))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _view(self, slot: Slot) -> ToolView:
        async with slot.asking:
            now = self._clock.now()
            if slot.status is None or now - slot.status_time > self._status_age_ns:
                held = slot.held
                status = await SlotTool(slot).status()
                if held is slot.held:
                    slot.status, slot.status_time = status, now
            else:
                status = slot.status
        part = slot.settings
        return ToolView(slot.name, part.kind, slot.enabled, part.trial, status, part.modes(), slot.targets())


async def _reading(tool: Tool, target: str, knob: Knob) -> tuple[Knob, KnobReading | None]:
    try:
        return knob, await tool.read(target, knob.name)
    except NotFoundError:
        return knob, None


def _switch(name: str) -> str:
    return f"tool.{name}.enabled"


def _needed(kind: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; pip install 'trimtab[{kind}]'"
    return clean_text(f"{type(error).__name__}: {error}")
