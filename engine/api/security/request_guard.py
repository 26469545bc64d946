"""The door of the application: host, access table, key, CSRF and body size, before any route is looked at."""

import asyncio
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimtab.engine.api.problems import ProblemError, of_error
from trimtab.engine.api.security.access_table import BODY_LIMIT_BYTES, PERSON_ONLY, Door, Match, Table, allows
from trimtab.engine.api.security.access_table import Scope as AccessScope
from trimtab.engine.api.security.authentication import CSRF_HEADER, Authenticator, address_of, unauthorised
from trimtab.engine.api.security.listen_address import Hosts, host_name, loopback
from trimtab.engine.api.security.request_identity import Principal, visit_of
from trimtab.engine.errors import TrimtabError
from trimtab.engine.settings import Api

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
BODY_TIMEOUT_S = 30.0
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class Guard:
    """Middleware that lets through what the access table allows and refuses everything else."""

    def __init__(self, app: ASGIApp, table: Table, authenticator: Authenticator, settings: Api) -> None:
        self.app = app
        self.table = table
        self.authenticator = authenticator
        self.settings = settings
        self.hosts = Hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self._admit(HTTPConnection(scope), scope["method"])
            if scope["method"] not in SAFE:
                receive = await _read_body(Headers(scope=scope), receive)
        except TrimtabError as error:
            answer = of_error(error, visit_of(scope).trace_id)
            if answer is None:
                raise
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _admit(self, request: HTTPConnection, method: str) -> None:
        # The path by which the router chooses, too: that of request.url ends at a decoded ? or #.
        match = self.table.match(method, request.scope["path"])
        visit = visit_of(request.scope)
        visit.route = match.route
        if match.door is not Door.PROBE:
            self._check_host(request)
        door = _door(match, method, request)
        if door is Door.LOOPBACK and self._is_local(request):
            return
        if door not in {Door.OPEN, Door.PROBE}:
            visit.principal = await self.authenticator.principal(request)
            if visit.principal is None:
                raise unauthorised()
            if not allows(door, visit.principal.key.scopes):
                wanted = "read" if door is Door.LOOPBACK else door
                raise ProblemError(403, f"This needs a key with the scope `{wanted}`; yours has "
                                        f"{', '.join(visit.principal.key.scopes)}.")  # fmt: skip
            if visit.principal.csrf is None and (method, match.route) in PERSON_ONLY:
                raise ProblemError(
                    403, "Only a person may do this: sign in to the dashboard, or run `trimtab resume`."
                )
        if method not in SAFE:
            self._check_origin(request, visit.principal)

    def _check_host(self, request: HTTPConnection) -> None:
        host = request.headers.get("host", "")
        if not self.hosts.allow(host):
            raise ProblemError(
                400, f"The host {host_name(host)[:100]!r} is not one of ours; add it to api.allowed_hosts."
            )

    def _is_local(self, request: HTTPConnection) -> bool:
        forwarded = any(name in request.headers for name in _FORWARDED)
        return loopback(address_of(request)) and not forwarded and not self.settings.behind_proxy

    def _check_origin(self, request: HTTPConnection, principal: Principal | None) -> None:
        """A write of a browser must come from our own page. A Bearer key is not sent by browsers unasked."""
        if principal is not None and principal.csrf is None:
            return
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "same-origin")
        if (origin is not None and not self._is_ours(origin, request)) or site not in {"same-origin", "none"}:
            raise ProblemError(
                403, "This write comes from another site's page; only our own page may do that."
            )
        if principal is not None and principal.csrf is not None:
            given = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(given.encode(), principal.csrf.encode()):
                raise ProblemError(403, "Send the header X-CSRF-Token with `csrf` of GET /api/session.")

    def _is_ours(self, origin: str, request: HTTPConnection) -> bool:
        place = urlsplit(origin).netloc.lower()
        if not place:
            return False
        named = host_name(place) in {name.lower() for name in self.settings.allowed_hosts}
        return named or place == request.headers.get("host", "").lower()


def _door(match: Match, method: str, request: HTTPConnection) -> Door | AccessScope:
    if match.door is None:
        allow = ", ".join(match.methods)
        raise ProblemError(
            405, f"{method} is not possible at {request.scope['path']}; {allow} is.", {"Allow": allow}
        )
    return match.door


async def _read_body(headers: Headers, receive: Receive) -> Receive:
    """The whole body, at most BODY_LIMIT_BYTES of it, to be received again by the route."""
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
    return _replay({"type": "http.request", "body": bytes(body), "more_body": False}, receive)


def _replay(first: Message, receive: Receive) -> Receive:
    waiting = [first]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _too_large() -> ProblemError:
    return ProblemError(413, f"A body here has at most {BODY_LIMIT_BYTES} bytes.", {"Connection": "close"})
