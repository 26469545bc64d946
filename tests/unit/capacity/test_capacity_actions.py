"""A change that follows a load, through the guard and the ledger like every other."""

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
    """Built, with a past of samples and no incident; not running yet."""
    async with engine_with_history(tmp_path, monkeypatch) as made:
        yield made


def changes():
    """What the cache was told."""
    return FakeCache.made["cache-1"][-1].effects


async def test_a_step_for_a_load_is_guarded_made_and_kept(engine):
    """Bytes of a cache follow a load: recommended without an incident, persisted, applied, watched, kept."""
    engine.components.recommendations.capacity = {"sessions": WANTED}
    engine.run()
    await engine.run_for(5)
    (found,) = engine.ledger.recommendations()
    assert (found.state, found.incident_id, found.after) == (RecommendationState.PENDING, None, 128 * MIB)
    assert changes() == []
    await engine.run_for(35)
    assert changes() == [("cache-1", "maxmemory", 128 * MIB)]
    await engine.run_for(90)
    (action,) = engine.ledger.actions()
    assert action.state is ActionState.KEPT


async def test_nothing_is_done_when_its_load_is_gone(engine):
    """Where the series that the size follows is watched no more, the guard refuses for freshness."""
    engine.components.recommendations.capacity = {
        "sessions": replace(WANTED, series_ids=("0" * 32,), load_id="")
    }
    engine.run()
    await engine.run_for(40)
    (found,) = engine.ledger.recommendations()
    assert changes() == []
    assert "not known to be up" in engine.components.scheduler.blocked_reasons[found.id]


async def test_an_unknown_need_changes_nothing(engine):
    """A capacity that is not known is no recommendation."""
    engine.components.recommendations.capacity = {"sessions": replace(WANTED, wanted=None)}
    engine.run()
    await engine.run_for(20)
    assert engine.ledger.recommendations() == []


async def test_what_a_reload_adds_has_its_past_read(engine):
    """The sources are asked for it once more, and no more than once; at the start they hand it over."""
    engine.run()
    await engine.run_for(2)
    assert engine.history_reads == 0
    sessions = {"load": "sessions", "replicas": "pods", "max_replicas": 4, "capacity_per_replica": 1}
    wanted = Settings.model_validate({"capacity": {"sessions": sessions}})
    await engine.components.reload(engine.settings.model_copy(update={"capacity": wanted.capacity}))
    await engine.run_for(40)
    assert engine.history_reads == 1
    assert "sessions" in engine.components.ports.capacity
