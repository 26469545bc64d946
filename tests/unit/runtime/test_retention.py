"""What is too old is removed, a little at a time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from tests.builders.series import anomaly_of
from tests.contracts.event_store_contract import CPU, ids_of, ulid
from tests.fakes.ports import FakeClock, FakeScoreLog, FakeSnapshots
from tests.unit.runtime.test_source_loop import FakeTickMetrics
from trimtab.engine.api.security import api_keys
from trimtab.engine.errors import StoreError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime import retention
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.retention import RetentionTask
from trimtab.engine.store import open_store

DAY_S = 86_400


@pytest.fixture
def around(tmp_path):
    """A real store on a clock of the test's own."""
    clock = FakeClock()
    with ThreadPoolExecutor(1) as work:
        store = open_store(tmp_path, clock.now)
        yield LoopContext(clock, store, FakeScoreLog(), FakeSnapshots(), LiveState(), FakeTickMetrics(), work)
        store.close()


async def test_events_go_after_their_days_and_sessions_after_their_end(around):
    """Anomalies stay so many days after their end, dead sessions and links for a day, keys for ever."""
    store, clock = around.store, around.clock
    key, _ = api_keys.create_key(store, clock, "ci", ["read"], DAY_S)
    api_keys.open_session(store, clock, key)
    api_keys.create_login_url(store, clock, "http://x")
    api_keys.open_session(store, clock, None)
    store.save_anomaly(anomaly_of(CPU, ulid(1), end=clock.now()))
    store.save_anomaly(anomaly_of(CPU, ulid(2)))
    pruner = RetentionTask(around, events_days=10)
    clock.tick(2.5 * DAY_S)
    with capture_logs() as logs:
        await pruner.delete_expired()
        await pruner.delete_expired()
    assert [entry["sessions"] for entry in logs] == [2]
    assert sorted(stored.name for stored in store.keys()) == ["ci", "session"]  # noqa: SIM118 - a port
    assert ids_of(store.anomalies()) == [ulid(2), ulid(1)]
    clock.tick(8 * DAY_S)
    await pruner.delete_expired()
    assert ids_of(store.anomalies()) == [ulid(2)]


async def test_a_run_is_bounded(around, monkeypatch):
    """A run removes a limited number, batch by batch with a pause between, and leaves the rest."""
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    monkeypatch.setattr(retention, "MAX_BATCHES", 3)
    monkeypatch.setattr(retention, "PAUSE_S", 0)
    for i in range(9):
        around.store.save_anomaly(anomaly_of(CPU, ulid(i), end=around.clock.now()))
    around.clock.tick(2 * DAY_S)
    await RetentionTask(around, events_days=1).delete_expired()
    assert len(around.store.anomalies()) == 3


async def test_a_store_that_fails_is_tried_again_later(around, monkeypatch):
    """Where the store cannot be written the run says so and ends."""

    def full(*_):
        raise StoreError("disk full")

    monkeypatch.setattr(around.store, "delete_ended", full)
    with capture_logs() as logs:
        await RetentionTask(around, events_days=1).delete_expired()
    assert [entry["error"] for entry in logs] == ["disk full"]
