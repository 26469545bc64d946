"""Routes of forecasting models: list, promote, roll back."""

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
    """The version to promote."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": "4"}]})
    version: str = Field(min_length=1, max_length=40)


@router.get(
    "",
    summary="List models",
    responses=example_response(make_page_shape(ModelShape, "ModelPage"), {"items": [_EXAMPLE], "next": None}),
)
async def list_models(models: ModelsDep) -> Response:
    """All models with their versions: champion, challenger, evaluation and current errors."""
    return json_response({"items": [model_json(item) for item in await models.models()], "next": None})


@router.post("/{name}/promote", summary="Promote a version", responses=_ONE)
async def promote(write: WriteDep, models: ModelsDep, name: ModelName, body: PromoteBody) -> Response:
    """Make a version the champion regardless of the promotion gate; its files are verified first."""
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _model_response(models.promote(name, body.version, write.caller)),
    )


@router.post("/{name}/rollback", summary="Restore the previous champion", responses=_ONE)
async def rollback(write: WriteDep, models: ModelsDep, name: ModelName) -> Response:
    """Restore the previous champion."""
    return await write.respond_async("", lambda _: _model_response(models.rollback(name, write.caller)))


async def _model_response(pending: Awaitable[ModelView]) -> tuple[int, bytes]:
    return 200, to_json(model_json(await pending))
