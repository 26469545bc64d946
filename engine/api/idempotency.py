"""A write that is sent again with the same Idempotency-Key does nothing new and gets the same answer."""

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Header
from starlette.requests import Request
from starlette.responses import Response
from ulid import ULID

from trimtab.engine.api.api_context import ApiContext
from trimtab.engine.api.security.request_identity import Principal
from trimtab.engine.errors import ConflictError, InputError

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$",
        description="Any text of yours; a repetition within a day is answered as the first call was.",
    ),
]  # fmt: skip
_DIGEST_BYTES = 32
_running: set[tuple[int, str, str]] = set()
_running_lock = threading.Lock()


def run_once(
    here: ApiContext,
    request: Request,
    who: Principal,
    key: str | None,
    body: str,
    work: Callable[[], tuple[int, bytes]],
    redact: Callable[[bytes], bytes] = lambda answer: answer,
) -> Response:
    """Do `work` unless this caller's key was answered before. Blocks on the store.

    body       : the request's, to tell a repetition from a mistake
    work       : gives status and JSON body; raises what the caller is to see, which is not remembered
    remembered : what of the answer may be stored
    Raises InputError when the key came with another body, ConflictError while the first call still runs.
    """
    if key is None:
        status, answer = work()
        return _json(status, answer)
    name, route, digest = _request_key(request, who, key, body)
    with _exclusive(id(here.store), name, route):
        before = here.store.stored_response(name, route)
        if before is not None:
            return _replay(before, key, digest)
        status, answer = work()
        here.store.save_response(name, route, status, digest + redact(answer), here.clock.now())
    return _json(status, answer)


async def run_once_async(
    here: ApiContext,
    request: Request,
    who: Principal,
    key: str | None,
    body: str,
    work: Callable[[str], Awaitable[tuple[int, bytes]]],
) -> Response:
    """As `once`, for work on the event loop.

    work : is given a key, the same for a repetition of the call, so that it does nothing twice even where
           the answer was lost in a crash
    """
    if key is None:
        status, answer = await work(str(ULID()))
        return _json(status, answer)
    name, route, digest = _request_key(request, who, key, body)
    with _exclusive(id(here.store), name, route):
        before = await asyncio.to_thread(here.store.stored_response, name, route)
        if before is not None:
            return _replay(before, key, digest)
        status, answer = await work(f"{name} {route}")
        now = here.clock.now()
        await asyncio.to_thread(here.store.save_response, name, route, status, digest + answer, now)
    return _json(status, answer)


def _request_key(request: Request, who: Principal, key: str, body: str) -> tuple[str, str, bytes]:
    """Whose call it is, of what, and the digest of its body."""
    route = f"{request.method} {request.scope['path']}"
    return f"{who.key.id}:{key}", route, hashlib.sha256(body.encode()).digest()


def _replay(before: tuple[int, bytes], key: str, digest: bytes) -> Response:
    status, stored = before
    if stored[:_DIGEST_BYTES] != digest:
        raise InputError(f"Idempotency-Key {key!r} was used with another body; take a new one")
    return _json(status, stored[_DIGEST_BYTES:], {"Idempotency-Replayed": "true"})


@contextmanager
def _exclusive(store: int, name: str, route: str) -> Iterator[None]:
    entry = (store, name, route)
    with _running_lock:
        if entry in _running:
            raise ConflictError(
                "the first call with this Idempotency-Key is still running; ask again in a moment"
            )
        _running.add(entry)
    try:
        yield
    finally:
        with _running_lock:
            _running.discard(entry)


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")
