"""System clock of the running engine. Tests use a fake clock."""

import asyncio
import time

_MAX_SLEEP_S = 10.0


class SystemClock:
    """Clock of this machine: int64 nanoseconds UTC."""

    def now(self) -> int:
        """Return the current time in nanoseconds UTC."""
        return time.time_ns()

    async def sleep_until(self, time_ns: int) -> None:
        """Return when `now()` has reached `time_ns`.

        Sleeps at most 10 s at a time, so that a changed clock or a suspended machine is noticed.
        """
        while (left_s := (time_ns - self.now()) / 1e9) > 0:  # noqa: ASYNC110 - waits for the clock, not for a task
            await asyncio.sleep(min(left_s, _MAX_SLEEP_S))
