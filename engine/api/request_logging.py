"""Outermost middleware: trace id, one log line per request, security headers, and internal errors."""

import re
import secrets
import time
import traceback
from collections.abc import Callable

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimtab.engine.api.path_names import keep_escaped_slashes
from trimtab.engine.api.problems import internal_error_response
from trimtab.engine.api.security.request_identity import RequestIdentity, start_identity

CSP = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
SECURITY_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
RequestObserver = Callable[[str, str, int, float], None]
"""Called once per request with (method, route template, status, seconds)."""

_CLIENT_CLOSED_REQUEST = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
log = structlog.get_logger(__name__)


class RequestLogging:
    """ASGI middleware that logs each request and reports it to `observer`."""

    def __init__(self, app: ASGIApp, observer: RequestObserver | None = None) -> None:
        self.app = app
        self.observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request and log it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = keep_escaped_slashes(scope)
        identity = start_identity(scope, _trace_id(scope))
        answer = _ResponseRecorder(send, identity)
        begin = time.perf_counter()
        with structlog.contextvars.bound_contextvars(trace_id=identity.trace_id):
            try:
                await self._answer(scope, receive, answer)
            finally:
                self._log_request(scope, identity, answer.status, time.perf_counter() - begin)

    async def _answer(self, scope: Scope, receive: Receive, answer: "_ResponseRecorder") -> None:
        try:
            await self.app(scope, receive, answer.send)
        except ClientDisconnect:
            answer.status = _CLIENT_CLOSED_REQUEST
        except Exception as error:
            log.error("request_failed", traceback="".join(traceback.format_exception(error)))
            if answer.status is None:
                await internal_error_response(answer.identity.trace_id)(scope, receive, answer.send)

    def _log_request(
        self, scope: Scope, identity: RequestIdentity, status: int | None, duration_s: float
    ) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = _CLIENT_CLOSED_REQUEST if status is None else status
        prefix = identity.principal.key.prefix if identity.principal else None
        write_line = log.debug if _is_probe(identity.route, status) else log.info
        write_line(
            "request", method=method, route=identity.route, status=status, duration_s=round(duration_s, 6),
            key_prefix=prefix,
        )  # fmt: skip
        if self.observer is not None:
            self.observer(method, identity.route, status, duration_s)


def _is_probe(route: str, status: int) -> bool:
    """Return whether to log at debug level: health probes, and successful scrapes of the metrics."""
    return route.startswith("/api/health") or (route == "/api/metrics" and status < 400)


class _ResponseRecorder:
    """Adds the security headers to a response and records its status."""

    def __init__(self, send: Send, identity: RequestIdentity) -> None:
        self._send = send
        self.identity = identity
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Trace-Id"] = self.identity.trace_id
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def _trace_id(scope: Scope) -> str:
    """Return the caller's W3C trace id, or a new one."""
    given = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
    found = _TRACEPARENT.fullmatch(given)
    return found[1] if found else secrets.token_hex(16)
