"""Open event streams: at most so many, and all of them end when the engine stops."""

from collections.abc import AsyncIterable
from typing import Any

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from trimtab.engine.api.problems import ProblemError

MAX_STREAMS = 100
PING_S = 15
SEND_TIMEOUT_S = 30.0
"""A client that takes nothing for so long is let go."""


class EventStreams:
    """Counts the open streams and ends them."""

    def __init__(self, max_streams: int = MAX_STREAMS) -> None:
        self.max_streams = max_streams
        self._scopes: set[anyio.CancelScope] = set()
        self._closed = False

    @property
    def open_count(self) -> int:
        """How many there are."""
        return len(self._scopes)

    def close(self) -> None:
        """End every stream and refuse new ones, so that the server need not wait for browsers."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()

    def acquire(self) -> anyio.CancelScope:
        """One of the places. Raises ProblemError 503 when there is none."""
        if self._closed or self.open_count >= self.max_streams:
            why = "the engine stops" if self._closed else f"{self.open_count} are open, the most there may be"
            raise ProblemError(503, f"No further event stream: {why}.", {"Retry-After": "15"})
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        return scope

    def release(self, scope: anyio.CancelScope) -> None:
        """Its stream has ended."""
        self._scopes.discard(scope)


class StreamResponse(EventSourceResponse):
    """Server-sent events with a comment every 15 s, in one of the places."""

    def __init__(self, events: AsyncIterable[ServerSentEvent], streams: EventStreams) -> None:
        super().__init__(
            events, ping=PING_S, send_timeout=SEND_TIMEOUT_S,
            ping_message_factory=lambda: ServerSentEvent(comment="ping"),
        )  # fmt: skip
        self._streams = streams
        self._cancel_scope = streams.acquire()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client leaves, the events end or the engine stops."""
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            with self._cancel_scope:
                await super().__call__(scope, receive, noted)
            if self._cancel_scope.cancelled_caught and started:
                last: dict[str, Any] = {"type": "http.response.body", "body": b"", "more_body": False}
                await send(last)
        finally:
            self._streams.release(self._cancel_scope)
