"""Work that goes on beside the loops for as long as the engine runs."""

from collections.abc import Awaitable, Callable

import structlog

from trimtab.engine.errors import LockedError
from trimtab.engine.ports import Clock

log = structlog.get_logger(__name__)

RESTART_DELAY_S = 30.0
"""Seconds between a failure of a task and its restart."""


async def keep_running(name: str, task: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run a task, and restart it `RESTART_DELAY_S` after each failure, until it returns or is cancelled.

    Raises LockedError, which no restart can fix: another engine has taken over.
    """
    while True:
        try:
            await task()
        except LockedError:
            raise
        except Exception:
            log.exception("task_failed", task=name, restart_after_s=RESTART_DELAY_S)
        else:
            return
        await clock.sleep_until(clock.now() + int(RESTART_DELAY_S * 1e9))
