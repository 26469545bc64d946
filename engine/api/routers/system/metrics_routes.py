"""Route of the engine's metrics in the Prometheus text format."""

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
    """Metrics of the engine, and scores of currently anomalous series. Open on loopback."""
    return Response(context.metrics_text(), media_type=MEDIA_TYPE)
