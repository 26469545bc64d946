"""What people and programs can ask of the acting part: the desk, and the box of tools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from trimtab.engine.ports.tool_port import Tool
from trimtab.engine.types import (
    Action,
    Incident,
    Knob,
    KnobReading,
    Mode,
    Pause,
    Recommendation,
    ToolAction,
    ToolStatus,
    Value,
)


class OperatorDecisions(Protocol):
    """Decisions of people. `by` is the name of the key; `key` is the request's idempotency key.

    Guardrails hold for people, too, but for those that ask for a person (mode, persistence, start-up). Raises
    NotFoundError, ConflictError (somebody was quicker, or the value has changed), RefusedError with the
    guard's reason, StoreError where it cannot be written down: then nothing is done.
    """

    async def approve(self, recommendation_id: str, by: str) -> Recommendation:
        """Let it be done as soon as the guardrails allow. The approver may not be its proposer."""
        ...

    async def dismiss(self, recommendation_id: str, by: str, reason: str) -> Recommendation:
        """It will not be done; the reason is learnt from."""
        ...

    async def schedule(self, recommendation_id: str, by: str, at: int) -> Recommendation:
        """Let it be done at a time, int64 ns."""
        ...

    async def apply(self, recommendation_id: str, by: str, key: str) -> Action:
        """Do it now."""
        ...

    async def roll_back(self, action_id: str, by: str, key: str) -> Action:
        """Take an action back: to the exact value before, if the value is still ours."""
        ...

    async def run(self, tool: str, target: str, action: str, by: str, key: str) -> Action:
        """Tell a tool to do something, once."""
        ...

    async def set_knob(
        self, tool: str, target: str, knob: str, before: Value, after: Value, by: str, key: str
    ) -> Action:
        """Change a setting by hand, where its value is still `before`."""
        ...

    async def pause(self, by: str, reason: str) -> Pause:
        """Nothing acts any more, from within a second, until a person says so."""
        ...

    async def resume(self, by: str, reason: str) -> Pause:
        """Acting is allowed again."""
        ...


class IncidentActions(Protocol):
    """What people say and do about incidents. `by` is the name of the key.

    Raises NotFoundError, ConflictError where the state of the incident does not allow it (one that was merged
    into another is not touched any more), StoreError.
    """

    async def acknowledge(self, incident_id: str, by: str, note: str = "") -> Incident:
        """Somebody looks after it."""
        ...

    async def resolve(self, incident_id: str, by: str, note: str = "") -> Incident:
        """It is over, or is no trouble."""
        ...

    async def reopen(self, incident_id: str, by: str, note: str = "") -> Incident:
        """It is not over."""
        ...

    async def merge(self, incident_id: str, into: str, by: str) -> Incident:
        """The anomalies of `incident_id` belong to `into`; gives that one back."""
        ...

    async def split(self, incident_id: str, anomaly_ids: Sequence[str], by: str) -> Incident:
        """These anomalies (some of its, not all) are another incident; gives the new one back."""
        ...


@dataclass(frozen=True, slots=True)
class ToolView:
    """A tool as people see it; figures, knobs and actions by target."""

    name: str
    kind: str
    enabled: bool
    trial: bool
    status: ToolStatus
    modes: Mapping[str, Mode]
    """By subject (knob or action); "*" = all others."""
    targets: Sequence[str]


@dataclass(frozen=True, slots=True)
class TargetView:
    """One target of a tool, as it is now. What could not be read is left out, and `problem` says why."""

    tool: str
    target: str
    metrics: Mapping[str, float]
    knobs: Sequence[tuple[Knob, KnobReading | None]]
    actions: Sequence[ToolAction]
    problem: str = ""


class Toolbox(Protocol):
    """The tools, fetched by name at each use, enabled and disabled while running."""

    def names(self) -> Sequence[str]:
        """Of all that are configured, by name."""
        ...

    def tool(self, name: str) -> Tool:
        """The tool to be used right now. Raises NotFoundError; RefusedError while disabled or quarantined."""
        ...

    async def enable(self, name: str, enabled: bool) -> ToolView:
        """Switch it; enabling ends a quarantine. Durable. Raises NotFoundError."""
        ...

    async def views(self) -> list[ToolView]:
        """All, with a status that is a few seconds old at most."""
        ...

    async def view(self, name: str) -> ToolView:
        """One of them. Raises NotFoundError."""
        ...

    async def target(self, name: str, target: str) -> TargetView:
        """What is known of one target now. Raises NotFoundError."""
        ...
