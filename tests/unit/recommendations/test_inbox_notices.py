"""Inbox notices without an incident: drifted knobs and misconfigurations."""

import pytest

from tests.builders.engine_actions import MIB, FakeCache, engine_with_history
from trimtab.engine.errors import RefusedError, ToolError
from trimtab.engine.types import ActionState, Mode, RecommendationState

AT = ("cache-1", "maxmemory")


@pytest.fixture
async def engine(tmp_path, monkeypatch):
    """Action components with samples and no incident; not running yet."""
    async with engine_with_history(tmp_path, monkeypatch) as made:
        yield made


def notices(engine, end):
    """Return recommendations whose fingerprint ends with `end`, oldest first."""
    return [
        recommendation
        for recommendation in reversed(engine.ledger.recommendations())
        if recommendation.fingerprint.endswith(end)
    ]


async def set_manually(engine, value=128 * MIB):
    """Set maxmemory as an operator and wait until the change is kept."""
    action = await engine.components.ports.decisions.set_knob("cache-1", *AT, 64 * MIB, value, "ann", "key-1")
    await engine.run_for(75)
    assert engine.ledger.action(action.id).state is ActionState.KEPT


async def test_a_reverted_knob_gives_a_drift_notice(engine):
    """A reverted knob gives a notice that needs approval in mode auto; approving it restores the value."""
    engine.run()
    await engine.run_for(2)
    await set_manually(engine)
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


async def test_a_drift_notice_expires_when_the_value_is_back(engine):
    """A drift notice expires when the value is restored; an unreadable knob keeps it pending."""
    engine.run()
    await engine.run_for(2)
    await set_manually(engine)
    FakeCache.memory[AT] = 96 * MIB
    await engine.run_for(10)
    cache = FakeCache.made["cache-1"][-1]
    cache.respond_with("read", *[ToolError("away")] * 200)
    await engine.run_for(10)
    assert [recommendation.state for recommendation in notices(engine, "/drift")] == [
        RecommendationState.PENDING
    ]
    cache.script.clear()
    FakeCache.memory[AT] = 128 * MIB
    await engine.run_for(10)
    (expired,) = notices(engine, "/drift")
    assert (expired.state, expired.reason) == (
        RecommendationState.EXPIRED, "the knob has the set value again, or was set again",
    )  # fmt: skip


async def test_drift_needs_two_readings(engine):
    """A changed value that only one update reads gives no notice."""
    engine.run()
    await engine.run_for(2)
    await set_manually(engine)
    cache, inbox_notices = FakeCache.made["cache-1"][-1], engine.components.inbox_notices
    FakeCache.memory[AT] = 64 * MIB
    await inbox_notices.update()
    FakeCache.memory[AT] = 128 * MIB
    await inbox_notices.update()
    assert notices(engine, "/drift") == []
    assert cache.effects == [("cache-1", "maxmemory", 128 * MIB)]


async def test_a_misconfiguration_is_recommended_without_an_incident(engine):
    """A misconfiguration gives a recommendation that cannot be applied, and nothing is changed."""
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


async def test_targets_are_checked_every_hour(engine):
    """A check an hour later expires fixed findings and does not repeat dismissed ones."""
    FakeCache.memory[AT] = 0
    inbox_notices = engine.components.inbox_notices
    (found,) = await inbox_notices.update()
    FakeCache.memory[AT] = 64 * MIB
    engine.clock.tick(600)
    assert await inbox_notices.update() == []
    assert engine.ledger.recommendation(found.id).state is RecommendationState.PENDING
    engine.clock.tick(3600)
    await inbox_notices.update()
    assert engine.ledger.recommendation(found.id).reason == "the newest check did not find it any more"
    FakeCache.memory[AT] = 0
    engine.clock.tick(3600)
    (again,) = await inbox_notices.update()
    await engine.components.ports.decisions.dismiss(again.id, "ann", "a scratch cache")
    engine.clock.tick(3600)
    assert await inbox_notices.update() == []
