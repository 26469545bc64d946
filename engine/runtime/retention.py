"""What is too old is removed from the store, a little at a time."""

from collections.abc import Callable
from functools import partial

import structlog

from trimtab.engine.api.security import api_keys
from trimtab.engine.errors import StoreError
from trimtab.engine.runtime.loop_context import LoopContext

log = structlog.get_logger(__name__)

FIRST_RUN_S, INTERVAL_S, PAUSE_S = 60.0, 3600.0, 1.0
"""After the start, between runs, between batches."""
BATCH_ROWS, MAX_BATCHES = 500, 20
"""Rows of a transaction, and transactions of a run: ticks wait for one only, and an hour has an end."""


class RetentionTask:
    """Removes events whose time is over, and browser sessions and login links that ended.

    events_days : so long after their end events are kept
    """

    def __init__(self, around: LoopContext, events_days: float) -> None:
        self.context = around
        self.retention_ns = int(events_days * 86_400e9)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._sleep(FIRST_RUN_S)
        while True:
            await self.delete_expired()
            await self._sleep(INTERVAL_S)

    async def delete_expired(self) -> None:
        """One run; what is left over waits for the next one."""
        store, clock = self.context.store, self.context.clock
        before = clock.now() - self.retention_ns
        try:
            events = await self._delete_in_batches(partial(store.delete_ended, before))
            ended = await self._delete_in_batches(partial(api_keys.delete_ended_sessions, store, clock))
        except StoreError as error:
            log.warning("old events cannot be removed, trying again later", error=str(error))
            return
        if events or ended:
            log.info("removed what is too old", events=events, sessions=ended)

    async def _delete_in_batches(self, forget: Callable[[int], int]) -> int:
        """How many rows went."""
        total = 0
        for _ in range(MAX_BATCHES):
            gone = await self.context.run_in_worker(forget, BATCH_ROWS)
            total += gone
            if gone < BATCH_ROWS:
                break
            await self._sleep(PAUSE_S)
        return total

    async def _sleep(self, seconds: float) -> None:
        clock = self.context.clock
        await clock.sleep_until(clock.now() + int(seconds * 1e9))
