"""Notices in the inbox without an incident, in the acting part as the engine builds it."""

import pytest

from tests.builders.engine_actions import MIB, FakeCache, with_a_past
from trimtab.engine.errors import RefusedError, ToolError
from trimtab.engine.types import ActionState, Mode, RecommendationState

AT = ("cache-1", "maxmemory")


@pytest.fixture
async def built(tmp_path, monkeypatch):
    """Built and running, with samples and no incident."""
    async with with_a_past(tmp_path, monkeypatch) as made:
        yield made


def notices(built, end):
    """Recommendations whose fingerprint ends so, oldest first."""
    return [one for one in reversed(built.ledger.recommendations()) if one.fingerprint.endswith(end)]


async def set_by_hand(built, value=128 * MIB):
    """A person sets the memory; it is watched by what the cache shows, and stands."""
    action = await built.acts.ports.decisions.set_knob("cache-1", *AT, 64 * MIB, value, "ann", "key-1")
    await built.pass_by(75)
    assert built.ledger.action(action.id).state is ActionState.KEPT


async def test_a_knob_that_somebody_reverts_is_a_notice_of_its_own(built):
    """It waits in the inbox in mode auto, too; a person who approves it brings the value back."""
    built.run()
    await built.pass_by(2)
    await set_by_hand(built)
    assert notices(built, "/drift") == []
    FakeCache.memory[AT] = 64 * MIB
    await built.pass_by(10)
    (found,) = notices(built, "/drift")
    assert (found.state, found.mode) == (RecommendationState.PENDING, Mode.APPROVE)
    assert (found.before, found.after) == (64 * MIB, 128 * MIB)
    assert found.command == f"fakectl cache-1 maxmemory {128 * MIB}"
    with pytest.raises(RefusedError, match="touched cache-1"):
        await built.acts.ports.decisions.apply(found.id, "bob", "key-2")
    await built.pass_by(95)
    assert FakeCache.memory[AT] == 64 * MIB
    await built.acts.ports.decisions.approve(found.id, "bob")
    await built.pass_by(10)
    assert FakeCache.memory[AT] == 128 * MIB
    assert built.ledger.actions()[0].by == "bob"


async def test_a_notice_is_over_when_the_value_is_back(built):
    """Who sets it back themselves has answered it; a knob that cannot be read proves nothing."""
    built.run()
    await built.pass_by(2)
    await set_by_hand(built)
    FakeCache.memory[AT] = 96 * MIB
    await built.pass_by(10)
    cache = FakeCache.made["cache-1"][-1]
    cache.respond_with("read", *[ToolError("away")] * 200)
    await built.pass_by(10)
    assert [one.state for one in notices(built, "/drift")] == [RecommendationState.PENDING]
    cache.script.clear()
    FakeCache.memory[AT] = 128 * MIB
    await built.pass_by(10)
    (over,) = notices(built, "/drift")
    assert (over.state, over.reason) == (
        RecommendationState.EXPIRED, "the knob is as it was set, or was set anew",
    )  # fmt: skip


async def test_a_value_that_is_seen_once_is_no_drift(built):
    """A change on its way is not told of: only what two looks in a row have seen."""
    built.run()
    await built.pass_by(2)
    await set_by_hand(built)
    cache, noticing = FakeCache.made["cache-1"][-1], built.acts.inbox_notices
    FakeCache.memory[AT] = 64 * MIB
    await noticing.look()
    FakeCache.memory[AT] = 128 * MIB
    await noticing.look()
    assert notices(built, "/drift") == []
    assert cache.effects == [("cache-1", "maxmemory", 128 * MIB)]


async def test_what_is_set_badly_is_in_the_inbox_without_an_incident(built):
    """A look at the start finds it; nothing is changed in mode auto, and there is nothing to be applied."""
    FakeCache.memory[AT] = 0
    built.run()
    await built.pass_by(3)
    (found,) = notices(built, "/look")
    assert (found.title, found.mode) == ("cache-1: memory has no limit", Mode.RECOMMEND)
    assert found.incident_id is None
    await built.pass_by(60)
    assert FakeCache.made["cache-1"][-1].effects == []
    with pytest.raises(RefusedError, match="no action 'by hand'"):
        await built.acts.ports.decisions.apply(found.id, "ann", "key-1")


async def test_the_look_is_made_every_hour(built):
    """What was mended is over at the next look, what was dismissed is not said again."""
    FakeCache.memory[AT] = 0
    noticing = built.acts.inbox_notices
    (found,) = await noticing.look()
    FakeCache.memory[AT] = 64 * MIB
    built.clock.tick(600)
    assert await noticing.look() == []
    assert built.ledger.recommendation(found.id).state is RecommendationState.PENDING
    built.clock.tick(3600)
    await noticing.look()
    assert built.ledger.recommendation(found.id).reason == "the last look did not find it any more"
    FakeCache.memory[AT] = 0
    built.clock.tick(3600)
    (again,) = await noticing.look()
    await built.acts.ports.decisions.dismiss(again.id, "ann", "a scratch cache")
    built.clock.tick(3600)
    assert await noticing.look() == []
