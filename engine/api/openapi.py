"""The OpenAPI document: what FastAPI finds, plus who may call what and how errors look."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from trimtab.engine.api.problems import MEDIA_TYPE, problem_type, status_title
from trimtab.engine.api.security.access_table import ACCESS, BROWSER_ONLY, AccessRule, Scope
from trimtab.engine.api.security.authentication import COOKIE
from trimtab.engine.api.shapes.json_shapes import ProblemShape

DESCRIPTION = """\
Watches live metric series, says which behave unlike themselves, recommends what to change, and changes it as
far as it is allowed.

Send `Authorization: Bearer <key>`; `trimtab key create` makes one. Times are ISO 8601 with an offset and
go out in UTC. Unknown is `null`. Lists page by `limit` and `after` (the `next` of the page before).
Writes may carry `Idempotency-Key`. Errors are RFC 9457 problem+json with the trace id of the log."""
TAGS = [
    {"name": "health", "description": "For probes."},
    {"name": "status", "description": "How the engine and its sources do."},
    {"name": "series", "description": "What is watched, as it is now and over time."},
    {"name": "anomalies", "description": "Series that behaved unlike themselves."},
    {"name": "incidents", "description": "Anomalies that belong together, and what changed near them."},
    {"name": "recommendations", "description": "What we recommend to change, and what people decide of it."},
    {"name": "actions", "description": "What was changed, what came of it, and how to take it back."},
    {"name": "tools", "description": "The managed systems, their knobs and what they can be told to do."},
    {"name": "pause", "description": "The kill switch: while it is on nothing acts."},
    {"name": "capacity", "description": "What is scaled with its load, and what it needs now."},
    {"name": "silences", "description": "For a time, nobody is told of incidents of some entities."},
    {"name": "forecasts", "description": "What the load of series is expected to be."},
    {"name": "models", "description": "Who forecasts, how well, and the runs that train them."},
    {"name": "audit", "description": "Who decided or did what; chained by hashes."},
    {"name": "stream", "description": "What happens, as it happens."},
    {"name": "session", "description": "Logging a browser in and out."},
    {"name": "keys", "description": "API keys and their scopes."},
    {"name": "metrics", "description": "The engine's own metrics."},
    {"name": "docs", "description": "This description."},
]
_STATUS_DESCRIPTIONS = {
    401: "No key, or one that is not live.",
    403: "The key has not the scope.",
    404: "No such thing.",
    409: "It exists already or was changed meanwhile, a guardrail refuses it, or the same call still runs.",
    413: "The body is over 1 MB.",
    422: "A parameter or the body has a wrong form; `errors` lists the fields.",
    429: "Too many failed tries.",
    502: "A managed tool did not do what it was asked; the detail says whether anything was changed.",
    503: "The store or the engine cannot answer now.",
}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document, built once."""
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
    door = ACCESS[method, path]
    is_open = door in {AccessRule.OPEN, AccessRule.PROBE}
    operation["security"] = [] if is_open else [{"key": []}, {"session": []}]
    person = " A person's browser only." if (method, path) in BROWSER_ONLY else ""
    operation["description"] = f"{operation.get('description', '')}\n\nAccess: {door}.{person}".strip()
    statuses = [503] if is_open else [401, 403, 503]
    statuses += [404] if "{" in path else []
    statuses += [409, 413, 422] if method in {"POST", "PUT"} else []
    statuses += [502] if door is Scope.EXECUTE and "{" in path else []
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
