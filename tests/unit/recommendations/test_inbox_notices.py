"""Notices in the inbox without an incident, in the acting part as the engine builds it."""

import pytest

from tests.builders.engine_actions import MIB, FakeCache, engine_with_history
from trimtab.engine.errors import RefusedError, ToolError
from trimtab.engine.types import ActionState, Mode, RecommendationState

AT = ("cache-1", "maxmemory")


@pytest.fixture
async def engine(tmp_path, monkeypatch):
    """Built and running, with samples and no incident."""
    async with engine_with_history(tmp_path, monkeypatch) as made:
        yield made


def notices(engine, end):
    """Recommendations whose fingerprint ends so, oldest first."""
    return [one for one in reversed(engine.ledger.recommendations()) if one.fingerprint.endswith(end)]


async def set_by_hand(engine, value=128 * MIB):
    """A person sets the memory; it is watched by what the cache shows, and stands."""
    action = await engine.components.ports.decisions.set_knob("cache-1", *AT, 64 * MIB, value, "ann", "key-1")
    await engine.run_for(75)
    assert engine.ledger.action(action.id).state is ActionState.KEPT


async def test_a_knob_that_somebody_reverts_is_a_notice_of_its_own(engine):
    """It waits in the inbox in mode auto, too; a person who approves it brings the value back."""
    engine.run()
    await engine.run_for(2)
    await set_by_hand(engine)
    assert notices(engine, "/drift") == []
    FakeCache.memory[AT] = 64 * MIB
    await engine.run_for(10)
    (found,) = notices(engine, "/drift")
    assert (found.state, found.mode) == (RecommendationState.PENDING, Mode.APPROVE)
    assert (found.before, found.after) == (64 * MIB, 128 * MIB)
    assert found.command == f"fakectl cache-1 maxmemory {128 * MIB}"
    with pytest.raises(RefusedError, match="changed cache-1"):
        await engine.components.ports.decisions.apply(found.id, "bob", "key-2")
    await engine.run_for(95)
    assert FakeCache.memory[AT] == 64 * MIB
    await engine.components.ports.decisions.approve(found.id, "bob")
    await engine.run_for(10)
    assert FakeCache.memory[AT] == 128 * MIB
    assert engine.ledger.actions()[0].by == "bob"


async def test_a_notice_is_over_when_the_value_is_back(engine):
    """Who sets it back themselves has answered it; a knob that cannot be read proves nothing."""
    engine.run()
    await engine.run_for(2)
    await set_by_hand(engine)
    FakeCache.memory[AT] = 96 * MIB
    await engine.run_for(10)
    cache = FakeCache.made["cache-1"][-1]
    cache.respond_with("read", *[ToolError("away")] * 200)
    await engine.run_for(10)
    assert [one.state for one in notices(engine, "/drift")] == [RecommendationState.PENDING]
    cache.script.clear()
    FakeCache.memory[AT] = 128 * MIB
    await engine.run_for(10)
    (over,) = notices(engine, "/drift")
    assert (over.state, over.reason) == (
        RecommendationState.EXPIRED, "the knob has the set value again, or was set again",
    )  # fmt: skip


async def test_a_value_that_is_seen_once_is_no_drift(engine):
    """A change on its way is not told of: only what two looks in a row have seen."""
    engine.run()
    await engine.run_for(2)
    await set_by_hand(engine)
    cache, noticing = FakeCache.made["cache-1"][-1], engine.components.inbox_notices
    FakeCache.memory[AT] = 64 * MIB
    await noticing.update()
    FakeCache.memory[AT] = 128 * MIB
    await noticing.update()
    assert notices(engine, "/drift") == []
    assert cache.effects == [("cache-1", "maxmemory", 128 * MIB)]


async def test_what_is_set_badly_is_in_the_inbox_without_an_incident(engine):
    """A look at the start finds it; nothing is changed in mode auto, and there is nothing to be applied."""
    FakeCache.memory[AT] = 0
    engine.run()
    await engine.run_for(3)
    (found,) = notices(engine, "/look")
    assert (found.title, found.mode) == ("cache-1: memory has no limit", Mode.RECOMMEND)
    assert found.incident_id is None
    await engine.run_for(60)
    assert FakeCache.made["cache-1"][-1].effects == []
    with pytest.raises(RefusedError, match="no action 'by hand'"):
        await engine.components.ports.decisions.apply(found.id, "ann", "key-1")


async def test_the_look_is_made_every_hour(engine):
    """What was mended is over at the next look, what was dismissed is not said again."""
    FakeCache.memory[AT] = 0
    noticing = engine.components.inbox_notices
    (found,) = await noticing.update()
    FakeCache.memory[AT] = 64 * MIB
    engine.clock.tick(600)
    assert await noticing.update() == []
    assert engine.ledger.recommendation(found.id).state is RecommendationState.PENDING
    engine.clock.tick(3600)
    await noticing.update()
    assert engine.ledger.recommendation(found.id).reason == "the newest check did not find it any more"
    FakeCache.memory[AT] = 0
    engine.clock.tick(3600)
    (again,) = await noticing.update()
    await engine.components.ports.decisions.dismiss(again.id, "ann", "a scratch cache")
    engine.clock.tick(3600)
    assert await noticing.update() == []
