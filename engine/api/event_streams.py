"""Server-sent event streams: limited in number, closed when the engine stops."""

from collections.abc import AsyncIterable
from typing import Any

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from trimtab.engine.api.problems import ProblemError

MAX_STREAMS = 100
PING_S = 15
SEND_TIMEOUT_S = 30.0
"""A client that accepts nothing for this long is disconnected."""


class EventStreams:
    """Limits and closes the open streams.

    max_streams : streams that may be open at once
    """

    def __init__(self, max_streams: int = MAX_STREAMS) -> None:
        self.max_streams = max_streams
        self._scopes: set[anyio.CancelScope] = set()
        self._closed = False

    @property
    def open_count(self) -> int:
        """Number of open streams."""
        return len(self._scopes)

    def close(self) -> None:
        """Close every stream and refuse new ones."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()

    def acquire(self) -> anyio.CancelScope:
        """Register a stream and return its cancel scope. Raises ProblemError 503 if the limit is reached."""
        if self._closed or self.open_count >= self.max_streams:
            why = (
                "the engine is stopping"
                if self._closed
                else f"{self.open_count} are open, which is the limit"
            )
            raise ProblemError(503, f"No more event streams: {why}.", {"Retry-After": "15"})
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        return scope

    def release(self, scope: anyio.CancelScope) -> None:
        """Unregister an ended stream."""
        self._scopes.discard(scope)


class StreamResponse(EventSourceResponse):
    """Server-sent events with a comment every PING_S seconds; occupies one stream."""

    def __init__(self, events: AsyncIterable[ServerSentEvent], streams: EventStreams) -> None:
        super().__init__(
            events, ping=PING_S, send_timeout=SEND_TIMEOUT_S,
            ping_message_factory=lambda: ServerSentEvent(comment="ping"),
        )  # fmt: skip
        self._streams = streams
        self._cancel_scope = streams.acquire()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client disconnects, the events end or the engine stops."""
        started = False

        async def tracking_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            with self._cancel_scope:
                await super().__call__(scope, receive, tracking_send)
            if self._cancel_scope.cancelled_caught and started:
                last: dict[str, Any] = {"type": "http.response.body", "body": b"", "more_body": False}
                await send(last)
        finally:
            self._streams.release(self._cancel_scope)
