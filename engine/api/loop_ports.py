"""The ports of the loop: incidents, the desk where people decide, tools and the ledger."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends

from trimtab.engine.api.api_context import Here
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.ports import Desk, IncidentDesk, Incidents, Ledger, Modelling, Toolbox
from trimtab.engine.types import Alert, Capacity, Silence

TakeAlerts = Callable[[Sequence[Alert], str], Awaitable[None]]
"""(alerts, name of the key that sent them)."""
VerifyAudit = Callable[[], str | None]
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
    incident_desk: IncidentDesk
    ledger: Ledger
    desk: Desk
    toolbox: Toolbox
    take_alerts: TakeAlerts | None = None
    verify_audit: VerifyAudit | None = None
    waiting: Mapping[str, str] = field(default_factory=dict)
    set_down: Callable[[], Sequence[Silence]] = tuple
    modelling: Modelling | None = None
    capacity: Mapping[str, Capacity] = field(default_factory=dict)


async def _ports(here: Here) -> LoopPorts:
    if here.loop is None:
        raise ProblemError(503, "The engine does not act here: it was started without the loop.")
    return here.loop


Loop = Annotated[LoopPorts, Depends(_ports)]


async def _modelling(loop: Loop) -> Modelling:
    if loop.modelling is None:
        raise ProblemError(503, "Nothing is forecast here: schedulers.load is not enabled.")
    return loop.modelling


Models = Annotated[Modelling, Depends(_modelling)]
