"""Routes of the pause (kill switch)."""

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
    """Reason of the pause."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "moving the database"}]}
    )
    reason: str = Field("", max_length=2000)


_ONE = example_response(PauseShape, record_json(PAUSE))
_NO_REASON = PauseBody(reason="")


@router.get("", summary="Current pause", responses=_ONE)
def see(ports: LoopPortsDep) -> Response:
    """Whether actions are paused, by whom, since when and why."""
    return json_response(record_json(ports.ledger.pause()))


@router.post("", summary="Pause all actions", responses=_ONE)
async def pause(write: WriteDep, ports: LoopPortsDep, body: PauseBody = _NO_REASON) -> Response:
    """Pause all actions within a second, until an operator resumes; the pause survives restarts.

    It applies to the engine's own actions and rollbacks, and to what operators approve, apply, set or run.
    An operator can still roll back an action, because that restores the previous value.
    """
    return await write.respond_async(
        body.model_dump_json(),
        lambda _: _pause_response(ports.decisions.pause(write.caller, body.reason)),
    )


@router.delete("", summary="End the pause", responses=_ONE)
async def resume(
    ports: LoopPortsDep,
    principal: PrincipalDep,
    reason: Annotated[str, Query(max_length=2000, description="Reason.")] = "",
) -> Response:
    """End the pause; actions are allowed again within the guard rules."""
    _, body = await _pause_response(ports.decisions.resume(principal.name, reason))
    return Response(body, media_type="application/json")


async def _pause_response(pending: Awaitable[Pause]) -> tuple[int, bytes]:
    return 200, to_json(record_json(await pending))
