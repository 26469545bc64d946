"""Ports of the control loop that the API uses: incidents, decisions, tools and the ledger."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends

from trimtab.engine.api.api_context import ContextDep
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.ports import IncidentActions, Incidents, Ledger, ModelService, OperatorDecisions, Toolbox
from trimtab.engine.types import Alert, Capacity, Silence

AlertHandler = Callable[[Sequence[Alert], str], Awaitable[None]]
"""Called with (alerts, name of the API key that sent them)."""
AuditVerifier = Callable[[], str | None]
"""Returns what is wrong with the audit's hash chain; None = intact. Blocks on the store."""


@dataclass(frozen=True, slots=True)
class LoopPorts:
    """Ports of the control loop; `incidents` and `ledger` block and are called in threads.

    on_alerts    : receives incoming alerts; None = they are only stored as change events
    verify_audit : None = the audit cannot be verified
    models       : None = forecasting is not enabled
    blocked_reasons : id of a recommendation or action -> why guard rules block it now
    configured_silences : returns the silences of the settings
    capacity     : the newest capacity estimate of each scaled resource, by name
    """

    incidents: Incidents
    incident_actions: IncidentActions
    ledger: Ledger
    decisions: OperatorDecisions
    toolbox: Toolbox
    on_alerts: AlertHandler | None = None
    verify_audit: AuditVerifier | None = None
    blocked_reasons: Mapping[str, str] = field(default_factory=dict)
    configured_silences: Callable[[], Sequence[Silence]] = tuple
    models: ModelService | None = None
    capacity: Mapping[str, Capacity] = field(default_factory=dict)


async def _get_loop_ports(here: ContextDep) -> LoopPorts:
    if here.loop_ports is None:
        raise ProblemError(
            503, "The engine runs without the control loop, so this resource does not exist here."
        )
    return here.loop_ports


LoopPortsDep = Annotated[LoopPorts, Depends(_get_loop_ports)]


async def _get_models(loop: LoopPortsDep) -> ModelService:
    if loop.models is None:
        raise ProblemError(503, "There are no forecasts: schedulers.load is not enabled.")
    return loop.models


ModelsDep = Annotated[ModelService, Depends(_get_models)]
