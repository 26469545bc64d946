"""The engine's own metrics: health of the store."""

import threading

import pytest
from structlog.testing import capture_logs

from tests.fakes.ports import START, FakeStore
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.runtime import self_metrics
from trimtab.engine.runtime.self_metrics import SelfMetrics
from trimtab.engine.store import open_store


def store_health(metrics: Metrics) -> str:
    """Return the store's health in the metrics."""
    return next(
        line.split()[1] for line in metrics.render().splitlines() if line.startswith("trimtab_store_healthy")
    )


async def test_a_deleted_store_is_reported(tmp_path):
    """A deleted database file shows in status and metrics; before the first check the health is NaN."""
    store, live, metrics = open_store(tmp_path, lambda: START), LiveState(), Metrics("1")
    self_metrics_task = SelfMetrics(live, metrics, list, store)
    assert store_health(metrics) == "NaN"
    await self_metrics_task.update()
    assert (live.problem(), live.engine_status()["store"], store_health(metrics)) == ("", "ok", "1.0")
    store.close()
    (tmp_path / "trimtab.db").unlink()
    await self_metrics_task.update()
    assert "trimtab.db no longer exists" in live.problem()
    assert live.engine_status()["store"] == live.problem()
    assert store_health(metrics) == "0.0"


async def test_a_store_problem_and_its_end_are_logged_once():
    """One line is logged when a store becomes unusable, and one when it is usable again."""
    store = FakeStore()
    self_metrics_task = SelfMetrics(LiveState(), Metrics("1"), list, store)
    with capture_logs() as logs:
        for broken in (None, "disk full", "disk full", None, None):
            store.broken = broken
            await self_metrics_task.update()
    assert [entry["event"] for entry in logs] == ["store_unusable", "store_usable_again"]


async def test_a_store_that_does_not_answer_is_unusable(monkeypatch):
    """A hanging store is queried once and reported as giving no answer."""
    monkeypatch.setattr(self_metrics, "STORE_TIMEOUT_S", 0.01)
    calls, answer = [], threading.Event()
    store = FakeStore()

    def hang() -> None:
        calls.append(1)
        answer.wait(10)

    store.health_problem = hang
    live = LiveState()
    self_metrics_task = SelfMetrics(live, Metrics("1"), list, store)
    for _ in range(3):
        await self_metrics_task.update()
        assert "no answer within" in live.problem()
    assert calls == [1]
    answer.set()
    monkeypatch.setattr(self_metrics, "STORE_TIMEOUT_S", 10)
    await self_metrics_task.update()
    assert live.problem() == ""


async def test_an_unexpected_error_is_raised():
    """An unexpected error of the health check is raised."""
    store = FakeStore()
    store.health_problem = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await SelfMetrics(LiveState(), Metrics("1"), list, store).update()
