"""What the guard is told of a proposal's target and figures; what is not known stays unknown."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.actions import EFFECT, make_recommendation
from tests.builders.series import SECOND, START, tick_scores
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FLUSH_ACTION, SIZE_KNOB, FakeTool, FakeToolbox
from tests.fakes.ports import FakeClock, FakeScoreLog
from trimtab.engine.actions.guard.observation import TargetObserver, mode_in
from trimtab.engine.actions.guard.situation import MassAnomalyStatus
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.errors import NotFoundError, ToolError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.settings.guardrails import Guardrails, mode_of
from trimtab.engine.types import (
    Incident,
    IncidentState,
    KnobReading,
    Lasts,
    MemoryOutlook,
    Mode,
    PatternMatch,
    SeriesInfo,
    SeriesKey,
    Severity,
    SourceState,
    SourceStatus,
)

A, B = (SeriesKey.of("p", "hits", {"instance": name}) for name in "ab")
COUNT = replace(SIZE_KNOB, name="count", group="memory")


def proposal(**changed):
    """Raise the size of the fake tool, from an incident."""
    given = {"tool": "fake", "target": "fake", "subject": "size", "incident_id": ulid(1),
             "pattern": "cache_thrash", "effect": replace(EFFECT, series_id=A.id)}  # fmt: skip
    return make_recommendation(ulid(2), **{**given, **changed})


class ObserverStack:
    """A fake tool, two series of one source, an incident that was seen in both."""

    def __init__(self):
        self.clock, self.live, self.scores = FakeClock(), LiveState(), FakeScoreLog()
        self.incidents = FakeIncidents()
        self.tool = FakeTool(
            knobs=(SIZE_KNOB, COUNT), metrics={"redis_db_keys": 10.0, "redis_db_keys_expiring": 4.0}
        )
        self.toolbox = FakeToolbox(self.tool, modes={"fake": {"fake/*": Mode.AUTO}})
        self.observer = TargetObserver(
            self.toolbox, self.live, self.scores, self.incidents, self.clock, Guardrails(suspicion=600)
        )
        match = PatternMatch("cache_thrash", "a", 0.9, START, (), (A.id, B.id))
        other = PatternMatch("memory_leak", "a", 0.9, START, (), ("elsewhere",))
        self.incidents.save_incidents([Incident(
            ulid(1), START, None, IncidentState.OPEN, "a", 0.6, Severity.HIGH, False, False, ("a",),
            (ulid(7),), patterns=(match, other),
        )])  # fmt: skip

    def samples(self, *keys, n=41, opened=()):
        """So many ticks of 15 s up to now of each key; anomalies of these ids are open."""
        self.live.set_source_status(SourceStatus("p", SourceState.UP, 15.0))
        for k in range(n):
            time = self.clock.now() - (n - 1 - k) * 15 * SECOND
            scores = tick_scores("p", time, [5.0 + k % 2] * len(keys))
            self.scores.append(keys, scores)
        sensed = TickResult(
            keys, scores, (), np.empty(0, np.int64), np.zeros(len(keys), np.int64),
            np.ones(len(keys), np.bool_), dict(enumerate(opened)), complete=True,
        )  # fmt: skip
        self.live.publish_tick(sensed, 15.0, (), SeriesInfo)


@pytest.fixture
def stack():
    return ObserverStack()


async def test_everything_known_is_told(stack):
    """Target, knob, value, group, share of keys that expire, figures, and how much is wrong elsewhere."""
    stack.samples(A, B, opened=(ulid(7), ulid(8)))
    seen = await stack.observer(proposal())
    assert (seen.mode, seen.targets, seen.total_targets) == (Mode.AUTO, ("fake",), 1)
    assert (seen.knob, seen.action, seen.reading.value) == (SIZE_KNOB, None, 100)
    assert seen.coupled_knobs == {("fake", "fake", "size"), ("fake", "fake", "count")}
    assert seen.ttl_share == 0.4
    assert (seen.inputs.series, seen.inputs.missing, seen.inputs.newest_age) == (2, 0, 0.0)
    assert (seen.inputs.present_ratio, seen.inputs.source_up) == (1.0, True)
    assert seen.mass == MassAnomalyStatus(anomalous=1, watched=2, sources_down=0, sources=1)


async def test_an_action_has_no_value(stack):
    """Its knob, group and memory say nothing."""
    stack.tool.respond_with("outlook", MemoryOutlook(1.0, ()))
    seen = await stack.observer(proposal(subject="flush", is_action=True, before=None, after=None))
    assert (seen.action, seen.knob, seen.reading, seen.memory, seen.coupled_knobs) == (
        FLUSH_ACTION, None, None, None, frozenset(),
    )  # fmt: skip


async def test_the_memory_that_it_would_take_is_asked_for(stack):
    """Of the tool, for the value that is proposed."""
    outlook = MemoryOutlook(1000.0, (("data", 125.0),))
    stack.tool.respond_with("outlook", outlook)
    assert (await stack.observer(proposal())).memory == outlook
    assert ("outlook", "fake", "size", 125) in stack.tool.calls


async def test_a_series_that_is_gone_is_missing(stack):
    """It is not looked up in the store, and does not make its source be down."""

    def remembered(series_id):
        raise AssertionError(f"the store was asked for {series_id}")

    stack.live.remembered = remembered
    stack.samples(A)
    inputs = (await stack.observer(proposal())).inputs
    assert (inputs.series, inputs.missing, inputs.source_up) == (2, 1, True)


async def test_where_all_are_gone_nothing_is_known(stack):
    """Whether their source is up is unknown then, and nothing is fresh."""
    inputs = (await stack.observer(proposal())).inputs
    assert (inputs.series, inputs.missing, inputs.newest_age, inputs.present_ratio) == (2, 2, None, None)
    assert inputs.source_up is None


@pytest.mark.parametrize("state", [SourceState.UNKNOWN, SourceState.STARTING])
async def test_a_source_that_does_not_answer_is_not_up(stack, state):
    """And counts as down where it is unknown."""
    stack.samples(A, B)
    stack.live.set_source_status(SourceStatus("p", state, 15.0))
    seen = await stack.observer(proposal())
    assert seen.inputs.source_up is False
    assert seen.mass.sources_down == (1 if state is SourceState.UNKNOWN else 0)


@pytest.mark.parametrize(
    ("age_s", "newest", "present"), [(45.0, 3.0, 1.0), (300.0, 20.0, 0.5)], ids=["just", "half is missing"]
)
async def test_age_and_holes_are_measured(stack, age_s, newest, present):
    """In intervals of the source, and as a share of the window up to now."""
    stack.samples(A, B)
    stack.clock.tick(age_s)
    inputs = (await stack.observer(proposal())).inputs
    assert inputs.newest_age == newest
    assert inputs.present_ratio == pytest.approx(present, abs=0.1)


@pytest.mark.parametrize(
    "changed", [{"incident_id": None}, {"incident_id": ulid(9)}], ids=["by hand", "gone"]
)
async def test_without_an_incident_there_are_no_figures(stack, changed):
    """None = unknown; by itself nothing is done then."""
    stack.samples(A, B, opened=(ulid(7),))
    seen = await stack.observer(proposal(**changed))
    assert seen.inputs is None
    assert seen.mass.anomalous == 1


async def test_no_other_tool_is_asked(stack):
    """One that hangs, or is disabled, holds no decision up; its targets count while it may be used."""
    hangs, off = FakeTool("hangs", ("a", "b", "c")), FakeTool("off", ("d",))
    stack.toolbox.tools |= {"hangs": hangs, "off": off}
    stack.toolbox.disabled.add("off")
    assert (await stack.observer(proposal())).total_targets == 4
    assert hangs.calls == off.calls == []


async def test_what_cannot_be_seen_raises(stack):
    """An unknown target or a tool that does not answer: then nothing is decided."""
    with pytest.raises(NotFoundError):
        await stack.observer(proposal(tool="other"))
    stack.tool.respond_with("outlook", ToolError("no answer"))
    with pytest.raises(ToolError):
        await stack.observer(proposal())


async def test_the_generation_is_that_of_the_newest_advice(stack):
    """Where there is none, as after a start, it is the proposal's own."""
    wanted = proposal(generation=2)
    assert (await stack.observer(wanted)).generation == 2
    stack.observer.generations = {wanted.fingerprint: 3}
    assert (await stack.observer(wanted)).generation == 3


