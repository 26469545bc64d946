"""How the engine looks after itself: what it tells of its store."""

import threading

import pytest
from structlog.testing import capture_logs

from tests.fakes.ports import START, FakeStore
from trimtab.engine.live.live_state import Live
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.runtime import self_metrics
from trimtab.engine.runtime.self_metrics import Vitals
from trimtab.engine.store import open_store


def health(metrics: Metrics) -> str:
    """What the metrics say of the store."""
    return next(
        line.split()[1] for line in metrics.text().splitlines() if line.startswith("trimtab_store_healthy")
    )


async def test_a_store_that_is_gone_is_told(tmp_path):
    """A store whose file is gone shows as trouble, in the status and in the metrics; before it is unknown."""
    store, live, metrics = open_store(tmp_path, lambda: START), Live(), Metrics("1")
    looking = Vitals(live, metrics, list, store)
    assert health(metrics) == "NaN"
    await looking.look()
    assert (live.trouble(), live.engine()["store"], health(metrics)) == ("", "ok", "1.0")
    store.close()
    (tmp_path / "trimtab.db").unlink()
    await looking.look()
    assert "trimtab.db is gone" in live.trouble()
    assert live.engine()["store"] == live.trouble()
    assert health(metrics) == "0.0"


async def test_trouble_and_its_end_are_logged_once():
    """One line when a store becomes unusable and one when it is usable again, however long it lasts."""
    store = FakeStore()
    looking = Vitals(Live(), Metrics("1"), list, store)
    with capture_logs() as logs:
        for broken in (None, "disk full", "disk full", None, None):
            store.broken = broken
            await looking.look()
    assert [entry["event"] for entry in logs] == ["the store is unusable", "the store is usable again"]


async def test_a_store_that_does_not_answer_is_unusable(monkeypatch):
    """A store that hangs is asked once, not again and again, and is said to give no answer."""
    monkeypatch.setattr(self_metrics, "ANSWER_S", 0.01)
    asked, answer = [], threading.Event()
    store = FakeStore()

    def hang() -> None:
        asked.append(1)
        answer.wait(10)

    store.healthy = hang
    live = Live()
    looking = Vitals(live, Metrics("1"), list, store)
    for _ in range(3):
        await looking.look()
        assert "no answer within" in live.trouble()
    assert asked == [1]
    answer.set()
    monkeypatch.setattr(self_metrics, "ANSWER_S", 10)
    await looking.look()
    assert live.trouble() == ""


async def test_a_fault_in_asking_is_not_hidden():
    """An error that nobody foresaw goes to whoever runs this."""
    store = FakeStore()
    store.healthy = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await Vitals(Live(), Metrics("1"), list, store).look()
