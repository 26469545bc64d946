"""From open incidents and what tools say now to recommendations in the ledger."""

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
    """A Redis of 64 MiB."""
    values = {"maxmemory": 64 * MIB, "maxmemory-policy": "allkeys-lru"}
    figures = {"redis_memory_used_bytes": 6e7, 'redis_db_keys{db="0"}': 3.0}
    return FakeTool(name, knobs=(MAXMEMORY, POLICY), values=values, actions=(), metrics=figures)


class RecommendationStack:
    """Advising over a real ledger, a fake Redis in mode auto, and a clock that stands."""

    def __init__(self, ledger):
        self.ledger, self.clock = ledger, ledger.clock
        self.tool, self.live, self.incidents = cache(), LiveState(), FakeIncidents()
        self.toolbox = FakeToolbox(self.tool, modes={"c1": {"*": Mode.AUTO}}, kind="redis")
        self.state_store = FakeKeyValueStore()
        self.start()

    def start(self):
        """As at a start of the engine."""
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
        """One that goes on and shows these patterns."""
        plain = Incident(
            ulid(900), self.clock.now(), None, IncidentState.OPEN, "c1", 0.6, Severity.HIGH, False, False,
            ("redis/c1",), (ulid(901),), patterns=patterns or (THRASH,),
        )  # fmt: skip
        self.incidents.save_incidents([replace(plain, **changed)])

    def publish_series(self, *keys, value=0.4):
        """Series of the tools as they are now."""
        n = len(keys)
        sensed = TickResult(
            keys, tick_scores("tools", self.clock.now(), [value] * n), (), np.empty(0, np.int64),
            np.zeros(n, np.int64), np.ones(n, np.bool_), {}, complete=True,
        )  # fmt: skip
        self.live.publish_tick(sensed, 5.0, (), SeriesInfo)

    async def update(self, after_s=15.0):
        """The next look."""
        self.clock.tick(after_s)
        return await self.service.update()


@pytest.fixture
def stack(tmp_path):
    """With an incident that shows thrash."""
    with open_ledger(tmp_path) as ledger:
        made = RecommendationStack(ledger)
        made.save_incident()
        yield made


async def test_a_pattern_becomes_a_recommendation_with_its_command(stack):
    """From the value that is there, with what the series shows and the line that a person would type."""
    stack.publish_series(HITS)
    (made,) = await stack.update()
    assert (made.before, made.after, made.mode) == (64 * MIB, 128 * MIB, Mode.AUTO)
    assert (made.effect.series_id, made.effect.before) == (HITS.id, 0.4)
    assert made.command == f"fakectl c1 maxmemory {128 * MIB}"
    assert stack.ledger.recommendation(made.id) == made
    assert [(row.what, row.actor) for row in stack.ledger.audit_rows()] == [("proposed", "trimtab")]


async def test_a_series_that_is_only_remembered_shows_nothing(stack):
    """What left, or was seen by an earlier engine, is not looked up in the store either."""

    def remembered(series_id):
        raise AssertionError(f"the store was asked for {series_id}")

    stack.live.remembered = remembered
    (made,) = await stack.update()
    assert made.effect is None


async def test_figures_with_labels_find_their_series(stack):
    """A tool's figure that carries labels is the series that the source of tools made of it."""
    key = metric_series_key('redis_db_keys{db="0"}', {"tool": "c1", "target": "c1"})
    stack.publish_series(key)
    (facts,) = await stack.service._facts([next(iter(stack.incidents.by_id.values()))])
    assert facts.series_ids == {'redis_db_keys{db="0"}': key.id}


async def test_what_is_off_is_known_but_not_recommended(stack):
    """It is shown to the guard as the others are, so that its shadow can be kept; nothing is written."""
    stack.toolbox.modes = {"c1": {"*": Mode.OFF}}
    assert await stack.update() == []
    (off,) = stack.service.switched_off
    assert (off.subject, off.mode) == ("maxmemory", Mode.OFF)
    assert stack.situation_builder.proposals.stability(off, 0, 300).evaluations == 1
    assert stack.ledger.recommendations() == []


async def test_what_stands_is_said_once(stack):
    """Looked at again it stays as it is; before it expires it is renewed under its id."""
    (first,) = await stack.update()
    assert await stack.update() == []
    shadow = Shadow(stack.clock.now(), first.before, first.after)
    stack.ledger.save_recommendation(replace(first, shadow=shadow), "would have been done", "trimtab")
    (again,) = await stack.update(170)
    assert (again.id, again.generation, again.shadow) == (first.id, 0, shadow)
    assert again.expires > first.expires
    assert [row.what for row in stack.ledger.audit_rows()] == ["proposed", "would have been done", "renewed"]


async def test_another_plan_counts_the_generation_up(stack):
    """And the guard is told which one is of now."""
    (first,) = await stack.update()
    stack.tool.values["c1", "maxmemory"] = 96 * MIB
    (other,) = await stack.update()
    assert (other.id, other.generation, other.before) == (first.id, 1, 96 * MIB)
    assert stack.observer.generations == {first.fingerprint: 1}
    assert [row.what for row in stack.ledger.audit_rows()] == ["proposed", "revised"]