@pytest.mark.parametrize(
    ("keys", "share"),
    [
        ({"redis_db_keys": 10.0, "redis_db_keys_expiring": 10.0}, 1.0),
        ({"redis_db_keys": 0.0, "redis_db_keys_expiring": 0.0}, None),
        ({"redis_db_keys": 10.0}, None),
        ({}, None),
    ],
)
async def test_how_many_keys_expire_is_known_or_not(stack, keys, share):
    """An empty Redis says nothing of what will be in it."""
    stack.tool.metric_values = {"fake_up": 1.0, **keys}
    assert (await stack.observer(proposal())).ttl_share == share


@pytest.mark.parametrize("subject", ["size", "count", "flush"])
@pytest.mark.parametrize("target", ["a", "b"])
async def test_modes_are_those_of_the_settings(subject, target):
    """The nearest word counts, in the same order as in the settings."""
    modes = {"*": "approve", "size": "auto", "b/*": "off", "b/flush": "recommend"}
    tool = FakeTool(targets=("a", "b"))
    box = FakeToolbox(tool, modes={"fake": {name: Mode(mode) for name, mode in modes.items()}})
    assert mode_in(await box.view("fake"), target, subject) == mode_of(modes, target, subject)


async def test_the_value_is_that_of_now(stack):
    """As the tool reads it, not as the recommendation remembers it."""
    reading = KnobReading(111, True, Lasts.UNTIL_RESTART)
    stack.tool.respond_with("read", reading)
    assert (await stack.observer(proposal())).reading == reading
