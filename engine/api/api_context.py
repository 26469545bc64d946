"""Shared context of the API's routers: ports, settings and authentication."""

import asyncio
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
from trimtab.engine.types import Value

if TYPE_CHECKING:
    from trimtab.engine.api.loop_ports import LoopPorts


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Ports and state of the API. LiveView is called on the event loop, the other ports in threads."""

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
    """None = the engine runs without incidents and actions."""


async def _get_context(request: Request) -> ApiContext:
    return cast("ApiContext", request.app.state.context)


async def _get_principal(request: Request) -> Principal:
    principal = get_identity(request.scope).principal
    if principal is None:
        raise ProblemError(401, "Authentication is required.")
    return principal


ContextDep = Annotated[ApiContext, Depends(_get_context)]
PrincipalDep = Annotated[Principal, Depends(_get_principal)]


def append_audit_row(context: ApiContext, what: str, subject: str, by: str, **details: Value) -> None:
    """Append an audit row, if the engine has a control loop. Blocks; raises StoreError."""
    if context.loop_ports is not None:
        context.loop_ports.ledger.append_audit(what, subject, by, details)


async def append_audit_row_async(
    context: ApiContext, what: str, subject: str, by: str, **details: Value
) -> None:
    """Like `append_audit_row`, for the event loop."""
    await asyncio.to_thread(append_audit_row, context, what, subject, by, **details)
