"""What is known of one request while it is answered."""

from dataclasses import dataclass
from typing import cast

from starlette.types import Scope as AsgiScope

from trimtab.engine.types import ApiKey

_PLACE = "trimtab.visit"


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
class Visit:
    """One request. The outermost layer makes it, the guard fills it."""

    trace_id: str
    route: str = "unknown"
    principal: Principal | None = None


def visit_of(scope: AsgiScope) -> Visit:
    """The visit of this request."""
    return cast("Visit", scope[_PLACE])


def begin_visit(scope: AsgiScope, trace_id: str) -> Visit:
    """Keep a new visit with this request."""
    visit = Visit(trace_id)
    scope[_PLACE] = visit
    return visit
