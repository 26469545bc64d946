"""RecommendationService: from open incidents and tool readings to recommendations in the ledger."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.action_stack import open_ledger
from tests.builders.actions import make_action
from tests.builders.series import SECOND, tick_scores
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FakeKeyValueStore, FakeTool, FakeToolbox
from tests.fakes.ports import FakeScoreLog
from trimtab.engine.actions.guard.observation import TargetObserver
from trimtab.engine.actions.guard.situation_builder import SituationBuilder
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.errors import ConflictError, StoreError, ToolError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.recommendations.recommendation_service import STATE_KEY, RecommendationService
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.sources.managed_tools import metric_series_key
from trimtab.engine.types import (
    ActionState,
    Incident,
    IncidentState,
    Knob,
    KnobType,
    Mode,
    PatternMatch,
    RecommendationState,
    SeriesInfo,
    Severity,
    Shadow,
    ToolState,
    ToolStatus,
)

MIB = 2**20
MAXMEMORY = Knob("maxmemory", KnobType.INT, "B", low=MIB, high=256 * MIB, step=64 * MIB, warm_up_s=60)
POLICY = Knob("maxmemory-policy", KnobType.CHOICE, choices=("allkeys-lru", "noeviction"))
THRASH = PatternMatch("cache_thrash", "redis/c1", 0.9, 0, ("evictions rose",), remedies=("redis.maxmemory",))
HITS = metric_series_key("redis_hit_ratio", {"tool": "c1", "target": "c1"})
S = RecommendationState


def cache(name="c1"):
    """Return a fake Redis of 64 MiB."""
    values = {"maxmemory": 64 * MIB, "maxmemory-policy": "allkeys-lru"}
    figures = {"redis_memory_used_bytes": 6e7, 'redis_db_keys{db="0"}': 3.0}
    return FakeTool(name, knobs=(MAXMEMORY, POLICY), values=values, actions=(), metrics=figures)


class RecommendationStack:
    """A recommendation service over a real ledger, a fake Redis in mode auto and a fake clock."""

    def __init__(self, ledger):
        self.ledger, self.clock = ledger, ledger.clock
        self.tool, self.live, self.incidents = cache(), LiveState(), FakeIncidents()
        self.toolbox = FakeToolbox(self.tool, modes={"c1": {"*": Mode.AUTO}}, kind="redis")
        self.state_store = FakeKeyValueStore()
        self.start()

    def start(self):
        """Build the service as at a start of the engine."""
        limits = Guardrails()
        self.situation_builder = SituationBuilder(limits)
        self.observer = TargetObserver(
            self.toolbox, self.live, FakeScoreLog(), self.incidents, self.clock, limits
        )
        self.service = RecommendationService(
            self.incidents, self.ledger, self.toolbox, self.situation_builder, self.observer,
            self.state_store, self.live,
            self.clock, self.clock.now,
        )  # fmt: skip

    def save_incident(self, *patterns, **changed):
        """Store an open incident with these patterns."""
        plain = Incident(
            ulid(900), self.clock.now(), None, IncidentState.OPEN, "c1", 0.6, Severity.HIGH, False, False,
            ("redis/c1",), (ulid(901),), patterns=patterns or (THRASH,),
        )  # fmt: skip
        self.incidents.save_incidents([replace(plain, **changed)])

    def publish_series(self, *keys, value=0.4):
        """Publish one tick of these series."""
        n = len(keys)
        tick_result = TickResult(
            keys, tick_scores("tools", self.clock.now(), [value] * n), (), np.empty(0, np.int64),
            np.zeros(n, np.int64), np.ones(n, np.bool_), {}, complete=True,
        )  # fmt: skip
        self.live.publish_tick(tick_result, 5.0, (), SeriesInfo)

    async def update(self, after_s=15.0):
        """Advance the clock and update the recommendations."""
        self.clock.tick(after_s)
        return await self.service.update()


@pytest.fixture
def stack(tmp_path):
    """A stack with an open incident that matches cache_thrash."""
    with open_ledger(tmp_path) as ledger:
        made = RecommendationStack(ledger)
        made.save_incident()
        yield made


async def test_a_pattern_becomes_a_recommendation_with_its_command(stack):
    """A recommendation holds the current value, the effect on its series and the command to run."""
    stack.publish_series(HITS)
    (made,) = await stack.update()
    assert (made.before, made.after, made.mode) == (64 * MIB, 128 * MIB, Mode.AUTO)
    assert (made.effect.series_id, made.effect.before) == (HITS.id, 0.4)
    assert made.command == f"fakectl c1 maxmemory {128 * MIB}"
    assert stack.ledger.recommendation(made.id) == made
    assert [(row.what, row.actor) for row in stack.ledger.audit_rows()] == [("proposed", "trimtab")]


async def test_an_unwatched_series_gives_no_effect(stack):
    """A series that is not watched now gives no effect and is not read from the store."""

    def remembered(series_id):
        raise AssertionError(f"the store was asked for {series_id}")

    stack.live.remembered = remembered
    (made,) = await stack.update()
    assert made.effect is None


async def test_metrics_with_labels_find_their_series(stack):
    """A tool metric with labels maps to the series of the tools source."""
    key = metric_series_key('redis_db_keys{db="0"}', {"tool": "c1", "target": "c1"})
    stack.publish_series(key)
    (facts,) = await stack.service._facts([next(iter(stack.incidents.by_id.values()))])
    assert facts.series_ids == {'redis_db_keys{db="0"}': key.id}


async def test_mode_off_is_evaluated_but_not_recommended(stack):
    """A recommendation in mode off is evaluated for its shadow but not stored."""
    stack.toolbox.modes = {"c1": {"*": Mode.OFF}}
    assert await stack.update() == []
    (off,) = stack.service.switched_off
    assert (off.subject, off.mode) == ("maxmemory", Mode.OFF)
    assert stack.situation_builder.proposals.stability(off, 0, 300).evaluations == 1
    assert stack.ledger.recommendations() == []


async def test_a_pending_recommendation_is_renewed_before_it_expires(stack):
    """A pending recommendation is stored once and renewed under its ID before it expires."""
    (first,) = await stack.update()
    assert await stack.update() == []
    shadow = Shadow(stack.clock.now(), first.before, first.after)
    stack.ledger.save_recommendation(replace(first, shadow=shadow), "would have been done", "trimtab")
    (again,) = await stack.update(170)
    assert (again.id, again.generation, again.shadow) == (first.id, 0, shadow)
    assert again.expires > first.expires
    assert [row.what for row in stack.ledger.audit_rows()] == ["proposed", "would have been done", "renewed"]


async def test_another_plan_increments_the_generation(stack):
    """Another plan increments the generation, also for the guard."""
    (first,) = await stack.update()
    stack.tool.values["c1", "maxmemory"] = 96 * MIB
    (other,) = await stack.update()
    assert (other.id, other.generation, other.before) == (first.id, 1, 96 * MIB)
    assert stack.observer.generations == {first.fingerprint: 1}
    assert [row.what for row in stack.ledger.audit_rows()] == ["proposed", "revised"]


async def test_an_approved_plan_is_not_replaced(stack):
    """An approved recommendation is not replaced when the knob's value changes."""
    (first,) = await stack.update()
    approved = replace(first, state=S.APPROVED, approver="ann", approved=stack.clock.now())
    stack.ledger.save_recommendation(approved, "approved", "ann")
    stack.tool.values["c1", "maxmemory"] = 96 * MIB
    assert await stack.update() == []
    assert stack.ledger.recommendation(first.id) == approved
    assert stack.observer.generations == {first.fingerprint: 0}


