"""Models that forecast: champion, challenger, how they do; promote and roll back."""

from collections.abc import Awaitable

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from trimtab.engine.api.api_context import Here, Who
from trimtab.engine.api.idempotency import IdempotencyKey, once_async
from trimtab.engine.api.loop_ports import Models
from trimtab.engine.api.parameters import ModelName
from trimtab.engine.api.shapes.examples import MODEL
from trimtab.engine.api.shapes.json_shapes import json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import ModelShape, answers, model_json, page_of
from trimtab.engine.types import ModelView

router = APIRouter(prefix="/api/models", tags=["models"])
_EXAMPLE = model_json(MODEL)
_ONE = answers(ModelShape, _EXAMPLE)


class PromoteBody(BaseModel):
    """Which version is to serve."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": "4"}]})
    version: str = Field(min_length=1, max_length=40)


@router.get(
    "",
    summary="List models",
    responses=answers(page_of(ModelShape, "ModelPage"), {"items": [_EXAMPLE], "next": None}),
)
async def list_models(models: Models) -> Response:
    """Every model: which version serves, which challenges it, how they were judged and how they do."""
    return json_response({"items": [model_json(one) for one in await models.models()], "next": None})


@router.post("/{name}/promote", summary="Let a version serve", responses=_ONE)
async def promote(
    request: Request, here: Here, models: Models, who: Who, name: ModelName, body: PromoteBody,
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """Make a version the champion, whatever the gate said; its files are checked before."""
    return await once_async(
        here, request, who, key, body.model_dump_json(),
        lambda _: _changed(models.promote(name, body.version, who.name)),
    )  # fmt: skip


@router.post("/{name}/rollback", summary="Let the previous champion serve", responses=_ONE)
async def rollback(
    request: Request, here: Here, models: Models, who: Who, name: ModelName, key: IdempotencyKey = None
) -> Response:
    """Go back to the champion before this one."""
    return await once_async(here, request, who, key, "", lambda _: _changed(models.rollback(name, who.name)))


async def _changed(changing: Awaitable[ModelView]) -> tuple[int, bytes]:
    return 200, to_json(model_json(await changing))
