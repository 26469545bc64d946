"""A POST that is sent again with the same Idempotency-Key does nothing new and gets the same answer."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Header
from starlette.requests import Request
from starlette.responses import Response

from trimtab.engine.api.context import Context
from trimtab.engine.api.visit import Principal
from trimtab.engine.errors import ConflictError, InputError

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$",
        description="Any text of yours; a repetition within a day is answered as the first call was.",
    ),
]  # fmt: skip
_DIGEST = 32
_busy: set[tuple[int, str, str]] = set()
_busy_lock = threading.Lock()


def once(
    here: Context,
    request: Request,
    who: Principal,
    key: str | None,
    body: str,
    work: Callable[[], tuple[int, bytes]],
    remembered: Callable[[bytes], bytes] = lambda answer: answer,
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
    name, route = f"{who.key.id}:{key}", f"{request.method} {request.scope['path']}"
    digest = hashlib.sha256(body.encode()).digest()
    with _alone(id(here.store), name, route):
        before = here.store.answered(name, route)
        if before is not None:
            if before[1][:_DIGEST] != digest:
                raise InputError(f"Idempotency-Key {key!r} was used with another body; take a new one")
            return _json(before[0], before[1][_DIGEST:], {"Idempotency-Replayed": "true"})
        status, answer = work()
        here.store.remember_answer(name, route, status, digest + remembered(answer), here.clock.now())
    return _json(status, answer)


@contextmanager
def _alone(store: int, name: str, route: str) -> Iterator[None]:
    entry = (store, name, route)
    with _busy_lock:
        if entry in _busy:
            raise ConflictError(
                "the first call with this Idempotency-Key is still running; ask again in a moment"
            )
        _busy.add(entry)
    try:
        yield
    finally:
        with _busy_lock:
            _busy.discard(entry)


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")
