"""Ports of operators: decisions on recommendations and actions, incidents, and managed tools."""

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
    """Decisions of operators. `by` is the name of the API key, `key` the request's idempotency key.

    Guard rules apply to operators too, except those that require an operator (mode, persistence, start-up).
    Raises NotFoundError, ConflictError (decided already, or the value has changed), RefusedError with the
    guard's reason, StoreError if the decision cannot be stored: then nothing is done.
    """

    async def approve(self, recommendation_id: str, by: str) -> Recommendation:
        """Approve: apply as soon as the guard rules allow. The approver must differ from the proposer."""
        ...

    async def dismiss(self, recommendation_id: str, by: str, reason: str) -> Recommendation:
        """Dismiss for a reason, which later recommendations take into account."""
        ...

    async def schedule(self, recommendation_id: str, by: str, at: int) -> Recommendation:
        """Schedule to be applied at `at`, int64 ns UTC."""
        ...

    async def apply(self, recommendation_id: str, by: str, key: str) -> Action:
        """Apply now."""
        ...

    async def roll_back(self, action_id: str, by: str, key: str) -> Action:
        """Restore the exact previous value, if the knob still has the value that the action set."""
        ...

    async def run(self, tool: str, target: str, action: str, by: str, key: str) -> Action:
        """Run a tool action once."""
        ...

    async def set_knob(
        self, tool: str, target: str, knob: str, before: Value, after: Value, by: str, key: str
    ) -> Action:
        """Set a knob from `before` to `after`. Raises ConflictError if its value is not `before`."""
        ...

    async def pause(self, by: str, reason: str) -> Pause:
        """Pause all actions within a second, until an operator resumes."""
        ...

    async def resume(self, by: str, reason: str) -> Pause:
        """End the pause."""
        ...


class IncidentActions(Protocol):
    """Operator actions on incidents. `by` is the name of the API key.

    Raises NotFoundError, StoreError, or ConflictError if the incident's state does not allow the action
    (an incident that was merged into another cannot change).
    """

    async def acknowledge(self, incident_id: str, by: str, note: str = "") -> Incident:
        """Acknowledge: an operator is working on the incident."""
        ...

    async def resolve(self, incident_id: str, by: str, note: str = "") -> Incident:
        """Resolve: the incident is over, or is no problem."""
        ...

    async def reopen(self, incident_id: str, by: str, note: str = "") -> Incident:
        """Reopen an acknowledged or resolved incident."""
        ...

    async def merge(self, incident_id: str, into: str, by: str) -> Incident:
        """Move the anomalies of `incident_id` into the incident `into` and return the latter."""
        ...

    async def split(self, incident_id: str, anomaly_ids: Sequence[str], by: str) -> Incident:
        """Move some, but not all, anomalies into a new incident and return it."""
        ...


@dataclass(frozen=True, slots=True)
class ToolView:
    """A configured tool with its status, modes and targets."""

    name: str
    kind: str
    enabled: bool
    trial: bool
    status: ToolStatus
    modes: Mapping[str, Mode]
    """Mode by subject (knob or action); "*" = all others."""
    targets: Sequence[str]


@dataclass(frozen=True, slots=True)
class TargetView:
    """Current state of one target. Unreadable values are omitted, and `problem` says why."""

    tool: str
    target: str
    metrics: Mapping[str, float]
    knobs: Sequence[tuple[Knob, KnobReading | None]]
    actions: Sequence[ToolAction]
    problem: str = ""


class Toolbox(Protocol):
    """The configured tools. Fetch a tool by name at each use: it can be switched off at any time."""

    def names(self) -> Sequence[str]:
        """Return the names of all configured tools, sorted."""
        ...

    def tool(self, name: str) -> Tool:
        """Return the tool. Raises NotFoundError, or RefusedError while it is disabled or quarantined."""
        ...

    async def enable(self, name: str, enabled: bool) -> ToolView:
        """Enable or disable a tool durably; enabling ends a quarantine. Raises NotFoundError."""
        ...

    async def views(self) -> list[ToolView]:
        """Return all tools, each with a status at most a few seconds old."""
        ...

    async def view(self, name: str) -> ToolView:
        """Return one tool with its status. Raises NotFoundError."""
        ...

    async def target(self, name: str, target: str) -> TargetView:
        """Read the current state of one target. Raises NotFoundError."""
        ...
