"""Capacity changes pass through recommendation, guard and ledger like every other change."""

from dataclasses import replace

import pytest

from tests.builders.engine_actions import HIT_RATIO, MIB, FakeCache, engine_with_history
from trimtab.engine.api.shapes.examples import CAPACITY
from trimtab.engine.settings import Settings
from trimtab.engine.types import ActionState, RecommendationState

WANTED = replace(
    CAPACITY, name="sessions", kind="bytes", wanted=128 * MIB, tool="cache-1", target="cache-1",
    knob="maxmemory", series_ids=(HIT_RATIO.id,), load_id=HIT_RATIO.id,
)  # fmt: skip


@pytest.fixture
async def engine(tmp_path, monkeypatch):
    """Action components with a history of samples and no incident; not running yet."""
    async with engine_with_history(tmp_path, monkeypatch) as made:
        yield made


def cache_changes():
    """Return the effects on the newest cache."""
    return FakeCache.made["cache-1"][-1].effects


async def test_a_capacity_change_is_applied_and_kept(engine):
    """A capacity is recommended without an incident, applied once stable, verified and kept."""
    engine.components.recommendations.capacity = {"sessions": WANTED}
    engine.run()
    await engine.run_for(5)
    (found,) = engine.ledger.recommendations()
    assert (found.state, found.incident_id, found.after) == (RecommendationState.PENDING, None, 128 * MIB)
    assert cache_changes() == []
    await engine.run_for(35)
    assert cache_changes() == [("cache-1", "maxmemory", 128 * MIB)]
    await engine.run_for(90)
    (action,) = engine.ledger.actions()
    assert action.state is ActionState.KEPT


async def test_a_capacity_without_its_load_is_blocked(engine):
    """The guard refuses a capacity change for freshness when its load series is not watched."""
    engine.components.recommendations.capacity = {
        "sessions": replace(WANTED, series_ids=("0" * 32,), load_id="")
    }
    engine.run()
    await engine.run_for(40)
    (found,) = engine.ledger.recommendations()
    assert cache_changes() == []
    assert "not known to be up" in engine.components.scheduler.blocked_reasons[found.id]


async def test_an_unknown_capacity_is_not_recommended(engine):
    """A capacity whose wanted size is None gives no recommendation."""
    engine.components.recommendations.capacity = {"sessions": replace(WANTED, wanted=None)}
    engine.run()
    await engine.run_for(20)
    assert engine.ledger.recommendations() == []


async def test_a_reload_reads_history_for_a_new_capacity(engine):
    """A capacity that a reload adds has its history read once; at the start none is read again."""
    engine.run()
    await engine.run_for(2)
    assert engine.history_reads == 0
    sessions = {"load": "sessions", "replicas": "pods", "max_replicas": 4, "capacity_per_replica": 1}
    capacity_settings = Settings.model_validate({"capacity": {"sessions": sessions}})
    await engine.components.reload(
        engine.settings.model_copy(update={"capacity": capacity_settings.capacity})
    )
    await engine.run_for(40)
    assert engine.history_reads == 1
    assert "sessions" in engine.components.ports.capacity
