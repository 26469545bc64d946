"""How the engine itself does: memory, processor, ticks, stores. Looked at every few seconds."""

import asyncio
import time
from collections.abc import Callable, Iterable

import psutil
import structlog

from trimtab.engine.live.live_state import Live
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.ports import Store
from trimtab.engine.runtime.source_loop import SourceLoop

log = structlog.get_logger(__name__)

EVERY_S = 5.0
ANSWER_S = 5.0
"""A store that takes longer to say how it does is no good to anybody."""


class Vitals:
    """Writes the engine's own figures to the live view and the metrics.

    loops : the loops that run now
    """

    def __init__(
        self, live: Live, metrics: Metrics, loops: Callable[[], Iterable[SourceLoop]], store: Store
    ) -> None:
        self.live = live
        self.metrics = metrics
        self.loops = loops
        self.store = store
        self._asked: asyncio.Task[str | None] | None = None
        self._process = psutil.Process()
        self._begin = time.monotonic()
        self._cpu_before = (self._begin, time.process_time())

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Take the figures once, and ask the store how it does."""
        trouble = await self._trouble()
        if trouble != self.live.trouble():
            if trouble:
                log.error("the store is unusable", why=trouble)
            else:
                log.info("the store is usable again")
        self.live.suffer(trouble)
        self.metrics.store_healthy(not trouble)
        self._take(trouble)

    async def _trouble(self) -> str:
        """What makes the store unusable, "" = nothing."""
        if self._asked is None:
            self._asked = asyncio.create_task(asyncio.to_thread(self.store.healthy))
        if not (await asyncio.wait({self._asked}, timeout=ANSWER_S))[0]:
            return f"it gave no answer within {ANSWER_S:g} s; is its disk or server overloaded?"
        asked, self._asked = self._asked, None
        return asked.result() or ""

    def _take(self, trouble: str) -> None:
        now, used = time.monotonic(), time.process_time()
        before, used_before = self._cpu_before
        self._cpu_before = (now, used)
        loops = list(self.loops())
        problems = [loop.keeper.problem for loop in loops if loop.keeper.problem]
        self.live.note(
            uptime_s=round(now - self._begin, 1),
            memory_bytes=self._process.memory_info().rss,
            cpu_ratio=round((used - used_before) / max(now - before, 1e-3), 4),
            ticks=sum(loop.ticks for loop in loops),
            tick_seconds=round(max((loop.tick_s for loop in loops), default=0.0), 6),
            tick_lag_s=round(max((loop.lag_s for loop in loops), default=0.0), 3),
            late_samples=sum(loop.assembler.late for loop in loops),
            store=trouble or (problems[0] if problems else "ok"),
            waiting_for_store=sum(loop.keeper.waiting for loop in loops),
            scores_dropped=sum(loop.keeper.dropped for loop in loops),
        )
        self.metrics.anomalies_open(int(self.live.engine()["anomalies_open"]))
        self.metrics.unusual(self.live.unusual())
