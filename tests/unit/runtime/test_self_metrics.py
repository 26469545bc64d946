"""How the engine looks after itself: what it tells of its store."""

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
    """What the metrics say of the store."""
    return next(
        line.split()[1] for line in metrics.render().splitlines() if line.startswith("trimtab_store_healthy")
    )


async def test_a_store_that_is_gone_is_told(tmp_path):
    """A store whose file is gone shows as trouble, in the status and in the metrics; before it is unknown."""
    store, live, metrics = open_store(tmp_path, lambda: START), LiveState(), Metrics("1")
    looking = SelfMetrics(live, metrics, list, store)
    assert store_health(metrics) == "NaN"
    await looking.update()
    assert (live.problem(), live.engine_status()["store"], store_health(metrics)) == ("", "ok", "1.0")
    store.close()
    (tmp_path / "trimtab.db").unlink()
    await looking.update()
    assert "trimtab.db is gone" in live.problem()
    assert live.engine_status()["store"] == live.problem()
    assert store_health(metrics) == "0.0"


async def test_trouble_and_its_end_are_logged_once():
    """One line when a store becomes unusable and one when it is usable again, however long it lasts."""
    store = FakeStore()
    looking = SelfMetrics(LiveState(), Metrics("1"), list, store)
    with capture_logs() as logs:
        for broken in (None, "disk full", "disk full", None, None):
            store.broken = broken
            await looking.update()
    assert [entry["event"] for entry in logs] == ["the store is unusable", "the store is usable again"]


async def test_a_store_that_does_not_answer_is_unusable(monkeypatch):
    """A store that hangs is asked once, not again and again, and is said to give no answer."""
    monkeypatch.setattr(self_metrics, "STORE_TIMEOUT_S", 0.01)
    asked, answer = [], threading.Event()
    store = FakeStore()

    def hang() -> None:
        asked.append(1)
        answer.wait(10)

    store.health_problem = hang
    live = LiveState()
    looking = SelfMetrics(live, Metrics("1"), list, store)
    for _ in range(3):
        await looking.update()
        assert "no answer within" in live.problem()
    assert asked == [1]
    answer.set()
    monkeypatch.setattr(self_metrics, "STORE_TIMEOUT_S", 10)
    await looking.update()
    assert live.problem() == ""


async def test_a_fault_in_asking_is_not_hidden():
    """An error that nobody foresaw goes to whoever runs this."""
    store = FakeStore()
    store.health_problem = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await SelfMetrics(LiveState(), Metrics("1"), list, store).update()
