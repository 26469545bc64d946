"""Sandbox for calls of tools: a hard deadline, and unexpected exceptions turned into ToolFaultError."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError

T = TypeVar("T")
ALLOWED_ERRORS = (ToolError, NotFoundError, ConflictError, RefusedError)
"""Exceptions that a tool may raise."""
CANCEL_GRACE_S = 0.5
"""Seconds a cancelled call gets to clean up before it is abandoned."""

_abandoned_tasks: set[asyncio.Task[Any]] = set()
"""Cancelled calls that still run; referenced so that they are not garbage-collected."""


class ToolFaultError(Exception):
    """A tool raised an unexpected exception, which is the cause."""


async def run_contained(call: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """Return the result of `call`; return to the caller after `timeout_s` even if it ignores cancellation.

    Raises what a tool may raise, TimeoutError, and ToolFaultError for any other exception.
    """
    task = asyncio.create_task(_wrap_faults(call))
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        await _cancel(task)
        raise
    if not done:
        await _cancel(task)
        raise TimeoutError
    if task.cancelled():
        raise ToolFaultError("the call cancelled itself")
    return task.result()


async def _wrap_faults(call: Coroutine[Any, Any, T]) -> T:
    try:
        return await call
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
