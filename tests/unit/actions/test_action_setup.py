"""The acting part as it is built: from an incident to a change that is kept, over a pause and a restart."""

import asyncio

import numpy as np
import pytest

from tests.builders.engine_actions import (
    HITS,
    LATENCY,
    MIB,
    Built,
    FakeCache,
    caches,
    settings_of,
    with_a_past,
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
async def built(tmp_path, monkeypatch, clock):
    """Built, with a past of samples and an incident; not running yet."""
    async with with_a_past(tmp_path, monkeypatch, clock) as made:
        made.incident()
        yield made


def cache() -> FakeCache:
    """The newest one that was built."""
    return FakeCache.made["cache-1"][-1]


async def test_a_change_is_recommended_made_and_kept(built):
    """Mode auto: observed first, then raised by one step, watched, kept, with every word in the audit."""
    built.run()
    await built.pass_by(5)
    (found,) = built.ledger.recommendations()
    assert (found.state, found.mode, found.after) == (RecommendationState.PENDING, Mode.AUTO, 128 * MIB)
    assert found.effect.series_id == HITS.id
    assert found.effect.before == 0.4
    assert cache().effects == []
    await built.pass_by(35)
    assert cache().effects == [("cache-1", "maxmemory", 128 * MIB)]
    built.hit_ratio = 0.7
    await built.pass_by(90)
    (action,) = built.ledger.actions()
    assert (action.state, action.outcome.words) == (ActionState.KEPT, "no harm seen")
    assert action.outcome.effect.before == pytest.approx(0.4)
    assert action.outcome.effect.expected > 0.6
    assert built.ledger.recommendation(found.id).state is RecommendationState.CLOSED
    words = [row.what for row in built.ledger.audit_rows(limit=100)]
    wanted = ["started", "proposed", "proposed", "applied", "executing", "verifying", "kept", "closed"]
    assert [word for word in words if word in wanted] == wanted


@pytest.mark.parametrize("mode", ["off", "recommend", "approve"])
async def test_what_auto_would_have_done_is_kept_though_nothing_is_done(tmp_path, monkeypatch, clock, mode):
    """As soon as auto would have acted, by the same guard; then how it ended without it."""
    with caches(monkeypatch, clock):
        built = await Built(settings_of(tmp_path, mode), clock, FakeScoreLog()).start()
        built.past()
        incident = built.incident()
        built.run()
        await built.pass_by(5)
        assert [one.shadow for one in built.ledger.recommendations()] in ([None], [])
        await built.pass_by(60)
        (found,) = built.ledger.recommendations()
        assert (found.shadow.before, found.shadow.after) == (64 * MIB, 128 * MIB)
        assert found.shadow.figure_before == pytest.approx(0.4)
        built.incident(id=incident.id, state=IncidentState.RESOLVED, end=clock.now())
        await built.pass_by(20)
        (found,) = built.ledger.recommendations()
        assert (found.shadow.end, found.shadow.ended) == (ShadowEnd.OVER, clock.now() - 20 * SECOND)
        assert cache().effects == built.ledger.actions() == []
        await built.stop()


async def test_a_person_goes_back_within_cooldown_and_step(built):
    """By the desk and the guard as they are built: to what stood before, and to nothing else."""
    built.run()
    desk = built.acts.ports.decisions
    await built.pass_by(1)
    up = await desk.set_knob("cache-1", "cache-1", "maxmemory", 64 * MIB, 128 * MIB, "ann", "k1")
    assert up.state is ActionState.VERIFYING
    await built.pass_by(75)
    assert built.ledger.action(up.id).state.is_final
    with pytest.raises(RefusedError, match="cache-1"):
        await desk.set_knob("cache-1", "cache-1", "maxmemory", 128 * MIB, 63 * MIB, "ann", "k2")
    back = await desk.set_knob("cache-1", "cache-1", "maxmemory", 128 * MIB, 64 * MIB, "ann", "k3")
    assert back.state is ActionState.VERIFYING
    assert cache().effects[-1] == ("cache-1", "maxmemory", 64 * MIB)


@pytest.mark.parametrize(("hurt", "name"), [("hit_ratio", "hit ratio of cache-1"), ("latency", str(LATENCY))])
async def test_a_change_that_does_harm_is_taken_back(built, hurt, name):
    """Where its own figure falls, or the latency of what the incident touches rises: to the exact value."""
    built.incident(entities=("redis/cache-1", entity_of(LATENCY)))
    built.run()
    await built.pass_by(40)
    assert cache().values["cache-1", "maxmemory"] == 128 * MIB
    setattr(built, hurt, 0.05 if hurt == "hit_ratio" else 5.0)
    await built.pass_by(60)
    assert cache().values["cache-1", "maxmemory"] == 64 * MIB
    action = next(one for one in built.ledger.actions() if one.undoes is None)
    assert action.state is ActionState.ROLLED_BACK
    assert name in action.outcome.words


async def test_a_pause_holds_it(built):
    """Nothing is done while it is on; it goes on when a person lets it."""
    built.run()
    await built.pass_by(5)
    built.ledger.set_pause(Pause(on=True, by="ann"))
    await built.pass_by(60)
    assert cache().effects == []
    assert built.ledger.actions() == []
    built.ledger.set_pause(Pause(on=False, by="ann"))
    await built.pass_by(3)
    assert cache().effects == [("cache-1", "maxmemory", 128 * MIB)]


async def test_a_restart_goes_on(built):
    """A change that is being watched is watched on, and nothing is done twice."""
    built.run()
    await built.pass_by(40)
    assert [action.state for action in built.ledger.actions()] == [ActionState.VERIFYING]
    await built.stop()
    lived = built.acts.recommendations.guard.lived.seconds
    built.live = type(built.live)()
    await built.start()
    built.sample()
    built.run()
    await built.pass_by(2)
    assert built.acts.recommendations.guard.lived.seconds >= lived
    built.hit_ratio = 0.7
    await built.pass_by(90)
    assert [action.state for action in built.ledger.actions()] == [ActionState.KEPT]
    assert [effect for made in FakeCache.made["cache-1"] for effect in made.effects] == [
        ("cache-1", "maxmemory", 128 * MIB)
    ]


async def test_harm_after_a_restart_is_seen_though_nothing_was_watched_when_it_was_looked_at_first(built):
    """The neighbours of a change are those of before the restart, not the none that are watched just then."""
    built.incident(entities=("redis/cache-1", entity_of(LATENCY)))
    built.run()
    await built.pass_by(40)
    await built.stop()
    built.live = type(built.live)()
    await built.start()
    built.run()
    await built.calm()
    built.latency = 5.0
    await built.pass_by(60)
    assert cache().values["cache-1", "maxmemory"] == 64 * MIB


@pytest.mark.parametrize("mode", ["approve", "recommend", "off"])
async def test_other_modes_wait_for_people(tmp_path, monkeypatch, clock, mode):
    """Approved by a person it is done, by itself never; what is off is not even put to them."""
    with caches(monkeypatch, clock):
        built = await Built(settings_of(tmp_path, mode), clock, FakeScoreLog()).start()
        built.past()
        built.incident()
        built.run()
        await built.pass_by(60)
        assert cache().effects == []
        found = built.ledger.recommendations(state=RecommendationState.PENDING)
        assert [one.mode for one in found] == ([] if mode == "off" else [Mode(mode)])
        for one in found:
            await built.acts.ports.decisions.approve(one.id, "ann")
            await built.pass_by(3)
            assert cache().effects == [("cache-1", "maxmemory", 128 * MIB)]
        await built.stop()


async def test_what_is_started_again_starts_once(built, monkeypatch):
    """After a fault of a step the work goes on without another start in the audit."""
    steps = []

    async def step(now):
        steps.append(now)
        if len(steps) == 1:
            raise ValueError("a fault of ours")

    monkeypatch.setattr(built.acts.scheduler, "step", step)
    with pytest.raises(ValueError, match="a fault of ours"):
        await built.acts.run()
    assert built.clock.sleepers == 0
    built.run()
    await built.pass_by(2)
    assert len(steps) == 3
    assert [row.what for row in built.ledger.audit_rows()].count("started") == 1


@pytest.mark.parametrize("error", [StoreError("disk full"), EngineError("no"), ValueError("a fault")])
async def test_a_failing_look_ends_no_step(built, monkeypatch, error):
    """Actions are stepped on each second, and the look is tried again."""
    looks = []

    async def look():
        looks.append(built.clock.now())
        raise error

    monkeypatch.setattr(built.acts.recommendations, "look", look)
    built.run()
    await built.pass_by(5)
    assert len(looks) == 3
    assert not built.work.done()


async def test_one_turn_reads_once_what_the_ledger_says(built, monkeypatch):
    """Advice and notices share it, and the notices see what the advice has just written."""
    asked, given = [], []
    ledger, keep = built.acts.recommendations.ledger, built.acts.inbox_notices._reverted
    for name in ("recommendations", "actions"):
        real = getattr(ledger, name)
        monkeypatch.setattr(
            ledger, name, lambda *, real=real, name=name, **by: asked.append((name, *by)) or real(**by)
        )

    async def reverted(now, read):
        given.extend(read.said)
        return await keep(now, read)

    monkeypatch.setattr(built.acts.inbox_notices, "_reverted", reverted)
    await built.acts._look()
    assert [one.fingerprint for one in given] == [one.fingerprint for one in ledger.recommendations()] != []
    assert asked.count(("actions", "since", "limit")) == 1
    before = asked.count(("recommendations", "state", "limit"))
    await built.acts._look()
    assert given[-1] == given[0]
    # pending, approved, scheduled and dismissed, once; and pending again for those that follow them
    assert asked.count(("recommendations", "state", "limit")) - before == 5


async def test_a_look_that_hangs_holds_no_action_up(built):
    """A tool that does not answer the look does not keep the pause, or a rollback, waiting."""
    never = cache().gates["metrics"] = asyncio.Event()
    built.run()
    await built.calm(sleepers=3)
    before = built.clock.now()
    built.clock.tick(1.0)
    await built.calm(sleepers=3)
    assert built.clock.now() > before
    assert built.ledger.recommendations() == []
    never.set()


async def test_an_engine_that_was_taken_over_from_ends(built, monkeypatch):
    """Whatever finds it out first: the lease is gone, and trying again does not bring it back."""

    async def look():
        raise LockedError("another engine")

    monkeypatch.setattr(built.acts.recommendations, "look", look)
    built.run()
    await built.pass_by(2)
    assert isinstance(built.work.exception(), LockedError)


async def test_tools_and_guardrails_are_exchanged(built, tmp_path):
    """Another mode, another tool, other limits: from the next look and decision on."""
    built.run()
    await built.pass_by(2)
    more = settings_of(tmp_path, "recommend", second={"kind": "redis", "url": "redis://localhost:2"})
    quicker = {**more.model_dump(include={"guardrails"})["guardrails"], "watch": 60.0, "time_scale": 0.5}
    await built.acts.reload(Settings.model_validate({
        "tools": {name: part.model_dump() for name, part in more.tools.items()}, "guardrails": quicker,
    }))  # fmt: skip
    assert built.acts.tools.names() == ["cache-1", "second"]
    assert built.acts.scheduler.times.watch_s == 60.0
    assert built.acts.scheduler.starter.time_scale == 0.5
    assert built.acts.recommendations.guard.limits.watch == 60.0
    assert built.acts.time_scale == 0.5
    await built.pass_by(60)
    (found,) = built.ledger.recommendations()
    assert found.mode is Mode.RECOMMEND
    assert built.ledger.actions() == []


async def test_a_change_that_people_tell_is_heard(built):
    """It is in the store, and waits for the sensing."""
    from trimtab.engine.types import Change, ChangeKind

    change = Change("C1", built.clock.now(), ChangeKind.DEPLOY, "shop 1.2", "ci")
    built.incidents.save_change(change)
    assert list(built.judging.heard) == [change]
    assert built.incidents.changes() == [change]


async def test_a_tool_that_was_switched_off_is_listed_after_a_restart(built, clock):
    """It is there and disabled before anything else has run, and its series are not missed."""
    figures = action_setup.build_tools_source(built.acts, built.settings)
    before = await figures.read()
    await built.acts.ports.toolbox.enable("cache-1", enabled=False)
    await figures.read()
    await built.stop()
    await built.start()
    (view,) = await built.acts.ports.toolbox.views()
    assert (view.name, view.enabled, view.status.state) == ("cache-1", False, ToolState.DISABLED)
    clock.tick(5)
    after = await action_setup.build_tools_source(built.acts, built.settings).read()
    assert after.keys == before.keys
    assert np.isnan(after.values).all()