async def test_a_concurrent_dismissal_wins(stack, monkeypatch):
    """A dismissal during an update stays stored."""
    (first,) = await stack.update()
    dismissed = replace(first, state=S.DISMISSED, reason="no")
    advise = stack.service.recommender.advise

    def dismiss_then_advise(*arguments):
        stack.ledger.save_recommendation(dismissed, "dismissed", "ann")
        return advise(*arguments)

    monkeypatch.setattr(stack.service.recommender, "advise", dismiss_then_advise)
    assert await stack.update(170) == []
    assert stack.ledger.recommendation(first.id) == dismissed
    with pytest.raises(ConflictError):
        stack.ledger.save_recommendation(first, "renewed", "trimtab", S.PENDING)


async def test_a_dismissal_is_found_among_many_recommendations(stack):
    """A dismissal still withholds after hundreds of later recommendations."""
    (first,) = await stack.update()
    stack.ledger.save_recommendation(replace(first, state=S.DISMISSED, approver="ann"), "dismissed", "ann")
    for number in range(220):
        other = replace(first, id=ulid(10**6 + number), state=S.EXPIRED, fingerprint=f"other/{number}")
        stack.ledger.save_recommendation(other, "expired", "trimtab")
    assert await stack.update() == []
    assert "dismissed by ann" in stack.service.withheld[first.fingerprint]


