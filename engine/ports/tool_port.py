"""Managed tools: what can be read of them, changed in them, and told to them."""

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
    """One managed system, such as a Redis, a PostgreSQL, the processes of a PM2.

    Every call ends within its own total deadline (10 s; `run` and `apply` 30 s) and raises ToolError where
    it did not come to an answer: ToolUncertainError where a change may have taken effect all the same, so
    that it is never blindly sent again. A tool never guesses: what it does not know is None or not there.
    """

    name: str
    """As in the settings; unique."""
    targets: Sequence[str]
    """Names of what may be changed; one for a single server. A target that is not in it is refused."""
    trial: bool
    """A loopback target that the settings call a trial: guardrails may be scaled for it."""

    async def status(self) -> ToolStatus:
        """How it does. Raises nothing."""
        ...

    async def metrics(self, target: str) -> Mapping[str, float]:
        """Figures by Prometheus-like name, in base units (bytes, seconds, ratio 0..1)."""
        ...

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """What can be set, with the bounds that hold now."""
        ...

    async def read(self, target: str, knob: str) -> KnobReading:
        """The value now. Raises NotFoundError for a knob that it does not have."""
        ...

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:
        """Set a knob whose value is `before`, and read it back; after = None resets it to the default.

        Raises ConflictError where the value is another (nothing is changed), RefusedError where the tool's
        own rules forbid it, saying the sum.
        """
        ...

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:
        """What memory would come to with that value; None = the knob has no part in it, or nobody knows."""
        ...

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """What it can be told to do."""
        ...

    async def run(self, target: str, action: str, key: str) -> str:
        """Do it, and say in one line what came of it. `key` is passed on where the tool takes one."""
        ...

    def command(self, target: str, subject: str, after: Value) -> str:
        """How a person would do it by hand: a redis-cli line, an SQL statement, a shell command."""
        ...

    def grant(self) -> str:
        """How to make the least privileged account that suffices, as text to run."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class CacheWarmer(Protocol):
    """A tool that can fill a cache through the service behind it; not every tool has this."""

    async def warming_load(self, target: str) -> WarmingLoad | None:
        """What warming would ask of that service, and how it does now; None = nothing is to be warmed."""
        ...
