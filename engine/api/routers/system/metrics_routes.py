"""The engine's own metrics in Prometheus' text format."""

from fastapi import APIRouter
from starlette.responses import Response

from trimtab.engine.api.api_context import ContextDep

router = APIRouter(prefix="/api", tags=["metrics"])
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/metrics", summary="Prometheus metrics",
    responses={200: {"content": {"text/plain": {"example": "trimtab_ticks_total{source=\"host\"} 42.0\n"}}}},
)  # fmt: skip
async def metrics(context: ContextDep) -> Response:
    """Counters and gauges of the engine, and the scores of series that are unusual now. Open on loopback."""
    return Response(context.metrics_text(), media_type=MEDIA_TYPE)