async def test_an_approved_plan_that_changed_is_left_to_expire(stack):
    """Nobody exchanges what a person agreed to; the guard sees that its value is not there any more."""
    (first,) = await stack.update()
    approved = replace(first, state=S.APPROVED, approver="ann", approved=stack.clock.now())
    stack.ledger.save_recommendation(approved, "approved", "ann")
    stack.tool.values["c1", "maxmemory"] = 96 * MIB
    assert await stack.update() == []
    assert stack.ledger.recommendation(first.id) == approved
    assert stack.observer.generations == {first.fingerprint: 0}


async def test_a_person_who_is_quicker_counts(stack, monkeypatch):
    """Dismissed between the look and the writing: it stays dismissed."""
    (first,) = await stack.update()
    dismissed = replace(first, state=S.DISMISSED, reason="no")
    advise = stack.service.recommender.advise

    def meanwhile(*arguments):
        stack.ledger.save_recommendation(dismissed, "dismissed", "ann")
        return advise(*arguments)

    monkeypatch.setattr(stack.service.recommender, "advise", meanwhile)
    assert await stack.update(170) == []
    assert stack.ledger.recommendation(first.id) == dismissed
    with pytest.raises(ConflictError):
        stack.ledger.save_recommendation(first, "renewed", "trimtab", S.PENDING)


async def test_what_was_dismissed_stays_so_however_much_came_since(stack):
    """Hundreds that expired do not make it forgotten."""
    (first,) = await stack.update()
    stack.ledger.save_recommendation(replace(first, state=S.DISMISSED, approver="ann"), "dismissed", "ann")
    for number in range(220):
        other = replace(first, id=ulid(10**6 + number), state=S.EXPIRED, fingerprint=f"other/{number}")
        stack.ledger.save_recommendation(other, "expired", "trimtab")
    assert await stack.update() == []
    assert "dismissed by ann" in stack.service.withheld[first.fingerprint]


async def test_an_action_under_way_withholds_the_next(stack):
    """With the reason, for people to see."""
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
async def test_nothing_is_asked_where_nothing_is_wanted(stack, patterns, changed):
    """Tools are left alone, and nothing is recommended."""
    stack.save_incident(*patterns, **changed)
    calls = len(stack.tool.calls)
    assert await stack.update() == []
    asked = {call[0] for call in stack.tool.calls[calls:]}
    assert asked <= {"status"} or changed.get("state") is IncidentState.RESOLVED


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
async def test_a_tool_in_trouble_gives_no_facts(stack, trouble):
    """Nothing is recommended from half an answer, and what stood begins to stand anew."""
    trouble(stack)
    assert await stack.update() == []


async def test_half_an_answer_is_none(stack, monkeypatch):
    """A target of which figures came and knobs did not says nothing until it answers whole."""
    (first,) = await stack.update()
    target = stack.toolbox.target

    async def half(name, of):
        return replace(await target(name, of), knobs=(), problem="it did not answer all in 10 s")

    monkeypatch.setattr(stack.toolbox, "target", half)
    assert await stack.update() == []
    assert await stack.service._facts(list(stack.incidents.by_id.values())) == []
    assert stack.situation_builder.proposals.stability(first, 15.0, 300.0).evaluations == 0
    monkeypatch.undo()
    assert await stack.update() == []
    assert stack.situation_builder.proposals.stability(first, 30.0, 300.0).evaluations == 1


async def test_what_may_only_be_exported_is_for_people(stack):
    """A server that forbids changes is read, and its change is recommended, never automatic."""
    stack.tool.tool_status = ToolStatus(ToolState.EXPORT_ONLY, "managed")
    (made,) = await stack.update()
    assert made.mode is Mode.RECOMMEND
    assert made.command


async def test_the_guard_goes_on_over_a_restart(stack):
    """How long a proposal has stood is remembered with each look."""
    (made,) = await stack.update()
    await stack.update()
    await stack.update()
    stack.start()
    await stack.service.resume()
    lived = stack.situation_builder.ages.running_s
    assert stack.situation_builder.proposals.stability(made, lived, 300.0).evaluations == 3
    assert lived == 30.0


@pytest.mark.parametrize(
    "state", [{}, {"lived": 3}, {"lived": {"seconds": "x", "since": {}}, "standing": {}}]
)
async def test_a_guards_state_that_cannot_be_read_begins_anew(stack, state):
    """Proposals stand from nothing then, which allows less, not more."""
    stack.state_store.values[STATE_KEY] = state
    await stack.service.resume()
    (made,) = await stack.update()
    assert stack.situation_builder.proposals.stability(made, 0.0, 300.0).evaluations == 1


async def test_a_store_that_fails_fails_the_look(stack):
    """What is not remembered is not said; the next look says it."""
    stack.state_store.write_error = StoreError("disk full")
    with pytest.raises(StoreError):
        await stack.update()
    assert stack.ledger.recommendations() == []
    stack.state_store.write_error = None
    assert len(await stack.update()) == 1


async def test_one_that_expired_is_made_anew(stack):
    """As another recommendation, while the pattern persists."""
    (first,) = await stack.update()
    stack.ledger.save_recommendation(replace(first, state=S.EXPIRED), "expired", "trimtab")
    (other,) = await stack.update()
    assert other.id != first.id
    assert other.expires - stack.clock.now() == 300 * SECOND
