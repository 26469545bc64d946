"""The acting part as it is engine: from an incident to a change that is kept, over a pause and a restart."""

import asyncio

import numpy as np
import pytest

from tests.builders.engine_actions import (
    HIT_RATIO,
    LATENCY,
    MIB,
    EngineActions,
    FakeCache,
    engine_with_history,
    fake_caches,
    make_settings,
)
from tests.builders.series import SECOND
from tests.fakes.ports import FakeClock, FakeScoreLog
from trimtab.engine.detection.entities import entity_of
from trimtab.engine.errors import EngineError, LockedError, RefusedError, StoreError
from trimtab.engine.runtime import action_setup
from trimtab.engine.settings import Settings
from trimtab.engine.types import (
    ActionState,
    IncidentState,
    Mode,
    Pause,
    RecommendationState,
    ShadowEnd,
    ToolState,
)


@pytest.fixture
def clock():
    """Stands until a test moves it."""
    return FakeClock()


@pytest.fixture
async def engine(tmp_path, monkeypatch, clock):
    """Built, with a past of samples and an incident; not running yet."""
    async with engine_with_history(tmp_path, monkeypatch, clock) as made:
        made.save_incident()
        yield made


def cache() -> FakeCache:
    """The newest one that was engine."""
    return FakeCache.made["cache-1"][-1]


async def test_a_change_is_recommended_made_and_kept(engine):
    """Mode auto: observed first, then raised by one step, watched, kept, with every word in the audit."""
    engine.run()
    await engine.run_for(5)
    (found,) = engine.ledger.recommendations()
    assert (found.state, found.mode, found.after) == (RecommendationState.PENDING, Mode.AUTO, 128 * MIB)
    assert found.effect.series_id == HIT_RATIO.id
    assert found.effect.before == 0.4
    assert cache().effects == []
    await engine.run_for(35)
    assert cache().effects == [("cache-1", "maxmemory", 128 * MIB)]
    engine.hit_ratio = 0.7
    await engine.run_for(90)
    (action,) = engine.ledger.actions()
    assert (action.state, action.outcome.words) == (ActionState.KEPT, "no harm seen")
    assert action.outcome.effect.before == pytest.approx(0.4)
    assert action.outcome.effect.expected > 0.6
    assert engine.ledger.recommendation(found.id).state is RecommendationState.CLOSED
    words = [row.what for row in engine.ledger.audit_rows(limit=100)]
    wanted = ["started", "proposed", "proposed", "applied", "executing", "verifying", "kept", "closed"]
    assert [word for word in words if word in wanted] == wanted


@pytest.mark.parametrize("mode", ["off", "recommend", "approve"])
async def test_what_auto_would_have_done_is_kept_though_nothing_is_done(tmp_path, monkeypatch, clock, mode):
    """As soon as auto would have acted, by the same guard; then how it ended without it."""
    with fake_caches(monkeypatch, clock):
        engine = await EngineActions(make_settings(tmp_path, mode), clock, FakeScoreLog()).start()
        engine.add_history()
        incident = engine.save_incident()
        engine.run()
        await engine.run_for(5)
        assert [one.shadow for one in engine.ledger.recommendations()] in ([None], [])
        await engine.run_for(60)
        (found,) = engine.ledger.recommendations()
        assert (found.shadow.before, found.shadow.after) == (64 * MIB, 128 * MIB)
        assert found.shadow.figure_before == pytest.approx(0.4)
        engine.save_incident(id=incident.id, state=IncidentState.RESOLVED, end=clock.now())
        await engine.run_for(20)
        (found,) = engine.ledger.recommendations()
        assert (found.shadow.end, found.shadow.ended) == (ShadowEnd.OVER, clock.now() - 20 * SECOND)
        assert cache().effects == engine.ledger.actions() == []
        await engine.stop()


async def test_a_person_goes_back_within_cooldown_and_step(engine):
    """By the desk and the guard as they are engine: to what stood before, and to nothing else."""
    engine.run()
    desk = engine.components.ports.decisions
    await engine.run_for(1)
    up = await desk.set_knob("cache-1", "cache-1", "maxmemory", 64 * MIB, 128 * MIB, "ann", "k1")
    assert up.state is ActionState.VERIFYING
    await engine.run_for(75)
    assert engine.ledger.action(up.id).state.is_final
    with pytest.raises(RefusedError, match="cache-1"):
        await desk.set_knob("cache-1", "cache-1", "maxmemory", 128 * MIB, 63 * MIB, "ann", "k2")
    back = await desk.set_knob("cache-1", "cache-1", "maxmemory", 128 * MIB, 64 * MIB, "ann", "k3")
    assert back.state is ActionState.VERIFYING
    assert cache().effects[-1] == ("cache-1", "maxmemory", 64 * MIB)


