"""Reports the engine's own metrics every few seconds: memory, CPU, ticks, store health."""

import asyncio
import time
from collections.abc import Callable, Iterable

import psutil
import structlog

from trimtab.engine.live.live_state import LiveState
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.ports import Store
from trimtab.engine.runtime.source_loop import SourceLoop

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
STORE_TIMEOUT_S = 5.0
"""Seconds a store may take to report its health; slower counts as unusable."""


class SelfMetrics:
    """Writes the engine's own metrics to the live state and the Prometheus metrics.

    loops : returns the source loops that run now
    store : store whose health is checked
    """

    def __init__(
        self, live: LiveState, metrics: Metrics, loops: Callable[[], Iterable[SourceLoop]], store: Store
    ) -> None:
        self.live = live
        self.metrics = metrics
        self.loops = loops
        self.store = store
        self._health_check: asyncio.Task[str | None] | None = None
        self._process = psutil.Process()
        self._started = time.monotonic()
        self._cpu_before = (self._started, time.process_time())

    async def run(self) -> None:
        """Update every 5 s until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(INTERVAL_S)

    async def update(self) -> None:
        """Measure once and check the health of the store."""
        problem = await self._store_problem()
        if problem != self.live.problem():
            if problem:
                log.error("store_unusable", reason=problem)
            else:
                log.info("store_usable_again")
        self.live.set_problem(problem)
        self.metrics.set_store_healthy(not problem)
        self._publish(problem)

    async def _store_problem(self) -> str:
        """Return why the store is unusable; "" = it is usable."""
        if self._health_check is None:
            self._health_check = asyncio.create_task(asyncio.to_thread(self.store.health_problem))
        if not (await asyncio.wait({self._health_check}, timeout=STORE_TIMEOUT_S))[0]:
            return f"the store gave no answer within {STORE_TIMEOUT_S:g} s; is its disk or server overloaded?"
        check, self._health_check = self._health_check, None
        return check.result() or ""

    def _publish(self, problem: str) -> None:
        now, cpu = time.monotonic(), time.process_time()
        before, cpu_before = self._cpu_before
        self._cpu_before = (now, cpu)
        loops = list(self.loops())
        problems = [loop.persistence.problem for loop in loops if loop.persistence.problem]
        self.live.set_engine_values(
            uptime_s=round(now - self._started, 1),
            memory_bytes=self._process.memory_info().rss,
            cpu_ratio=round((cpu - cpu_before) / max(now - before, 1e-3), 4),
            ticks=sum(loop.tick_count for loop in loops),
            tick_seconds=round(max((loop.tick_s for loop in loops), default=0.0), 6),
            tick_lag_s=round(max((loop.lag_s for loop in loops), default=0.0), 3),
            late_samples=sum(loop.assembler.late_samples for loop in loops),
            store=problem or (problems[0] if problems else "ok"),
            waiting_for_store=sum(loop.persistence.pending_count for loop in loops),
            scores_dropped=sum(loop.persistence.dropped_count for loop in loops),
        )
        self.metrics.set_open_anomalies(int(self.live.engine_status()["anomalies_open"]))
        self.metrics.set_unusual_series(self.live.unusual_series())
