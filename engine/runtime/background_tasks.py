"""Work that goes on beside the loops for as long as the engine runs."""

from collections.abc import Awaitable, Callable

import structlog

from trimtab.engine.errors import LockedError
from trimtab.engine.ports import Clock

log = structlog.get_logger(__name__)

RESTART_DELAY_S = 30.0
"""After a fault of ours, beyond what the work itself goes on from."""


async def keep_running(name: str, task: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do the work, and again RETRY_S after it failed, until it is at its end or cancelled.

    Raises LockedError, which no other try mends: another engine has taken over.
    """
    while True:
        try:
            await task()
        except LockedError:
            raise
        except Exception:
            log.exception("a part stopped, it is started again", part=name, after_s=RESTART_DELAY_S)
        else:
            return
        await clock.sleep_until(clock.now() + int(RESTART_DELAY_S * 1e9))
