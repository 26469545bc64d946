"""Route of the status of the engine and its sources."""

from fastapi import APIRouter
from starlette.responses import Response

from trimtab.engine.api.api_context import ContextDep
from trimtab.engine.api.shapes.json_shapes import Status, json_response, source_json

router = APIRouter(prefix="/api", tags=["status"])


@router.get("/status", summary="Engine and sources", responses={200: {"model": Status}})
async def status(context: ContextDep) -> Response:
    """Status of the engine and of each source."""
    is_ready, waiting_for = context.live.readiness()
    return json_response({
        "version": context.version,
        "acts": context.loop_ports is not None,
        "ready": is_ready,
        "waiting_for": waiting_for,
        "engine": {**context.live.engine_status(), "streams": context.streams.open_count},
        "sources": [source_json(source) for source in context.live.sources()],
    })  # fmt: skip
