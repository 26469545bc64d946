"""Idempotent writes: a repetition with the same Idempotency-Key gets the stored response."""

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import Request
from starlette.responses import Response
from ulid import ULID

from trimtab.engine.api.api_context import ApiContext, ContextDep, PrincipalDep
from trimtab.engine.api.security.request_identity import Principal
from trimtab.engine.errors import ConflictError, InputError

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$",
        description="Unique text per operation; a repetition within a day gets the first response.",
    ),
]  # fmt: skip
_DIGEST_BYTES = 32
_running: set[tuple[int, str, str]] = set()
_running_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Write:
    """A write request with its context, its caller and its Idempotency-Key (None = no key)."""

    request: Request
    context: ApiContext
    principal: Principal
    key: str | None

    @property
    def caller(self) -> str:
        """Name of the caller's API key."""
        return self.principal.name

    def respond(
        self,
        body: str,
        work: Callable[[], tuple[int, bytes]],
        redact: Callable[[bytes], bytes] = lambda response: response,
    ) -> Response:
        """Run `work` unless this caller's key has a stored response. Blocks on the store.

        body   : request body; a stored response applies only to an equal body
        work   : returns status and JSON body; its exceptions reach the caller and are not stored
        redact : returns the part of the response that may be stored
        Raises InputError if the key was used with another body, ConflictError while the first call runs.
        """
        if self.key is None:
            return _json(*work())
        store, (name, route, digest) = self.context.store, self._identity(body)
        with _exclusive(id(store), name, route):
            stored = store.stored_response(name, route)
            if stored is not None:
                return _replay(stored, self.key, digest)
            status, response = work()
            store.save_response(name, route, status, digest + redact(response), self.context.clock.now())
        return _json(status, response)

    async def respond_async(self, body: str, work: Callable[[str], Awaitable[tuple[int, bytes]]]) -> Response:
        """Like `respond`, for work on the event loop.

        work : receives an operation key, equal for repetitions, so that a repetition has no further effect
               even if the response was lost in a crash
        """
        if self.key is None:
            return _json(*await work(str(ULID())))
        store, (name, route, digest) = self.context.store, self._identity(body)
        with _exclusive(id(store), name, route):
            stored = await asyncio.to_thread(store.stored_response, name, route)
            if stored is not None:
                return _replay(stored, self.key, digest)
            status, response = await work(f"{name} {route}")
            now = self.context.clock.now()
            await asyncio.to_thread(store.save_response, name, route, status, digest + response, now)
        return _json(status, response)

    def _identity(self, body: str) -> tuple[str, str, bytes]:
        """Return (caller and key, route, digest of the body)."""
        route = f"{self.request.method} {self.request.scope['path']}"
        return f"{self.principal.key.id}:{self.key}", route, hashlib.sha256(body.encode()).digest()


async def _get_write(
    request: Request, context: ContextDep, principal: PrincipalDep, key: IdempotencyKey = None
) -> Write:
    return Write(request, context, principal, key)


WriteDep = Annotated[Write, Depends(_get_write)]


def _replay(stored_response: tuple[int, bytes], key: str, digest: bytes) -> Response:
    status, stored = stored_response
    if stored[:_DIGEST_BYTES] != digest:
        raise InputError(f"Idempotency-Key {key!r} was used with another body; use a new key")
    return _json(status, stored[_DIGEST_BYTES:], {"Idempotency-Replayed": "true"})


@contextmanager
def _exclusive(store: int, name: str, route: str) -> Iterator[None]:
    entry = (store, name, route)
    with _running_lock:
        if entry in _running:
            raise ConflictError(
                "the first call with this Idempotency-Key is still running; retry in a moment"
            )
        _running.add(entry)
    try:
        yield
    finally:
        with _running_lock:
            _running.discard(entry)


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")
