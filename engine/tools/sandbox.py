"""A call to somebody's tool that neither lasts too long nor takes the engine down."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError

T = TypeVar("T")
ALLOWED = (ToolError, NotFoundError, ConflictError, RefusedError)
"""What a tool may raise."""
UNWIND_S = 0.5
"""How long a call that was cut off may take to let go of what it holds."""

_left: set[asyncio.Task[Any]] = set()
"""Calls that go on though they were cancelled; kept, so that they are not lost half-way."""


class FaultError(Exception):
    """A tool raised what it may not raise; the cause is the exception itself."""


async def contained(work: Coroutine[Any, Any, T], limit_s: float) -> T:
    """The result of `work`, within limit_s even where it does not end when it is cancelled.

    Raises what a tool may raise, TimeoutError, and FaultError for everything else.
    """
    task = asyncio.create_task(_faults_marked(work))
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    except asyncio.CancelledError:
        await _cut_off(task)
        raise
    if not done:
        await _cut_off(task)
        raise TimeoutError
    if task.cancelled():
        raise FaultError("it cancelled itself")
    return task.result()


async def _faults_marked(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except ALLOWED:
        raise
    except (Exception, SystemExit) as error:
        raise FaultError(f"{type(error).__name__}: {error}") from error


async def _cut_off(task: asyncio.Task[Any]) -> None:
    task.cancel()
    _left.add(task)
    task.add_done_callback(_let_go)
    await asyncio.wait({task}, timeout=UNWIND_S)


def _let_go(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()
