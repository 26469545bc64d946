"""Whether the process lives and the engine ticks."""

from fastapi import APIRouter
from starlette.responses import Response

from trimtab.engine.api.context import Here
from trimtab.engine.api.shapes import Health, json_response

router = APIRouter(prefix="/api/health", tags=["health"])


@router.get("/live", summary="The process answers", responses={200: {"model": Health}})
async def live() -> Response:
    """Always 200 while the process can answer at all."""
    return json_response({"status": "ok"})


@router.get(
    "/ready", summary="The engine ticks",
    responses={200: {"model": Health}, 503: {"model": Health, "description": "It is still starting."}},
)  # fmt: skip
async def ready(here: Here) -> Response:
    """200 once sources are read and scored; until then 503 and what it waits for."""
    is_ready, waiting_for = here.live.ready()
    body = {"status": "ready" if is_ready else "starting", "waiting_for": waiting_for}
    return json_response(body, 200 if is_ready else 503)
