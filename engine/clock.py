"""The clock of the running system; tests bring their own."""

import asyncio
import time

_MAX_SLEEP_S = 10.0


class SystemClock:
    """Nanoseconds UTC of this machine."""

    def now(self) -> int:
        """Nanoseconds UTC."""
        return time.time_ns()

    async def sleep_until(self, time_ns: int) -> None:
        """Return when `now()` has reached time_ns.

        Sleeps in short naps, so that a clock that was set, or a machine that was suspended, is noticed.
        """
        while (left_s := (time_ns - self.now()) / 1e9) > 0:  # noqa: ASYNC110 - waits for the clock, not for a task
            await asyncio.sleep(min(left_s, _MAX_SLEEP_S))
