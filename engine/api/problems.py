"""Error responses as RFC 9457 problem+json, without tracebacks or secrets."""

import re
from http import HTTPStatus

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from trimtab.engine.api.security.request_identity import get_identity
from trimtab.engine.errors import (
    ConflictError,
    EngineError,
    InputError,
    NotFoundError,
    RefusedError,
    SourceError,
    StoreError,
    ToolError,
    TrimtabError,
)
from trimtab.engine.redaction import redact_text

# Fixed here because Python versions name these differently.
_TITLES = {
    413: "Content Too Large",
    422: "Unprocessable Content",
}
MEDIA_TYPE = "application/problem+json"
STATUS_BY_ERROR: tuple[tuple[type[TrimtabError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (RefusedError, 409),
    (InputError, 422),
    (StoreError, 503),
    (SourceError, 503),
    (ToolError, 502),
)
"""First match wins; any other TrimtabError becomes a 500 whose message is only logged."""


class ProblemError(EngineError):
    """An error with an HTTP status and optional headers."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def status_title(status: int) -> str:
    """Return the title of an HTTP status."""
    return _TITLES.get(status) or HTTPStatus(status).phrase


def problem_type(title: str) -> str:
    """Return the URN of a problem type.

    >>> problem_type("Not Found")
    'urn:trimtab:problem:not-found'
    """
    return f"urn:trimtab:problem:{re.sub(r'[^a-z]+', '-', title.lower()).strip('-')}"


def problem_response(
    status: int,
    detail: str,
    trace_id: str,
    headers: dict[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
    title: str = "",
) -> Response:
    """Return a problem+json response.

    errors : invalid fields, each as {"where", "message"}
    title  : "" = the title of the status
    """
    title = title or status_title(status)
    body: dict[str, object] = {
        "type": problem_type(title), "title": title, "status": status, "detail": detail, "trace_id": trace_id,
    }  # fmt: skip
    if errors is not None:
        body["errors"] = errors
    return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)


def error_response(error: TrimtabError, trace_id: str) -> Response | None:
    """Return the response to an expected error; None = an internal error."""
    if isinstance(error, ProblemError):
        return problem_response(error.status, error.detail, trace_id, error.headers)
    for kind, status in STATUS_BY_ERROR:
        if isinstance(error, kind):
            later = {"Retry-After": "5"} if status == 503 else None
            title = "Refused" if kind is RefusedError else ""
            return problem_response(status, redact_text(str(error)), trace_id, later, title=title)
    return None


def internal_error_response(trace_id: str) -> Response:
    """Return the response to an internal error."""
    return problem_response(500, f"Internal error; see trace id {trace_id} in the engine's log.", trace_id)


async def on_trimtab_error(request: Request, error: Exception) -> Response:
    """Handle a TrimtabError; internal errors are raised again for the logging layer."""
    answer = (
        error_response(error, get_identity(request.scope).trace_id)
        if isinstance(error, TrimtabError)
        else None
    )
    if answer is None:
        raise error
    return answer


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handle errors of the framework: unknown paths, wrong methods, invalid JSON."""
    if not isinstance(error, HTTPException):
        raise error
    detail = {
        404: f"{request.url.path} does not exist; /api-docs lists all routes.",
        405: f"{request.method} is not allowed at {request.url.path}.",
    }.get(error.status_code, str(error.detail))
    headers = dict(error.headers) if error.headers else None
    return problem_response(error.status_code, detail, get_identity(request.scope).trace_id, headers)


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Handle invalid parameters and bodies. The body is not repeated, because it may contain secrets."""
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [_field_error(item) for item in error.errors()]
    detail = "; ".join(f"{e['where']}: {e['message']}" for e in errors[:5])
    return problem_response(422, detail, get_identity(request.scope).trace_id, errors=errors)


def _field_error(item: dict[str, object]) -> dict[str, str]:
    place = item["loc"] if isinstance(item["loc"], tuple) else ()
    message = str(item["msg"])
    if place and place[0] in {"query", "path"}:
        message += f", not {str(item.get('input'))[:100]!r}"
    return {"where": ".".join(map(str, place)), "message": message}
