"""Models that forecast: champion, challenger, how they do; promote and roll back."""

from collections.abc import Awaitable

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import ModelsDep
from trimtab.engine.api.parameters import ModelName
from trimtab.engine.api.shapes.examples import MODEL
from trimtab.engine.api.shapes.json_shapes import json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import ModelShape, example_response, make_page_shape, model_json
from trimtab.engine.types import ModelView

router = APIRouter(prefix="/api/models", tags=["models"])
_EXAMPLE = model_json(MODEL)
_ONE = example_response(ModelShape, _EXAMPLE)


class PromoteBody(BaseModel):
    """Which version is to serve."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": "4"}]})
    version: str = Field(min_length=1, max_length=40)


@router.get(
    "",
    summary="List models",
    responses=example_response(make_page_shape(ModelShape, "ModelPage"), {"items": [_EXAMPLE], "next": None}),
)
async def list_models(models: ModelsDep) -> Response:
    """Every model: which version serves, which challenges it, how they were judged and how they do."""
    return json_response({"items": [model_json(one) for one in await models.models()], "next": None})


@router.post("/{name}/promote", summary="Let a version serve", responses=_ONE)
async def promote(write: WriteDep, models: ModelsDep, name: ModelName, body: PromoteBody) -> Response:
    """Make a version the champion, whatever the gate said; its files are checked before."""
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _model_response(models.promote(name, body.version, write.caller)),
    )


@router.post("/{name}/rollback", summary="Let the previous champion serve", responses=_ONE)
async def rollback(write: WriteDep, models: ModelsDep, name: ModelName) -> Response:
    """Go back to the champion before this one."""
    return await write.respond_async("", lambda _: _model_response(models.rollback(name, write.caller)))


async def _model_response(changing: Awaitable[ModelView]) -> tuple[int, bytes]:
    return 200, to_json(model_json(await changing))
