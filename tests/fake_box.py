"""A box of tools in memory, as a test sets it."""

from collections.abc import Sequence
from dataclasses import replace

from trimtab.engine.errors import NotFoundError, RefusedError
from trimtab.engine.ports import TargetView, ToolView
from trimtab.engine.types import ToolState, ToolStatus


class FakeTool:
    """What the API asks of a tool itself."""

    def grant(self) -> str:
        return "ACL SETUSER trimtab on >PASSWORD +info +config|get +config|set"


class FakeToolbox:
    """Tools as a test sets them."""

    def __init__(self) -> None:
        self.tools: dict[str, ToolView] = {}
        self.targets: dict[tuple[str, str], TargetView] = {}

    def names(self) -> Sequence[str]:
        return sorted(self.tools)

    def tool(self, name: str) -> FakeTool:
        if not self._view(name).enabled:
            raise RefusedError(f"{name} is disabled")
        return FakeTool()

    async def enable(self, name: str, enabled: bool) -> ToolView:
        state = ToolStatus(ToolState.UP if enabled else ToolState.DISABLED)
        self.tools[name] = replace(self._view(name), enabled=enabled, status=state)
        return self.tools[name]

    async def views(self) -> list[ToolView]:
        return [self.tools[name] for name in self.names()]

    async def view(self, name: str) -> ToolView:
        return self._view(name)

    def _view(self, name: str) -> ToolView:
        if name not in self.tools:
            raise NotFoundError(f"there is no tool {name!r}")
        return self.tools[name]

    async def target(self, name: str, target: str) -> TargetView:
        if (name, target) not in self.targets:
            raise NotFoundError(f"{name} has no target {target!r}")
        return self.targets[name, target]
