"""Routes of API keys."""

import threading

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.api_context import ApiContext, ContextDep, PrincipalDep, append_audit_row
from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.parameters import KeyId
from trimtab.engine.api.security import api_keys
from trimtab.engine.api.security.access_table import Scope
from trimtab.engine.api.shapes.json_shapes import KeyList, NewKey, json_response, key_json, to_json

DAY_S = 86_400.0
router = APIRouter(prefix="/api/keys", tags=["keys"])
_create_lock = threading.Lock()


class KeyBody(BaseModel):
    """A new API key."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "grafana", "scopes": ["read"], "expires_in_days": 90}]},
    )
    name: str = Field(min_length=1, max_length=100)
    scopes: list[Scope] = Field(min_length=1)
    expires_in_days: float | None = Field(365, gt=0, le=3650, description="null = does not expire.")


@router.get("", summary="List keys", responses={200: {"model": KeyList}})
def list_keys(context: ContextDep) -> Response:
    """All API keys without their secrets, newest first, including revoked and expired ones."""
    return json_response({"items": [key_json(key) for key in api_keys.list_keys(context.store)]})


@router.post("", status_code=201, summary="Create a key", responses={201: {"model": NewKey}})
def create_key(write: WriteDep, body: KeyBody) -> Response:
    """Create an API key. Only this response contains its secret."""
    return write.respond(
        body.model_dump_json(),
        lambda: _create(write.context, write.caller, body),
        _without_secret,
    )


@router.delete("/{key_id}", status_code=204, summary="Revoke a key")
def revoke_key(context: ContextDep, principal: PrincipalDep, key_id: KeyId) -> Response:
    """Revoke an API key and the sessions that it opened."""
    gone = api_keys.revoke_key(context.store, context.clock, key_id)
    context.key_cache.invalidate()
    append_audit_row(context, "key revoked", gone.id, principal.name, name=gone.name)
    return Response(status_code=204)


def _create(context: ApiContext, by: str, body: KeyBody) -> tuple[int, bytes]:
    """Create a key; its secret is returned only after the audit row is written."""
    lifetime_s = None if body.expires_in_days is None else body.expires_in_days * DAY_S
    with _create_lock:
        made, secret = api_keys.create_key(context.store, context.clock, body.name, body.scopes, lifetime_s)
    context.key_cache.invalidate()
    append_audit_row(context, "key created", made.id, by, name=made.name, scopes=", ".join(made.scopes))
    return 201, to_json({**key_json(made), "secret": secret})


def _without_secret(answer: bytes) -> bytes:
    return to_json({**orjson.loads(answer), "secret": None})