@pytest.mark.parametrize(("hurt", "name"), [("hit_ratio", "hit ratio of cache-1"), ("latency", str(LATENCY))])
async def test_a_change_that_does_harm_is_taken_back(engine, hurt, name):
    """Where its own figure falls, or the latency of what the incident touches rises: to the exact value."""
    engine.save_incident(entities=("redis/cache-1", entity_of(LATENCY)))
    engine.run()
    await engine.run_for(40)
    assert cache().values["cache-1", "maxmemory"] == 128 * MIB
    setattr(engine, hurt, 0.05 if hurt == "hit_ratio" else 5.0)
    await engine.run_for(60)
    assert cache().values["cache-1", "maxmemory"] == 64 * MIB
    action = next(one for one in engine.ledger.actions() if one.undoes is None)
    assert action.state is ActionState.ROLLED_BACK
    assert name in action.outcome.words


async def test_a_pause_holds_it(engine):
    """Nothing is done while it is on; it goes on when a person lets it."""
    engine.run()
    await engine.run_for(5)
    engine.ledger.set_pause(Pause(on=True, by="ann"))
    await engine.run_for(60)
    assert cache().effects == []
    assert engine.ledger.actions() == []
    engine.ledger.set_pause(Pause(on=False, by="ann"))
    await engine.run_for(3)
    assert cache().effects == [("cache-1", "maxmemory", 128 * MIB)]


async def test_a_restart_goes_on(engine):
    """A change that is being watched is watched on, and nothing is done twice."""
    engine.run()
    await engine.run_for(40)
    assert [action.state for action in engine.ledger.actions()] == [ActionState.VERIFYING]
    await engine.stop()
    lived = engine.components.recommendations.situation_builder.ages.running_s
    engine.live = type(engine.live)()
    await engine.start()
    engine.sample()
    engine.run()
    await engine.run_for(2)
    assert engine.components.recommendations.situation_builder.ages.running_s >= lived
    engine.hit_ratio = 0.7
    await engine.run_for(90)
    assert [action.state for action in engine.ledger.actions()] == [ActionState.KEPT]
    assert [effect for made in FakeCache.made["cache-1"] for effect in made.effects] == [
        ("cache-1", "maxmemory", 128 * MIB)
    ]


async def test_harm_after_a_restart_is_seen_though_nothing_was_watched_when_it_was_looked_at_first(engine):
    """The neighbours of a change are those of before the restart, not the none that are watched just then."""
    engine.save_incident(entities=("redis/cache-1", entity_of(LATENCY)))
    engine.run()
    await engine.run_for(40)
    await engine.stop()
    engine.live = type(engine.live)()
    await engine.start()
    engine.run()
    await engine.wait_until_idle()
    engine.latency = 5.0
    await engine.run_for(60)
    assert cache().values["cache-1", "maxmemory"] == 64 * MIB


@pytest.mark.parametrize("mode", ["approve", "recommend", "off"])
async def test_other_modes_wait_for_people(tmp_path, monkeypatch, clock, mode):
    """Approved by a person it is done, by itself never; what is off is not even put to them."""
    with fake_caches(monkeypatch, clock):
        engine = await EngineActions(make_settings(tmp_path, mode), clock, FakeScoreLog()).start()
        engine.add_history()
        engine.save_incident()
        engine.run()
        await engine.run_for(60)
        assert cache().effects == []
        found = engine.ledger.recommendations(state=RecommendationState.PENDING)
        assert [one.mode for one in found] == ([] if mode == "off" else [Mode(mode)])
        for one in found:
            await engine.components.ports.decisions.approve(one.id, "ann")
            await engine.run_for(3)
            assert cache().effects == [("cache-1", "maxmemory", 128 * MIB)]
        await engine.stop()


async def test_what_is_started_again_starts_once(engine, monkeypatch):
    """After a fault of a step the work goes on without another start in the audit."""
    steps = []

    async def step(now):
        steps.append(now)
        if len(steps) == 1:
            raise ValueError("a fault of ours")

    monkeypatch.setattr(engine.components.scheduler, "step", step)
    with pytest.raises(ValueError, match="a fault of ours"):
        await engine.components.run()
    assert engine.clock.sleepers == 0
    engine.run()
    await engine.run_for(2)
    assert len(steps) == 3
    assert [row.what for row in engine.ledger.audit_rows()].count("started") == 1


