"""Identity of a request: trace id, route and caller."""

from dataclasses import dataclass
from typing import cast

from starlette.types import Scope as AsgiScope

from trimtab.engine.types import ApiKey

_SCOPE_KEY = "trimtab.request_identity"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller.

    name : name of the API key, as shown in feedback and audit
    csrf : value that a browser must send as X-CSRF-Token; None = a Bearer key was used
    """

    key: ApiKey
    name: str
    csrf: str | None = None


@dataclass(slots=True)
class RequestIdentity:
    """Identity of one request; created by the logging layer, completed by the request guard."""

    trace_id: str
    route: str = "unknown"
    principal: Principal | None = None


def get_identity(scope: AsgiScope) -> RequestIdentity:
    """Return the identity of this request."""
    return cast("RequestIdentity", scope[_SCOPE_KEY])


def start_identity(scope: AsgiScope, trace_id: str) -> RequestIdentity:
    """Attach a new identity to this request and return it."""
    identity = RequestIdentity(trace_id)
    scope[_SCOPE_KEY] = identity
    return identity
