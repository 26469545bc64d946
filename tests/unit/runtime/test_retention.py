"""Deletion of expired events, sessions and login links."""

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
def context(tmp_path):
    """Loop context with a real store and a fake clock."""
    clock = FakeClock()
    with ThreadPoolExecutor(1) as work:
        store = open_store(tmp_path, clock.now)
        yield LoopContext(clock, store, FakeScoreLog(), FakeSnapshots(), LiveState(), FakeTickMetrics(), work)
        store.close()


async def test_expired_events_and_ended_sessions_are_deleted(context):
    """Anomalies are deleted after their retention, ended sessions and links after a day, keys never."""
    store, clock = context.store, context.clock
    key, _ = api_keys.create_key(store, clock, "ci", ["read"], DAY_S)
    api_keys.open_session(store, clock, key)
    api_keys.create_login_url(store, clock, "http://x")
    api_keys.open_session(store, clock, None)
    store.save_anomaly(anomaly_of(CPU, ulid(1), end=clock.now()))
    store.save_anomaly(anomaly_of(CPU, ulid(2)))
    pruner = RetentionTask(context, events_days=10)
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


async def test_a_run_is_bounded(context, monkeypatch):
    """A run deletes a limited number of rows in batches and leaves the rest."""
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    monkeypatch.setattr(retention, "MAX_BATCHES", 3)
    monkeypatch.setattr(retention, "PAUSE_S", 0)
    for i in range(9):
        context.store.save_anomaly(anomaly_of(CPU, ulid(i), end=context.clock.now()))
    context.clock.tick(2 * DAY_S)
    await RetentionTask(context, events_days=1).delete_expired()
    assert len(context.store.anomalies()) == 3


async def test_a_failing_store_ends_the_run(context, monkeypatch):
    """A StoreError is logged and ends the run."""

    def full(*_):
        raise StoreError("disk full")

    monkeypatch.setattr(context.store, "delete_ended", full)
    with capture_logs() as logs:
        await RetentionTask(context, events_days=1).delete_expired()
    assert [entry["error"] for entry in logs] == ["disk full"]
