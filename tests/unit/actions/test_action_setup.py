"""Action components as the engine builds them: from an incident to a kept change, over pause and restart."""

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
    """A clock that a test moves."""
    return FakeClock()


@pytest.fixture
async def engine(tmp_path, monkeypatch, clock):
    """Action components with a history of samples and an incident; not running yet."""
    async with engine_with_history(tmp_path, monkeypatch, clock) as made:
        made.save_incident()
        yield made


def newest_cache() -> FakeCache:
    """Return the newest cache that the engine built."""
    return FakeCache.made["cache-1"][-1]


async def test_a_change_is_recommended_applied_and_kept(engine):
    """Mode auto recommends one step, applies it, verifies it and keeps it; each step is audited."""
    engine.run()
    await engine.run_for(5)
    (found,) = engine.ledger.recommendations()
    assert (found.state, found.mode, found.after) == (RecommendationState.PENDING, Mode.AUTO, 128 * MIB)
    assert found.effect.series_id == HIT_RATIO.id
    assert found.effect.before == 0.4
    assert newest_cache().effects == []
    await engine.run_for(35)
    assert newest_cache().effects == [("cache-1", "maxmemory", 128 * MIB)]
    engine.hit_ratio = 0.7
    await engine.run_for(90)
    (action,) = engine.ledger.actions()
    assert (action.state, action.outcome.words) == (ActionState.KEPT, "no harm seen")
    assert action.outcome.effect.before == pytest.approx(0.4)
    assert action.outcome.effect.expected > 0.6
    assert engine.ledger.recommendation(found.id).state is RecommendationState.CLOSED
    audit_words = [row.what for row in engine.ledger.audit_rows(limit=100)]
    wanted = ["started", "proposed", "proposed", "applied", "executing", "verifying", "kept", "closed"]
    assert [word for word in audit_words if word in wanted] == wanted


@pytest.mark.parametrize("mode", ["off", "recommend", "approve"])
async def test_a_shadow_is_recorded_in_other_modes(tmp_path, monkeypatch, clock, mode):
    """Modes other than auto change nothing and record when auto would have acted and how it ended."""
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
        assert newest_cache().effects == engine.ledger.actions() == []
        await engine.stop()


async def test_an_operator_restores_the_previous_value_at_once(engine):
    """An operator may restore the previous value within the cooldown, and no other value."""
    engine.run()
    decisions = engine.components.ports.decisions
    await engine.run_for(1)
    raised = await decisions.set_knob("cache-1", "cache-1", "maxmemory", 64 * MIB, 128 * MIB, "ann", "k1")
    assert raised.state is ActionState.VERIFYING
    await engine.run_for(75)
    assert engine.ledger.action(raised.id).state.is_final
    with pytest.raises(RefusedError, match="cache-1"):
        await decisions.set_knob("cache-1", "cache-1", "maxmemory", 128 * MIB, 63 * MIB, "ann", "k2")
    restored = await decisions.set_knob("cache-1", "cache-1", "maxmemory", 128 * MIB, 64 * MIB, "ann", "k3")
    assert restored.state is ActionState.VERIFYING
    assert newest_cache().effects[-1] == ("cache-1", "maxmemory", 64 * MIB)


@pytest.mark.parametrize(
    ("metric", "name"), [("hit_ratio", "hit ratio of cache-1"), ("latency", str(LATENCY))]
)
async def test_a_harmful_change_is_rolled_back(engine, metric, name):
    """A change is rolled back exactly when its own metric or the latency of its incident degrades."""
    engine.save_incident(entities=("redis/cache-1", entity_of(LATENCY)))
    engine.run()
    await engine.run_for(40)
    assert newest_cache().values["cache-1", "maxmemory"] == 128 * MIB
    setattr(engine, metric, 0.05 if metric == "hit_ratio" else 5.0)
    await engine.run_for(60)
    assert newest_cache().values["cache-1", "maxmemory"] == 64 * MIB
    action = next(one for one in engine.ledger.actions() if one.undoes is None)
    assert action.state is ActionState.ROLLED_BACK
    assert name in action.outcome.words


async def test_a_pause_blocks_actions(engine):
    """Nothing starts while actions are paused; they start after an operator resumes."""
    engine.run()
    await engine.run_for(5)
    engine.ledger.set_pause(Pause(on=True, by="ann"))
    await engine.run_for(60)
    assert newest_cache().effects == []
    assert engine.ledger.actions() == []
    engine.ledger.set_pause(Pause(on=False, by="ann"))
    await engine.run_for(3)
    assert newest_cache().effects == [("cache-1", "maxmemory", 128 * MIB)]


async def test_verification_continues_after_a_restart(engine):
    """A verified change stays verified over a restart and is sent once."""
    engine.run()
    await engine.run_for(40)
    assert [action.state for action in engine.ledger.actions()] == [ActionState.VERIFYING]
    await engine.stop()
    running_s = engine.components.recommendations.situation_builder.ages.running_s
    engine.live = type(engine.live)()
    await engine.start()
    engine.sample()
    engine.run()
    await engine.run_for(2)
    assert engine.components.recommendations.situation_builder.ages.running_s >= running_s
    engine.hit_ratio = 0.7
    await engine.run_for(90)
    assert [action.state for action in engine.ledger.actions()] == [ActionState.KEPT]
    assert [effect for made in FakeCache.made["cache-1"] for effect in made.effects] == [
        ("cache-1", "maxmemory", 128 * MIB)
    ]


async def test_guarded_series_survive_a_restart(engine):
    """Harm to a guarded series chosen before a restart still rolls the change back."""
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
    assert newest_cache().values["cache-1", "maxmemory"] == 64 * MIB


