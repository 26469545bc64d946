"""The OpenAPI document: FastAPI's document plus required scopes and problem responses."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from trimtab.engine.api.problems import MEDIA_TYPE, problem_type, status_title
from trimtab.engine.api.security.access_table import ACCESS, BROWSER_ONLY, AccessRule, Scope
from trimtab.engine.api.security.authentication import COOKIE
from trimtab.engine.api.shapes.json_shapes import ProblemShape

DESCRIPTION = """\
Trimtab watches live metric series, detects anomalies, groups them into incidents, recommends changes, and
makes the changes it is allowed to make.

Send `Authorization: Bearer <key>`; `trimtab key create` creates a key. Times are ISO 8601 with an offset;
responses use UTC. Unknown values are `null`. Lists are paged by `limit` and `after` (the `next` of the
previous page). Writes accept `Idempotency-Key`. Errors are RFC 9457 problem+json with the trace id of the
log."""
TAGS = [
    {"name": "health", "description": "Liveness and readiness probes."},
    {"name": "status", "description": "Status of the engine and its sources."},
    {"name": "series", "description": "Watched series: current values and scores over time."},
    {"name": "anomalies", "description": "Periods in which a series deviated from its expected behaviour."},
    {"name": "incidents", "description": "Related anomalies, and changes near them."},
    {"name": "recommendations", "description": "Recommended changes, and operators' decisions on them."},
    {"name": "actions", "description": "Changes, their outcomes, and rollback."},
    {"name": "tools", "description": "Managed systems with their knobs and actions."},
    {"name": "pause", "description": "The kill switch: no action runs while it is on."},
    {"name": "capacity", "description": "Capacity that scaled resources need for their load."},
    {"name": "silences", "description": "Periods without notifications for some entities."},
    {"name": "forecasts", "description": "Load forecasts of series."},
    {"name": "models", "description": "Forecasting models and their training runs."},
    {"name": "audit", "description": "Decisions and actions with their actors, chained by hashes."},
    {"name": "stream", "description": "Live events."},
    {"name": "session", "description": "Browser login and logout."},
    {"name": "keys", "description": "API keys and their scopes."},
    {"name": "metrics", "description": "The engine's own metrics."},
    {"name": "docs", "description": "This document."},
]
_STATUS_DESCRIPTIONS = {
    401: "No key, or the key is not live.",
    403: "The key lacks the required scope.",
    404: "It does not exist.",
    409: "It already exists or has changed, a guard rule refuses it, or the same call is still running.",
    413: "The body is over 1 MB.",
    422: "A parameter or the body is invalid; `errors` lists the fields.",
    429: "Too many failed attempts.",
    502: "A managed tool failed; the detail says whether anything was changed.",
    503: "The store or the engine is unavailable.",
}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, built once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title="Trimtab", version=app.version, description=DESCRIPTION, tags=TAGS, routes=app.routes
        )
        _complete_document(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _complete_document(schema: dict[str, Any]) -> None:
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = {**ProblemShape.model_json_schema(), "title": "Problem"}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key."},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "A browser's session."},
    }
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method.upper(), operation)


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    access = ACCESS[method, path]
    is_open = access in {AccessRule.OPEN, AccessRule.PROBE}
    operation["security"] = [] if is_open else [{"key": []}, {"session": []}]
    person = " Browser sessions only." if (method, path) in BROWSER_ONLY else ""
    operation["description"] = f"{operation.get('description', '')}\n\nAccess: {access}.{person}".strip()
    statuses = [503] if is_open else [401, 403, 503]
    statuses += [404] if "{" in path else []
    statuses += [409, 413, 422] if method in {"POST", "PUT"} else []
    statuses += [502] if access is Scope.EXECUTE and "{" in path else []
    statuses += [429] if method == "POST" and is_open else []
    responses = operation["responses"]
    if "422" in responses and 422 not in statuses:
        statuses.append(422)
    for status in statuses:
        if str(status) not in responses or status == 422:
            responses[str(status)] = _problem_response(status)


def _problem_response(status: int) -> dict[str, Any]:
    shape = {"$ref": "#/components/schemas/Problem"}
    title = status_title(status)
    example = {
        "type": problem_type(title), "title": title, "status": status, "detail": _STATUS_DESCRIPTIONS[status],
        "trace_id": "0" * 32,
    }  # fmt: skip
    content = {MEDIA_TYPE: {"schema": shape, "example": example}}
    return {"description": _STATUS_DESCRIPTIONS[status], "content": content}
