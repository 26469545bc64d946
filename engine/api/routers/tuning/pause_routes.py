"""The kill switch."""

from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.api_context import PrincipalDep
from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import LoopPortsDep
from trimtab.engine.api.shapes.examples import PAUSE
from trimtab.engine.api.shapes.json_shapes import json_response, to_json
from trimtab.engine.api.shapes.loop_shapes import PauseShape, example_response, record_json
from trimtab.engine.types import Pause

router = APIRouter(prefix="/api/pause", tags=["pause"])


class PauseBody(BaseModel):
    """Why everything is to stop."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "moving the database"}]}
    )
    reason: str = Field("", max_length=2000)


_ONE = example_response(PauseShape, record_json(PAUSE))
_NO_REASON = PauseBody(reason="")


@router.get("", summary="Whether it is on", responses=_ONE)
def see(ports: LoopPortsDep) -> Response:
    """Whether anything may act, and who stopped it when and why."""
    return json_response(record_json(ports.ledger.pause()))


@router.post("", summary="Stop everything", responses=_ONE)
async def pause(write: WriteDep, ports: LoopPortsDep, body: PauseBody = _NO_REASON) -> Response:
    """Nothing acts any more, from within a second and over restarts, until a person says so.

    That holds for what the engine does by itself, its own rollbacks too, and for whatever people approve,
    apply, set or run. A person can still take an action back: that restores what was there.
    """
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _pause_response(ports.decisions.pause(write.caller, body.reason)),
    )


@router.delete("", summary="Let it act again", responses=_ONE)
async def resume(
    ports: LoopPortsDep,
    principal: PrincipalDep,
    reason: Annotated[str, Query(max_length=2000, description="Why.")] = "",
) -> Response:
    """Acting is allowed again, within the guardrails."""
    _, body = await _pause_response(ports.decisions.resume(principal.name, reason))
    return Response(body, media_type="application/json")


async def _pause_response(switching: Awaitable[Pause]) -> tuple[int, bytes]:
    return 200, to_json(record_json(await switching))
