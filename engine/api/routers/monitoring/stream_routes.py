"""Route of the live event stream."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from sse_starlette import ServerSentEvent
from starlette.responses import Response

from trimtab.engine.api.api_context import ApiContext, ContextDep, PrincipalDep
from trimtab.engine.api.event_streams import StreamResponse
from trimtab.engine.api.security.request_identity import Principal
from trimtab.engine.api.shapes.json_shapes import event_json, to_json

RETRY_MS = 3000
router = APIRouter(prefix="/api", tags=["stream"])


@router.get(
    "/stream", summary="Live events",
    responses={200: {
        "content": {"text/event-stream": {"example": 'event: tick\ndata: {"source":"host","time":'
                                          '"2026-01-01T00:00:00.000Z","series":120,"unusual":1}\n\n'}},
        "description": "Server-sent events `tick`, `anomaly`, `source`, `incident`, `recommendation`, "
                       "`action` and `pause`, and a comment every 15 s.",
    }},
)  # fmt: skip
async def stream(context: ContextDep, principal: PrincipalDep) -> Response:
    """Ticks, and changes of anomalies, sources, incidents, recommendations, actions and the pause.

    At most 100 clients.
    """
    return StreamResponse(_events(context, principal), context.streams)


async def _events(context: ApiContext, principal: Principal) -> AsyncIterator[ServerSentEvent]:
    feed = context.live.subscribe()
    try:
        yield ServerSentEvent(comment="open", retry=RETRY_MS)
        async for event, data in feed:
            if not await context.key_cache.is_live(principal.key):
                return
            yield ServerSentEvent(to_json(event_json(data)).decode(), event=event)
    finally:
        close = getattr(feed, "aclose", None)
        if close is not None:
            await close()
