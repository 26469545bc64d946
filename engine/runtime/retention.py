"""Deletes expired events from the store, in small batches."""

from collections.abc import Callable
from functools import partial

import structlog

from trimtab.engine.api.security import api_keys
from trimtab.engine.errors import StoreError
from trimtab.engine.runtime.loop_context import LoopContext

log = structlog.get_logger(__name__)

FIRST_RUN_S, INTERVAL_S, PAUSE_S = 60.0, 3600.0, 1.0
"""Seconds after the start, between runs, and between batches."""
BATCH_ROWS, MAX_BATCHES = 500, 20
"""Rows per transaction and transactions per run: a tick waits for one transaction at most."""


class RetentionTask:
    """Deletes events past their retention, ended browser sessions and expired login links.

    context     : store, clock and worker thread
    events_days : days to keep an event after its end
    """

    def __init__(self, context: LoopContext, events_days: float) -> None:
        self.context = context
        self.retention_ns = int(events_days * 86_400e9)

    async def run(self) -> None:
        """Run every hour until cancelled."""
        await self._sleep(FIRST_RUN_S)
        while True:
            await self.delete_expired()
            await self._sleep(INTERVAL_S)

    async def delete_expired(self) -> None:
        """Run once; rows beyond the batch limit wait for the next run."""
        store, clock = self.context.store, self.context.clock
        ended_before = clock.now() - self.retention_ns
        try:
            events = await self._delete_in_batches(partial(store.delete_ended, ended_before))
            sessions = await self._delete_in_batches(partial(api_keys.delete_ended_sessions, store, clock))
        except StoreError as error:
            log.warning("retention_failed", error=str(error))
            return
        if events or sessions:
            log.info("expired_rows_deleted", events=events, sessions=sessions)

    async def _delete_in_batches(self, delete: Callable[[int], int]) -> int:
        """Return the number of deleted rows."""
        total = 0
        for _ in range(MAX_BATCHES):
            deleted = await self.context.run_in_worker(delete, BATCH_ROWS)
            total += deleted
            if deleted < BATCH_ROWS:
                break
            await self._sleep(PAUSE_S)
        return total

    async def _sleep(self, seconds: float) -> None:
        clock = self.context.clock
        await clock.sleep_until(clock.now() + int(seconds * 1e9))
