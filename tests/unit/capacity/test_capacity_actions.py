"""A change that follows a load, through the guard and the ledger like every other."""

from dataclasses import replace

import pytest

from tests.builders.engine_actions import HITS, MIB, FakeCache, with_a_past
from trimtab.engine.api.shapes.capacity_example import CAPACITY
from trimtab.engine.settings import Settings
from trimtab.engine.types import ActionState, RecommendationState

WANTED = replace(
    CAPACITY, name="sessions", kind="bytes", wanted=128 * MIB, tool="cache-1", target="cache-1",
    knob="maxmemory", series_ids=(HITS.id,), load_id=HITS.id,
)  # fmt: skip


@pytest.fixture
async def built(tmp_path, monkeypatch):
    """Built, with a past of samples and no incident; not running yet."""
    async with with_a_past(tmp_path, monkeypatch) as made:
        yield made


def changes():
    """What the cache was told."""
    return FakeCache.made["cache-1"][-1].effects


async def test_a_step_for_a_load_is_guarded_made_and_kept(built):
    """Bytes of a cache follow a load: recommended without an incident, persisted, applied, watched, kept."""
    built.acts.recommendations.capacity = {"sessions": WANTED}
    built.run()
    await built.pass_by(5)
    (found,) = built.ledger.recommendations()
    assert (found.state, found.incident_id, found.after) == (RecommendationState.PENDING, None, 128 * MIB)
    assert changes() == []
    await built.pass_by(35)
    assert changes() == [("cache-1", "maxmemory", 128 * MIB)]
    await built.pass_by(90)
    (action,) = built.ledger.actions()
    assert action.state is ActionState.KEPT


async def test_nothing_is_done_when_its_load_is_gone(built):
    """Where the series that the size follows is watched no more, the guard refuses for freshness."""
    built.acts.recommendations.capacity = {"sessions": replace(WANTED, series_ids=("0" * 32,), load_id="")}
    built.run()
    await built.pass_by(40)
    (found,) = built.ledger.recommendations()
    assert changes() == []
    assert "not known to be up" in built.acts.scheduler.waiting[found.id]


async def test_an_unknown_need_changes_nothing(built):
    """A capacity that is not known is no recommendation."""
    built.acts.recommendations.capacity = {"sessions": replace(WANTED, wanted=None)}
    built.run()
    await built.pass_by(20)
    assert built.ledger.recommendations() == []


async def test_what_a_reload_adds_has_its_past_read(built):
    """The sources are asked for it once more, and no more than once; at the start they hand it over."""
    built.run()
    await built.pass_by(2)
    assert built.read_again == 0
    sessions = {"load": "sessions", "replicas": "pods", "max_replicas": 4, "capacity_per_replica": 1}
    wanted = Settings.model_validate({"capacity": {"sessions": sessions}})
    await built.acts.reload(built.settings.model_copy(update={"capacity": wanted.capacity}))
    await built.pass_by(40)
    assert built.read_again == 1
    assert "sessions" in built.acts.ports.capacity
