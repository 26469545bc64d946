"""What is known of one request while it is answered."""

from dataclasses import dataclass
from typing import cast

from starlette.types import Scope as AsgiScope

from trimtab.engine.types import ApiKey

_SCOPE_KEY = "trimtab.visit"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    name : of the key, as feedback and audit show it
    csrf : what a browser's writes must send as X-CSRF-Token; None where a Bearer key was used
    """

    key: ApiKey
    name: str
    csrf: str | None = None


@dataclass(slots=True)
class RequestIdentity:
    """One request. The outermost layer makes it, the guard fills it."""

    trace_id: str
    route: str = "unknown"
    principal: Principal | None = None


def get_identity(scope: AsgiScope) -> RequestIdentity:
    """The visit of this request."""
    return cast("RequestIdentity", scope[_SCOPE_KEY])


def start_identity(scope: AsgiScope, trace_id: str) -> RequestIdentity:
    """Keep a new visit with this request."""
    visit = RequestIdentity(trace_id)
    scope[_SCOPE_KEY] = visit
    return visit
