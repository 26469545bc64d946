"""Fakes of the ports Tool, Toolbox and KeyValueStore: in memory and scriptable."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError
from trimtab.engine.ports import TargetView, Tool, ToolView
from trimtab.engine.types import (
    AppliedChange,
    Knob,
    KnobReading,
    KnobType,
    Lasts,
    MemoryOutlook,
    Mode,
    Risk,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
)

SIZE_KNOB = Knob(
    "size", KnobType.INT, unit="B", low=1.0, high=1000.0, step=50.0, warm_up_s=10.0, group="memory"
)
FLUSH_ACTION = ToolAction("flush", "Drops what is cached.", Risk.MEDIUM, reduces=True, idempotent=True)


class FakeKeyValueStore:
    """Key-value store in a dict. While `write_error` is set, every write raises it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.write_error: Exception | None = None

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def set(self, name: str, value: Any) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.values[name] = value


class FakeTool:
    """A tool that keeps its knobs in a dict; its responses can be scripted.

    script       : method name -> results of its next calls: an exception is raised, None gives the normal
                   behaviour, anything else is returned
    after_effect : "apply" or "run" -> exceptions raised after the effect (a lost response)
    gates        : method name -> event that its calls wait for

    >>> import asyncio
    >>> tool = FakeTool(values={"size": 100})
    >>> asyncio.run(tool.apply("fake", "size", 100, 120)).after
    120
    >>> tool.effects
    [('fake', 'size', 120)]
    """

    def __init__(
        self,
        name: str = "fake",
        targets: Sequence[str] | None = None,
        *,
        trial: bool = False,
        knobs: Sequence[Knob] = (SIZE_KNOB,),
        values: Mapping[str, Value] | None = None,
        defaults: Mapping[str, Value] | None = None,
        actions: Sequence[ToolAction] = (FLUSH_ACTION,),
        metrics: Mapping[str, float] | None = None,
        status: ToolStatus | None = None,
    ) -> None:
        self.name = name
        self.targets: Sequence[str] = tuple(targets or (name,))
        self.trial = trial
        self.knobs_by_name = {knob.name: knob for knob in knobs}
        self.defaults = dict(defaults or {})
        given = dict(values or {knob.name: 100 for knob in knobs})
        self.values: dict[tuple[str, str], Value] = {
            (target, knob): value for target in self.targets for knob, value in given.items()
        }
        self.explicitly_set: set[tuple[str, str]] = set()
        self.available_actions = tuple(actions)
        self.metric_values = dict(metrics or {"fake_up": 1.0})
        self.tool_status = status or ToolStatus(ToolState.UP, version="1.0")
        self.script: dict[str, deque[Any]] = {}
        self.after_effect: dict[str, deque[Exception]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.effects: list[tuple[str, str, Value]] = []
        """Changes and actions: (target, knob or action, value or idempotency key)."""
        self.close_count = 0

    def respond_with(self, call: str, *steps: Any) -> None:
        """Script the results of the next calls of a method."""
        self.script.setdefault(call, deque()).extend(steps)

    def fail_after_effect(self, call: str, *errors: Exception) -> None:
        """Raise these errors after the effect of the next calls of a method."""
        self.after_effect.setdefault(call, deque()).extend(errors)

    async def status(self) -> ToolStatus:
        return await self._next_step("status") or self.tool_status

    async def metrics(self, target: str) -> Mapping[str, float]:
        return await self._next_step("metrics", target) or dict(self.metric_values)

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        return await self._next_step("knobs", target) or tuple(self.knobs_by_name.values())

    async def read(self, target: str, knob: str) -> KnobReading:
        scripted = await self._next_step("read", target, knob)
        if scripted is not None:
            return scripted
        at = self._value_key(target, knob)
        return KnobReading(self.values.get(at), at in self.explicitly_set, Lasts.UNTIL_RESTART)

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:
        scripted = await self._next_step("apply", target, knob, before, after)
        if scripted is not None:
            return scripted
        at = self._value_key(target, knob)
        if self.values.get(at) != before:
            raise ConflictError(f"{knob} is {self.values.get(at)!r}, not {before!r}: nothing was changed")
        if after is not None and after in self.knobs_by_name[knob].denied:
            raise RefusedError(f"{after!r} is never applied to {knob}")
        self.values[at] = self.defaults.get(knob) if after is None else after
        (self.explicitly_set.discard if after is None else self.explicitly_set.add)(at)
        self.effects.append((target, knob, after))
        self._raise_after_effect("apply")
        return AppliedChange(before, self.values[at], Lasts.UNTIL_RESTART, f"{knob} {self.values[at]}")

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:
        return await self._next_step("outlook", target, knob, after)

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        return await self._next_step("actions", target) or self.available_actions

    async def run(self, target: str, action: str, key: str) -> str:
        scripted = await self._next_step("run", target, action, key)
        if scripted is not None:
            return scripted
        if action not in {each.name for each in self.available_actions}:
            raise NotFoundError(f"{self.name} has no action {action!r}")
        self.effects.append((target, action, key))
        self._raise_after_effect("run")
        return f"{action} done"

    def command(self, target: str, subject: str, after: Value) -> str:
        return f"fakectl {target} {subject} {after}"

    def grant(self) -> str:
        return f"grant {self.name}"

    async def close(self) -> None:
        await self._next_step("close")
        self.close_count += 1

    def _value_key(self, target: str, knob: str) -> tuple[str, str]:
        if knob not in self.knobs_by_name or target not in self.targets:
            raise NotFoundError(f"{self.name} has no knob {knob!r} of {target!r}")
        return target, knob

    async def _next_step(self, call: str, *arguments: Any) -> Any:
        self.calls.append((call, *arguments))
        if call in self.gates:
            await self.gates[call].wait()
        steps = self.script.get(call)
        step = steps.popleft() if steps else None
        if isinstance(step, BaseException):
            raise step
        return step

    def _raise_after_effect(self, call: str) -> None:
        errors = self.after_effect.get(call)
        if errors:
            raise errors.popleft()


class FakeToolbox:
    """Toolbox of the given tools.

    modes                    : mode of each knob, by tool
    tool_views, target_views : views that replace those of the tools; a name with only a view gets a FakeTool
    """

    def __init__(
        self, *tools: Tool, modes: Mapping[str, Mapping[str, Mode]] | None = None, kind: str = "fake"
    ) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self.modes = dict(modes or {})
        self.kind = kind
        self.disabled: set[str] = set()
        self.tool_views: dict[str, ToolView] = {}
        self.target_views: dict[tuple[str, str], TargetView] = {}

    def names(self) -> Sequence[str]:
        return sorted({*self.tools, *self.tool_views})

    def tool(self, name: str) -> Tool:
        found = self._find_tool(name)
        if name in self.disabled or (name in self.tool_views and not self.tool_views[name].enabled):
            raise RefusedError(f"{name} is disabled; enable it first")
        return found

    async def enable(self, name: str, enabled: bool) -> ToolView:
        self._find_tool(name)
        if name in self.tool_views:
            state = ToolStatus(ToolState.UP if enabled else ToolState.DISABLED)
            self.tool_views[name] = replace(self.tool_views[name], enabled=enabled, status=state)
        else:
            (self.disabled.discard if enabled else self.disabled.add)(name)
        return await self.view(name)

    async def views(self) -> list[ToolView]:
        return [await self.view(name) for name in self.names()]

    async def view(self, name: str) -> ToolView:
        tool, enabled = self._find_tool(name), name not in self.disabled
        if name in self.tool_views:
            return self.tool_views[name]
        status = await tool.status() if enabled else ToolStatus(ToolState.DISABLED)
        modes = {"*": Mode.RECOMMEND, **self.modes.get(name, {})}
        return ToolView(name, self.kind, enabled, tool.trial, status, modes, tool.targets)

    async def target(self, name: str, target: str) -> TargetView:
        if (name, target) in self.target_views:
            return self.target_views[name, target]
        tool = self._find_tool(name)
        if name in self.tool_views or target not in tool.targets:
            raise NotFoundError(f"{name} has no target {target!r}")
        knobs = [(knob, await tool.read(target, knob.name)) for knob in await tool.knobs(target)]
        view = TargetView(name, target, await tool.metrics(target), knobs, await tool.actions(target))
        return replace(view, problem="disabled") if name in self.disabled else view

    def _find_tool(self, name: str) -> Tool:
        if name in self.tools:
            return self.tools[name]
        if name in self.tool_views:
            return FakeTool(name)
        raise NotFoundError(f"there is no tool {name!r}; configured: {', '.join(self.names())}")
