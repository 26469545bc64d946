"""Routes of training runs."""

from collections.abc import Awaitable

from fastapi import APIRouter
from starlette.responses import Response

from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import ModelsDep
from trimtab.engine.api.parameters import After, Limit, ModelName, parse_ulid
from trimtab.engine.api.shapes.examples import PIPELINE_RUN
from trimtab.engine.api.shapes.json_shapes import json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import (
    PipelineRunShape,
    example_response,
    make_page_shape,
    run_json,
)
from trimtab.engine.types import PipelineRun

router = APIRouter(prefix="/api/pipelines", tags=["models"])
_EXAMPLE = run_json(PIPELINE_RUN)


@router.get(
    "/{name}/runs",
    summary="List runs",
    responses=example_response(
        make_page_shape(PipelineRunShape, "PipelineRunPage"), {"items": [_EXAMPLE], "next": None}
    ),
)
async def list_runs(models: ModelsDep, name: ModelName, limit: Limit = 100, after: After = None) -> Response:
    """A page of training runs with their results, newest first."""
    found = await models.runs(
        name, after=None if after is None else parse_ulid("after", after), limit=limit + 1
    )
    next_cursor = found[limit - 1].id if len(found) > limit else None
    return json_response({"items": [run_json(item) for item in found[:limit]], "next": next_cursor})


@router.post(
    "/{name}/runs",
    status_code=202,
    summary="Start a training run",
    responses=example_response(PipelineRunShape, _EXAMPLE, 202),
)
async def start_run(write: WriteDep, models: ModelsDep, name: ModelName) -> Response:
    """Start a training run; only one runs at a time. Returns the run, which continues in the background."""
    return await write.respond_async("", lambda _: _run_response(models.start_training(name, write.caller)))


async def _run_response(pending: Awaitable[PipelineRun]) -> tuple[int, bytes]:
    return 202, to_json(run_json(await pending))
