"""Routes of the liveness and readiness probes."""

from fastapi import APIRouter
from starlette.responses import Response

from trimtab.engine.api.api_context import ContextDep
from trimtab.engine.api.shapes.json_shapes import Health, json_response

router = APIRouter(prefix="/api/health", tags=["health"])


@router.get("/live", summary="Liveness", responses={200: {"model": Health}})
async def live() -> Response:
    """Always 200 while the process responds."""
    return json_response({"status": "ok"})


@router.get(
    "/ready",
    summary="Readiness",
    responses={
        200: {"model": Health},
        503: {"model": Health, "description": "The engine is starting or unhealthy."},
    },
)
async def ready(context: ContextDep) -> Response:
    """200 once sources are read and scored; until then 503 with what the engine waits for.

    Also 503, with a `problem`, while the store is unusable.
    """
    is_ready, waiting_for = context.live.readiness()
    problem = "the store is unusable; GET /api/status says why" if context.live.problem() else ""
    state = "failing" if problem else "ready" if is_ready else "starting"
    body = {"status": state, "waiting_for": waiting_for, "problem": problem}
    return json_response(body, 200 if state == "ready" else 503)