@pytest.mark.parametrize("mode", ["approve", "recommend", "off"])
async def test_other_modes_need_an_operator(tmp_path, monkeypatch, clock, mode):
    """Other modes apply a change only after an approval; mode off recommends nothing."""
    with fake_caches(monkeypatch, clock):
        engine = await EngineActions(make_settings(tmp_path, mode), clock, FakeScoreLog()).start()
        engine.add_history()
        engine.save_incident()
        engine.run()
        await engine.run_for(60)
        assert newest_cache().effects == []
        found = engine.ledger.recommendations(state=RecommendationState.PENDING)
        assert [one.mode for one in found] == ([] if mode == "off" else [Mode(mode)])
        for one in found:
            await engine.components.ports.decisions.approve(one.id, "ann")
            await engine.run_for(3)
            assert newest_cache().effects == [("cache-1", "maxmemory", 128 * MIB)]
        await engine.stop()


async def test_a_restarted_task_audits_one_start(engine, monkeypatch):
    """After a fault in a step the components run again without a second start in the audit."""
    steps = []

    async def step(now):
        steps.append(now)
        if len(steps) == 1:
            raise ValueError("an internal fault")

    monkeypatch.setattr(engine.components.scheduler, "step", step)
    with pytest.raises(ValueError, match="an internal fault"):
        await engine.components.run()
    assert engine.clock.sleepers == 0
    engine.run()
    await engine.run_for(2)
    assert len(steps) == 3
    assert [row.what for row in engine.ledger.audit_rows()].count("started") == 1


@pytest.mark.parametrize("error", [StoreError("disk full"), EngineError("no"), ValueError("a fault")])
async def test_a_failing_update_does_not_stop_the_steps(engine, monkeypatch, error):
    """Scheduler steps continue and the update of recommendations is tried again after an error."""
    updates = []

    async def update():
        updates.append(engine.clock.now())
        raise error

    monkeypatch.setattr(engine.components.recommendations, "update", update)
    engine.run()
    await engine.run_for(5)
    assert len(updates) == 3
    assert not engine.work.done()


async def test_one_update_reads_the_ledger_once(engine, monkeypatch):
    """Recommendations and notices share one read of the ledger, including newly stored recommendations."""
    reads, read_recommendations = [], []
    ledger, drift_notices = (
        engine.components.recommendations.ledger,
        engine.components.inbox_notices._drift_notices,
    )
    for name in ("recommendations", "actions"):
        real = getattr(ledger, name)
        monkeypatch.setattr(
            ledger, name, lambda *, real=real, name=name, **by: reads.append((name, *by)) or real(**by)
        )

    async def recorded_drift_notices(now, read):
        read_recommendations.extend(read.recommendations)
        return await drift_notices(now, read)

    monkeypatch.setattr(engine.components.inbox_notices, "_drift_notices", recorded_drift_notices)
    await engine.components._update_recommendations()
    assert (
        [one.fingerprint for one in read_recommendations]
        == [one.fingerprint for one in ledger.recommendations()]
        != []
    )
    assert reads.count(("actions", "since", "limit")) == 1
    before = reads.count(("recommendations", "state", "limit"))
    await engine.components._update_recommendations()
    assert read_recommendations[-1] == read_recommendations[0]
    # once per state: pending, approved, scheduled, dismissed; and pending again for those that follow
    assert reads.count(("recommendations", "state", "limit")) - before == 5


async def test_a_hanging_update_does_not_block_the_steps(engine):
    """A tool that does not answer the update does not delay scheduler steps."""
    never = newest_cache().gates["metrics"] = asyncio.Event()
    engine.run()
    await engine.wait_until_idle(sleepers=3)
    before = engine.clock.now()
    engine.clock.tick(1.0)
    await engine.wait_until_idle(sleepers=3)
    assert engine.clock.now() > before
    assert engine.ledger.recommendations() == []
    never.set()


async def test_a_lost_lease_stops_the_components(engine, monkeypatch):
    """The components stop with LockedError when another engine holds the lease."""

    async def update():
        raise LockedError("another engine")

    monkeypatch.setattr(engine.components.recommendations, "update", update)
    engine.run()
    await engine.run_for(2)
    assert isinstance(engine.work.exception(), LockedError)


async def test_a_reload_replaces_tools_and_guardrails(engine, tmp_path):
    """A reload applies new modes, tools and limits from the next update and decision on."""
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


async def test_a_reported_change_event_reaches_detection(engine):
    """A stored change event is pending for the incident service."""
    from trimtab.engine.types import Change, ChangeKind

    change = Change("C1", engine.clock.now(), ChangeKind.DEPLOY, "shop 1.2", "ci")
    engine.incidents.save_change(change)
    assert list(engine.incident_service.pending_changes) == [change]
    assert engine.incidents.changes() == [change]


async def test_a_disabled_tool_stays_disabled_after_a_restart(engine, clock):
    """A disabled tool is listed as disabled after a restart and its series read NaN."""
    source = action_setup.build_tools_source(engine.components, engine.settings)
    before = await source.read()
    await engine.components.ports.toolbox.enable("cache-1", enabled=False)
    await source.read()
    await engine.stop()
    await engine.start()
    (view,) = await engine.components.ports.toolbox.views()
    assert (view.name, view.enabled, view.status.state) == ("cache-1", False, ToolState.DISABLED)
    clock.tick(5)
    after = await action_setup.build_tools_source(engine.components, engine.settings).read()
    assert after.keys == before.keys
    assert np.isnan(after.values).all()
