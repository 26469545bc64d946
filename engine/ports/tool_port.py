"""Ports of managed tools."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from trimtab.engine.types import (
    AppliedChange,
    Knob,
    KnobReading,
    MemoryOutlook,
    ToolAction,
    ToolStatus,
    Value,
    WarmingLoad,
)


class Tool(Protocol):
    """A managed system, such as a Redis server, a PostgreSQL server or the processes of a PM2.

    Every call ends within a total deadline (10 s; `run` and `apply` 30 s) and raises ToolError if it got no
    answer; ToolUncertainError if the change may still have taken effect, so that it is never sent again
    blindly. Unknown values are None or absent, never guessed.
    """

    name: str
    """Name in the settings, unique."""
    targets: Sequence[str]
    """Names of what may be changed; one for a single server. Other targets are refused."""
    trial: bool
    """Whether this is a loopback target declared as a trial, for which guard rules may be shortened."""

    async def status(self) -> ToolStatus:
        """Return the state. Never raises."""
        ...

    async def metrics(self, target: str) -> Mapping[str, float]:
        """Return metrics by Prometheus-style name, in base units (bytes, seconds, ratio 0..1)."""
        ...

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """Return the knobs with their current bounds."""
        ...

    async def read(self, target: str, knob: str) -> KnobReading:
        """Return the current value. Raises NotFoundError for an unknown knob."""
        ...

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:
        """Set a knob whose value is `before` and read it back; after = None resets it to the default.

        Raises ConflictError if the value is not `before` (nothing is changed), RefusedError with the
        calculation if the tool's own rules forbid the value.
        """
        ...

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:
        """Return the estimated memory use with the value `after`; None = not affected, or unknown."""
        ...

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """Return the actions that can be run."""
        ...

    async def run(self, target: str, action: str, key: str) -> str:
        """Run an action and return its result in one line. `key` is the idempotency key for the tool."""
        ...

    def command(self, target: str, subject: str, after: Value) -> str:
        """Return the command for doing it by hand: a redis-cli line, an SQL statement, a shell command."""
        ...

    def grant(self) -> str:
        """Return the commands that create the least privileged account the tool needs."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


@runtime_checkable
class CacheWarmer(Protocol):
    """Optional port of a tool that can warm a cache through the service behind it."""

    async def warming_load(self, target: str) -> WarmingLoad | None:
        """Return the load that warming would add to that service; None = nothing to warm."""
        ...
