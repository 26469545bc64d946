"""A call to somebody's tool that neither lasts too long nor takes the engine down."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError

T = TypeVar("T")
ALLOWED_ERRORS = (ToolError, NotFoundError, ConflictError, RefusedError)
"""What a tool may raise."""
CANCEL_GRACE_S = 0.5
"""How long a call that was cut off may take to let go of what it holds."""

_abandoned_tasks: set[asyncio.Task[Any]] = set()
"""Calls that go on though they were cancelled; kept, so that they are not lost half-way."""


class ToolFaultError(Exception):
    """A tool raised what it may not raise; the cause is the exception itself."""


async def run_contained(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """The result of `work`, within limit_s even where it does not end when it is cancelled.

    Raises what a tool may raise, TimeoutError, and FaultError for everything else.
    """
    task = asyncio.create_task(_wrap_faults(work))
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        await _cancel(task)
        raise
    if not done:
        await _cancel(task)
        raise TimeoutError
    if task.cancelled():
        raise ToolFaultError("it cancelled itself")
    return task.result()


async def _wrap_faults(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except ALLOWED_ERRORS:
        raise
    except (Exception, SystemExit) as error:
        raise ToolFaultError(f"{type(error).__name__}: {error}") from error


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    _abandoned_tasks.add(task)
    task.add_done_callback(_discard_task)
    await asyncio.wait({task}, timeout=CANCEL_GRACE_S)


def _discard_task(task: asyncio.Task[Any]) -> None:
    _abandoned_tasks.discard(task)
    if not task.cancelled():
        task.exception()