@pytest.mark.parametrize("error", [StoreError("disk full"), EngineError("no"), ValueError("a fault")])
async def test_a_failing_look_ends_no_step(engine, monkeypatch, error):
    """Actions are stepped on each second, and the look is tried again."""
    looks = []

    async def look():
        looks.append(engine.clock.now())
        raise error

    monkeypatch.setattr(engine.components.recommendations, "update", look)
    engine.run()
    await engine.run_for(5)
    assert len(looks) == 3
    assert not engine.work.done()


async def test_one_turn_reads_once_what_the_ledger_says(engine, monkeypatch):
    """Advice and notices share it, and the notices see what the advice has just written."""
    asked, given = [], []
    ledger, keep = engine.components.recommendations.ledger, engine.components.inbox_notices._drift_notices
    for name in ("recommendations", "actions"):
        real = getattr(ledger, name)
        monkeypatch.setattr(
            ledger, name, lambda *, real=real, name=name, **by: asked.append((name, *by)) or real(**by)
        )

    async def reverted(now, read):
        given.extend(read.recommendations)
        return await keep(now, read)

    monkeypatch.setattr(engine.components.inbox_notices, "_drift_notices", reverted)
    await engine.components._update_recommendations()
    assert [one.fingerprint for one in given] == [one.fingerprint for one in ledger.recommendations()] != []
    assert asked.count(("actions", "since", "limit")) == 1
    before = asked.count(("recommendations", "state", "limit"))
    await engine.components._update_recommendations()
    assert given[-1] == given[0]
    # pending, approved, scheduled and dismissed, once; and pending again for those that follow them
    assert asked.count(("recommendations", "state", "limit")) - before == 5


async def test_a_look_that_hangs_holds_no_action_up(engine):
    """A tool that does not answer the look does not keep the pause, or a rollback, waiting."""
    never = cache().gates["metrics"] = asyncio.Event()
    engine.run()
    await engine.wait_until_idle(sleepers=3)
    before = engine.clock.now()
    engine.clock.tick(1.0)
    await engine.wait_until_idle(sleepers=3)
    assert engine.clock.now() > before
    assert engine.ledger.recommendations() == []
    never.set()


async def test_an_engine_that_was_taken_over_from_ends(engine, monkeypatch):
    """Whatever finds it out first: the lease is gone, and trying again does not bring it back."""

    async def look():
        raise LockedError("another engine")

    monkeypatch.setattr(engine.components.recommendations, "update", look)
    engine.run()
    await engine.run_for(2)
    assert isinstance(engine.work.exception(), LockedError)


async def test_tools_and_guardrails_are_exchanged(engine, tmp_path):
    """Another mode, another tool, other limits: from the next look and decision on."""
    engine.run()
    await engine.run_for(2)
    more = make_settings(tmp_path, "recommend", second={"kind": "redis", "url": "redis://localhost:2"})
    quicker = {**more.model_dump(include={"guardrails"})["guardrails"], "watch": 60.0, "time_scale": 0.5}
    await engine.components.reload(Settings.model_validate({
        "tools": {name: part.model_dump() for name, part in more.tools.items()}, "guardrails": quicker,
    }))  # fmt: skip
    assert engine.components.tools.names() == ["cache-1", "second"]
    assert engine.components.scheduler.times.watch_s == 60.0
    assert engine.components.scheduler.launcher.time_scale == 0.5
    assert engine.components.recommendations.situation_builder.limits.watch == 60.0
    assert engine.components.time_scale == 0.5
    await engine.run_for(60)
    (found,) = engine.ledger.recommendations()
    assert found.mode is Mode.RECOMMEND
    assert engine.ledger.actions() == []


async def test_a_change_that_people_tell_is_heard(engine):
    """It is in the store, and waits for the sensing."""
    from trimtab.engine.types import Change, ChangeKind

    change = Change("C1", engine.clock.now(), ChangeKind.DEPLOY, "shop 1.2", "ci")
    engine.incidents.save_change(change)
    assert list(engine.incident_service.pending_changes) == [change]
    assert engine.incidents.changes() == [change]


async def test_a_tool_that_was_switched_off_is_listed_after_a_restart(engine, clock):
    """It is there and disabled before anything else has run, and its series are not missed."""
    figures = action_setup.build_tools_source(engine.components, engine.settings)
    before = await figures.read()
    await engine.components.ports.toolbox.enable("cache-1", enabled=False)
    await figures.read()
    await engine.stop()
    await engine.start()
    (view,) = await engine.components.ports.toolbox.views()
    assert (view.name, view.enabled, view.status.state) == ("cache-1", False, ToolState.DISABLED)
    clock.tick(5)
    after = await action_setup.build_tools_source(engine.components, engine.settings).read()
    assert after.keys == before.keys
    assert np.isnan(after.values).all()
