"""Checks every request before routing: host, access table, key, CSRF token and body size."""

import asyncio
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimtab.engine.api.problems import ProblemError, error_response
from trimtab.engine.api.security.access_table import (
    BODY_LIMIT_BYTES,
    BROWSER_ONLY,
    AccessRule,
    AccessTable,
    RouteMatch,
    is_allowed,
)
from trimtab.engine.api.security.access_table import Scope as AccessScope
from trimtab.engine.api.security.authentication import (
    CSRF_HEADER,
    Authenticator,
    client_address,
    unauthorized,
)
from trimtab.engine.api.security.listen_address import AllowedHosts, host_name, is_loopback
from trimtab.engine.api.security.request_identity import Principal, get_identity
from trimtab.engine.errors import TrimtabError
from trimtab.engine.settings import Api

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BODY_TIMEOUT_S = 30.0
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class RequestGuard:
    """ASGI middleware that admits only what the access table allows."""

    def __init__(self, app: ASGIApp, table: AccessTable, authenticator: Authenticator, settings: Api) -> None:
        self.app = app
        self.table = table
        self.authenticator = authenticator
        self.settings = settings
        self.hosts = AllowedHosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or answer with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self._authorize(HTTPConnection(scope), scope["method"])
            if scope["method"] not in SAFE_METHODS:
                receive = await _read_body(Headers(scope=scope), receive)
        except TrimtabError as error:
            answer = error_response(error, get_identity(scope).trace_id)
            if answer is None:
                raise
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _authorize(self, request: HTTPConnection, method: str) -> None:
        # The router matches scope["path"], too; request.url.path would end at a decoded ? or #.
        match = self.table.match(method, request.scope["path"])
        identity = get_identity(request.scope)
        identity.route = match.route
        if match.access is not AccessRule.PROBE:
            self._check_host(request)
        access = _required_access(match, method, request)
        if access is AccessRule.LOOPBACK and self._is_local(request):
            return
        if access not in {AccessRule.OPEN, AccessRule.PROBE}:
            identity.principal = await self.authenticator.authenticate(request)
            if identity.principal is None:
                raise unauthorized()
            if not is_allowed(access, identity.principal.key.scopes):
                wanted = "read" if access is AccessRule.LOOPBACK else access
                raise ProblemError(403, f"This requires the scope `{wanted}`; your key has "
                                        f"{', '.join(identity.principal.key.scopes)}.")  # fmt: skip
            if identity.principal.csrf is None and (method, match.route) in BROWSER_ONLY:
                raise ProblemError(
                    403, "Only an operator may do this: log in to the dashboard, or run `trimtab resume`."
                )
        if method not in SAFE_METHODS:
            self._check_origin(request, identity.principal)

    def _check_host(self, request: HTTPConnection) -> None:
        host = request.headers.get("host", "")
        if not self.hosts.is_allowed(host):
            raise ProblemError(
                400, f"The host {host_name(host)[:100]!r} is not allowed; add it to api.allowed_hosts."
            )

    def _is_local(self, request: HTTPConnection) -> bool:
        forwarded = any(name in request.headers for name in _FORWARDED)
        return is_loopback(client_address(request)) and not forwarded and not self.settings.behind_proxy

    def _check_origin(self, request: HTTPConnection, principal: Principal | None) -> None:
        """Check that a browser's write comes from our own page; a Bearer key needs no check."""
        if principal is not None and principal.csrf is None:
            return
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "same-origin")
        if (origin is not None and not self._is_own_origin(origin, request)) or site not in {
            "same-origin",
            "none",
        }:
            raise ProblemError(403, "Writes from pages of other sites are not allowed.")
        if principal is not None and principal.csrf is not None:
            given = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(given.encode(), principal.csrf.encode()):
                raise ProblemError(
                    403, "Send the `csrf` value of GET /api/session as the header X-CSRF-Token."
                )

    def _is_own_origin(self, origin: str, request: HTTPConnection) -> bool:
        host = urlsplit(origin).netloc.lower()
        if not host:
            return False
        named = host_name(host) in {name.lower() for name in self.settings.allowed_hosts}
        return named or host == request.headers.get("host", "").lower()


def _required_access(match: RouteMatch, method: str, request: HTTPConnection) -> AccessRule | AccessScope:
    if match.access is None:
        allow = ", ".join(match.methods)
        raise ProblemError(
            405, f"{method} is not allowed at {request.scope['path']}; allowed: {allow}.", {"Allow": allow}
        )
    return match.access


async def _read_body(headers: Headers, receive: Receive) -> Receive:
    """Read the whole body, at most BODY_LIMIT_BYTES; return a Receive that replays it."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > BODY_LIMIT_BYTES:
        raise _too_large()
    body = bytearray()
    more = True
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > BODY_LIMIT_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise ProblemError(408, f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from None
    return _replay_body({"type": "http.request", "body": bytes(body), "more_body": False}, receive)


def _replay_body(first: Message, receive: Receive) -> Receive:
    pending = [first]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


def _too_large() -> ProblemError:
    return ProblemError(413, f"The body exceeds {BODY_LIMIT_BYTES} bytes.", {"Connection": "close"})
