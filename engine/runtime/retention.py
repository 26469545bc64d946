"""What is too old is removed from the store, a little at a time."""

from collections.abc import Callable
from functools import partial

import structlog

from trimtab.engine.api.security import api_keys
from trimtab.engine.errors import StoreError
from trimtab.engine.runtime.loop_context import Surroundings

log = structlog.get_logger(__name__)

FIRST_S, EVERY_S, PAUSE_S = 60.0, 3600.0, 1.0
"""After the start, between runs, between batches."""
BATCH, BATCHES = 500, 20
"""Rows of a transaction, and transactions of a run: ticks wait for one only, and an hour has an end."""


class Pruner:
    """Removes events whose time is over, and browser sessions and login links that ended.

    events_days : so long after their end events are kept
    """

    def __init__(self, around: Surroundings, events_days: float) -> None:
        self.around = around
        self.kept_ns = int(events_days * 86_400e9)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._sleep(FIRST_S)
        while True:
            await self.prune()
            await self._sleep(EVERY_S)

    async def prune(self) -> None:
        """One run; what is left over waits for the next one."""
        store, clock = self.around.store, self.around.clock
        before = clock.now() - self.kept_ns
        try:
            events = await self._in_batches(partial(store.forget_ended, before))
            ended = await self._in_batches(partial(api_keys.forget_dead, store, clock))
        except StoreError as error:
            log.warning("old events cannot be removed, trying again later", error=str(error))
            return
        if events or ended:
            log.info("removed what is too old", events=events, sessions=ended)

    async def _in_batches(self, forget: Callable[[int], int]) -> int:
        """How many rows went."""
        total = 0
        for _ in range(BATCHES):
            gone = await self.around.off_loop(forget, BATCH)
            total += gone
            if gone < BATCH:
                break
            await self._sleep(PAUSE_S)
        return total

    async def _sleep(self, seconds: float) -> None:
        clock = self.around.clock
        await clock.sleep_until(clock.now() + int(seconds * 1e9))
