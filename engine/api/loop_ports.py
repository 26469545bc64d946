"""The ports of the loop: incidents, the desk where people decide, tools and the ledger."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends

from trimtab.engine.api.api_context import ContextDep
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.ports import IncidentActions, Incidents, Ledger, ModelService, OperatorDecisions, Toolbox
from trimtab.engine.types import Alert, Capacity, Silence

AlertHandler = Callable[[Sequence[Alert], str], Awaitable[None]]
"""(alerts, name of the key that sent them)."""
AuditVerifier = Callable[[], str | None]
"""None, or what is wrong with the chain of the audit. Blocks on the store."""


@dataclass(frozen=True, slots=True)
class LoopPorts:
    """What the API needs of the loop; `incidents` and `ledger` block and are asked in threads.

    take_alerts  : told of alerts that come in; None = they only become changes, which stand beside incidents
    verify_audit : None = nobody can check the audit here
    modelling    : None = nothing is forecast here
    waiting      : id of a recommendation or action -> why the guardrails do not let it be done now
    set_down     : the silences that stand in the settings
    capacity     : what is scaled, by name, as it was evaluated last
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
        raise ProblemError(503, "The engine does not act here: it was started without the loop.")
    return here.loop_ports


LoopPortsDep = Annotated[LoopPorts, Depends(_get_loop_ports)]


async def _get_models(loop: LoopPortsDep) -> ModelService:
    if loop.models is None:
        raise ProblemError(503, "Nothing is forecast here: schedulers.load is not enabled.")
    return loop.models


ModelsDep = Annotated[ModelService, Depends(_get_models)]
