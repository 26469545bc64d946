"""Restarts of real processes, scraped by a real Prometheus, become change events."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from tests.builders.detected_series import PlainScorer
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeScoreLog, FakeSnapshots, FakeStore
from tests.servers.prometheus import start_node_exporter, start_prometheus, wait_for
from tests.unit.runtime.test_source_loop import FakeTickMetrics, ImmediateExecutor
from trimtab.engine.clock import SystemClock
from trimtab.engine.detection import source_scoring
from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.source_loop import SourceLoop
from trimtab.engine.settings import Prometheus
from trimtab.engine.sources.prometheus.prometheus_source import PrometheusSource
from trimtab.engine.types import ChangeKind

ENTITY = "node"


async def wait_until(check, condition, within_s=60.0):
    """Wait until `check()` is truthy."""
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, f"not within {within_s} s: {condition}"
        await asyncio.sleep(0.1)


class PrometheusWithoutHistory(PrometheusSource):
    """Prometheus source that reads no history, so that no warm-up delays the test."""

    async def history(self, now_ns):
        for chunk in ():
            yield now_ns, chunk


@asynccontextmanager
async def running_loop(loop):
    """Run a loop for the block."""
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await loop.stop()


@pytest.mark.slow
async def test_an_exporter_that_restarts_is_a_change(tmp_path, monkeypatch):
    """A moved start time is one change event of its entity, at the time of the restart."""
    monkeypatch.setattr(source_scoring, "Scorer", PlainScorer)
    store, incidents, clock = FakeStore(), FakeIncidents(), SystemClock()
    with start_node_exporter(tmp_path / "node") as node, start_prometheus(tmp_path / "prometheus") as server:
        server.set_targets({ENTITY: [node.address], "prometheus": [server.address]})
        wait_for(lambda: len(server.query("process_start_time_seconds")) == 2, 30)
        context = LoopContext(
            clock, store, FakeScoreLog(), FakeSnapshots(), LiveState(), FakeTickMetrics(), ImmediateExecutor()
        )
        context.incident_service = IncidentService(store, incidents, FakeKeyValueStore())
        loop = SourceLoop(PrometheusWithoutHistory(Prometheus(url=server.url), clock), context)
        async with running_loop(loop):
            await wait_until(lambda: loop.tick_count > 3, "ticks")
            node.stop()
            began = clock.now()
            node.start()
            await wait_until(incidents.changes, "a change")
            ticks = loop.tick_count
            await wait_until(lambda: loop.tick_count > ticks + 3, "more ticks")
    (change,) = incidents.changes()
    assert (change.kind, change.by) == (ChangeKind.RESTART, "seen")
    assert change.title == f"{ENTITY}/{node.address} restarted"
    assert change.labels == {"instance": node.address, "job": ENTITY}
    assert abs(change.time - began) < 5e9