async def test_a_running_action_withholds_the_next(stack):
    """A running action withholds the next recommendation with a reason."""
    (first,) = await stack.update()
    running = make_action(
        ulid(5),
        tool="c1",
        target="c1",
        created=stack.clock.now(),
        state=ActionState.PROPOSED,
        recommendation_id=first.id,
    )
    stack.ledger.propose(running, "proposed", "trimtab")
    assert await stack.update() == []
    assert "is being changed" in stack.service.withheld[first.fingerprint]


@pytest.mark.parametrize(
    ("patterns", "changed"),
    [
        ((), {"patterns": ()}),
        ((), {"state": IncidentState.RESOLVED}),
        ((replace(THRASH, remedies=("postgresql.work_mem",)),), {}),
    ],
    ids=["no pattern", "resolved by a person", "another kind of tool"],
)
async def test_tools_are_not_read_without_a_matching_pattern(stack, patterns, changed):
    """Without an open incident and a matching remedy, tools are not read and nothing is recommended."""
    stack.save_incident(*patterns, **changed)
    calls = len(stack.tool.calls)
    assert await stack.update() == []
    calls_made = {call[0] for call in stack.tool.calls[calls:]}
    assert calls_made <= {"status"} or changed.get("state") is IncidentState.RESOLVED


@pytest.mark.parametrize(
    "trouble",
    [
        lambda stack: stack.tool.respond_with("metrics", ToolError("no answer")),
        lambda stack: stack.tool.respond_with("read", ToolError("no answer")),
        lambda stack: setattr(stack.tool, "tool_status", ToolStatus(ToolState.DENIED, "wrong password")),
        lambda stack: setattr(stack.tool, "tool_status", ToolStatus(ToolState.UNREACHABLE)),
        lambda stack: stack.toolbox.disabled.add("c1"),
    ],
    ids=["no figures", "no knob", "denied", "unreachable", "disabled"],
)
async def test_a_failing_tool_gives_no_recommendation(stack, trouble):
    """A tool that is disabled, unreachable or answers partly gives no recommendation."""
    trouble(stack)
    assert await stack.update() == []


async def test_a_partial_answer_resets_the_stability(stack, monkeypatch):
    """A target without knob readings gives no facts, and its proposal starts again."""
    (first,) = await stack.update()
    target = stack.toolbox.target

    async def without_knobs(name, of):
        return replace(await target(name, of), knobs=(), problem="it did not answer all in 10 s")

    monkeypatch.setattr(stack.toolbox, "target", without_knobs)
    assert await stack.update() == []
    assert await stack.service._facts(list(stack.incidents.by_id.values())) == []
    assert stack.situation_builder.proposals.stability(first, 15.0, 300.0).evaluations == 0
    monkeypatch.undo()
    assert await stack.update() == []
    assert stack.situation_builder.proposals.stability(first, 30.0, 300.0).evaluations == 1


async def test_an_export_only_tool_gets_mode_recommend(stack):
    """An export-only tool gets a recommendation with a command, never an automatic change."""
    stack.tool.tool_status = ToolStatus(ToolState.EXPORT_ONLY, "managed")
    (made,) = await stack.update()
    assert made.mode is Mode.RECOMMEND
    assert made.command


async def test_stability_survives_a_restart(stack):
    """The stability of proposals is stored with each update and restored at a restart."""
    (made,) = await stack.update()
    await stack.update()
    await stack.update()
    stack.start()
    await stack.service.resume()
    running_s = stack.situation_builder.ages.running_s
    assert stack.situation_builder.proposals.stability(made, running_s, 300.0).evaluations == 3
    assert running_s == 30.0


@pytest.mark.parametrize(
    "state", [{}, {"lived": 3}, {"lived": {"seconds": "x", "since": {}}, "standing": {}}]
)
async def test_an_unreadable_guard_state_starts_empty(stack, state):
    """An unreadable guard state starts empty, so proposals must become stable again."""
    stack.state_store.values[STATE_KEY] = state
    await stack.service.resume()
    (made,) = await stack.update()
    assert stack.situation_builder.proposals.stability(made, 0.0, 300.0).evaluations == 1


async def test_a_failing_store_fails_the_update(stack):
    """A store error fails the update without a recommendation; the next update stores it."""
    stack.state_store.write_error = StoreError("disk full")
    with pytest.raises(StoreError):
        await stack.update()
    assert stack.ledger.recommendations() == []
    stack.state_store.write_error = None
    assert len(await stack.update()) == 1


async def test_an_expired_recommendation_is_replaced(stack):
    """After expiry a new recommendation is stored while the pattern persists."""
    (first,) = await stack.update()
    stack.ledger.save_recommendation(replace(first, state=S.EXPIRED), "expired", "trimtab")
    (other,) = await stack.update()
    assert other.id != first.id
    assert other.expires - stack.clock.now() == 300 * SECOND
