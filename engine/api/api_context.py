"""What the routers work with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from trimtab.engine.api.event_streams import EventStreams
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.api.security.authentication import Authenticator, KeyCache
from trimtab.engine.api.security.request_identity import Principal, get_identity
from trimtab.engine.ports import Clock, LiveView, ScoreLog, Store
from trimtab.engine.settings import Api

if TYPE_CHECKING:
    from trimtab.engine.api.loop_ports import LoopPorts


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The ports and what the API keeps itself. LiveView is asked on the event loop, the rest in threads."""

    live: LiveView
    store: Store
    score_log: ScoreLog
    settings: Api
    clock: Clock
    web_dir: Path | None
    metrics_text: Callable[[], str]
    version: str
    key_cache: KeyCache
    authenticator: Authenticator
    streams: EventStreams
    loop_ports: "LoopPorts | None" = None
    """None = nothing acts here, and there are no incidents."""


async def _get_context(request: Request) -> ApiContext:
    return cast("ApiContext", request.app.state.context)


async def _get_principal(request: Request) -> Principal:
    principal = get_identity(request.scope).principal
    if principal is None:
        raise ProblemError(401, "Nobody is logged in.")
    return principal


ContextDep = Annotated[ApiContext, Depends(_get_context)]
PrincipalDep = Annotated[Principal, Depends(_get_principal)]
