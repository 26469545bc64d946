"""What the routers work with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from trimtab.engine.api.event_streams import Streams
from trimtab.engine.api.problems import ProblemError
from trimtab.engine.api.security.authentication import Authenticator, Keyring
from trimtab.engine.api.security.request_identity import Principal, visit_of
from trimtab.engine.ports import Clock, LiveView, ScoreLog, Store
from trimtab.engine.settings import Api

if TYPE_CHECKING:
    from trimtab.engine.api.loop_ports import LoopPorts


@dataclass(frozen=True, slots=True)
class Context:
    """The ports and what the API keeps itself. LiveView is asked on the event loop, the rest in threads."""

    live: LiveView
    store: Store
    score_log: ScoreLog
    settings: Api
    clock: Clock
    web_dir: Path | None
    metrics_text: Callable[[], str]
    version: str
    keyring: Keyring
    authenticator: Authenticator
    streams: Streams
    loop: "LoopPorts | None" = None
    """None = nothing acts here, and there are no incidents."""


async def _context(request: Request) -> Context:
    return cast("Context", request.app.state.context)


async def _principal(request: Request) -> Principal:
    principal = visit_of(request.scope).principal
    if principal is None:
        raise ProblemError(401, "Nobody is logged in.")
    return principal


Here = Annotated[Context, Depends(_context)]
Who = Annotated[Principal, Depends(_principal)]
