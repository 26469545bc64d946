"""TargetObserver collects what the guard needs of a target; unknown values stay None."""

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
    """Return a recommendation of an incident to raise the size of the fake tool."""
    given = {"tool": "fake", "target": "fake", "subject": "size", "incident_id": ulid(1),
             "pattern": "cache_thrash", "effect": replace(EFFECT, series_id=A.id)}  # fmt: skip
    return make_recommendation(ulid(2), **{**given, **changed})


class ObserverStack:
    """A fake tool, two series of one source, and an incident that matches both."""

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

    def publish_samples(self, *keys, n=41, opened=()):
        """Publish n ticks at 15 s up to now for these series; `opened` are IDs of open anomalies."""
        self.live.set_source_status(SourceStatus("p", SourceState.UP, 15.0))
        for k in range(n):
            time = self.clock.now() - (n - 1 - k) * 15 * SECOND
            scores = tick_scores("p", time, [5.0 + k % 2] * len(keys))
            self.scores.append(keys, scores)
        tick_result = TickResult(
            keys, scores, (), np.empty(0, np.int64), np.zeros(len(keys), np.int64),
            np.ones(len(keys), np.bool_), dict(enumerate(opened)), complete=True,
        )  # fmt: skip
        self.live.publish_tick(tick_result, 15.0, (), SeriesInfo)


@pytest.fixture
def stack():
    return ObserverStack()


async def test_observation_holds_everything_that_is_known(stack):
    """An observation holds mode, targets, knob, reading, group, TTL share, inputs and mass anomaly."""
    stack.publish_samples(A, B, opened=(ulid(7), ulid(8)))
    observed = await stack.observer(proposal())
    assert (observed.mode, observed.targets, observed.total_targets) == (Mode.AUTO, ("fake",), 1)
    assert (observed.knob, observed.action, observed.reading.value) == (SIZE_KNOB, None, 100)
    assert observed.coupled_knobs == {("fake", "fake", "size"), ("fake", "fake", "count")}
    assert observed.ttl_share == 0.4
    assert (observed.inputs.series, observed.inputs.missing, observed.inputs.newest_age) == (2, 0, 0.0)
    assert (observed.inputs.present_ratio, observed.inputs.source_up) == (1.0, True)
    assert observed.mass == MassAnomalyStatus(anomalous=1, watched=2, sources_down=0, sources=1)


async def test_a_tool_action_has_no_knob_or_memory(stack):
    """An observation for a tool action has no knob, reading, memory outlook or coupled knobs."""
    stack.tool.respond_with("outlook", MemoryOutlook(1.0, ()))
    observed = await stack.observer(proposal(subject="flush", is_action=True, before=None, after=None))
    assert (observed.action, observed.knob, observed.reading, observed.memory, observed.coupled_knobs) == (
        FLUSH_ACTION, None, None, None, frozenset(),
    )  # fmt: skip


async def test_memory_outlook_is_read_for_the_proposed_value(stack):
    """The memory outlook is read from the tool for the proposed value."""
    outlook = MemoryOutlook(1000.0, (("data", 125.0),))
    stack.tool.respond_with("outlook", outlook)
    assert (await stack.observer(proposal())).memory == outlook
    assert ("outlook", "fake", "size", 125) in stack.tool.calls


async def test_a_series_that_is_gone_counts_as_missing(stack):
    """A series that is gone counts as missing; the store is not read and its source stays up."""

    def remembered(series_id):
        raise AssertionError(f"the store was asked for {series_id}")

    stack.live.remembered = remembered
    stack.publish_samples(A)
    inputs = (await stack.observer(proposal())).inputs
    assert (inputs.series, inputs.missing, inputs.source_up) == (2, 1, True)


async def test_without_any_series_the_inputs_are_unknown(stack):
    """When every series is gone, age, present ratio and source status are unknown."""
    inputs = (await stack.observer(proposal())).inputs
    assert (inputs.series, inputs.missing, inputs.newest_age, inputs.present_ratio) == (2, 2, None, None)
    assert inputs.source_up is None


@pytest.mark.parametrize("state", [SourceState.UNKNOWN, SourceState.STARTING])
async def test_a_source_without_data_is_not_up(stack, state):
    """A source that is starting or unknown is not up; an unknown one counts as down."""
    stack.publish_samples(A, B)
    stack.live.set_source_status(SourceStatus("p", state, 15.0))
    observed = await stack.observer(proposal())
    assert observed.inputs.source_up is False
    assert observed.mass.sources_down == (1 if state is SourceState.UNKNOWN else 0)


@pytest.mark.parametrize(
    ("age_s", "newest", "present"), [(45.0, 3.0, 1.0), (300.0, 20.0, 0.5)], ids=["just", "half is missing"]
)
async def test_age_and_gaps_are_measured(stack, age_s, newest, present):
    """Age is measured in scrape intervals, gaps as the present ratio of the window up to now."""
    stack.publish_samples(A, B)
    stack.clock.tick(age_s)
    inputs = (await stack.observer(proposal())).inputs
    assert inputs.newest_age == newest
    assert inputs.present_ratio == pytest.approx(present, abs=0.1)


@pytest.mark.parametrize(
    "changed", [{"incident_id": None}, {"incident_id": ulid(9)}], ids=["by hand", "gone"]
)
async def test_without_an_incident_the_inputs_are_none(stack, changed):
    """Inputs are None (unknown) for a proposal without a stored incident."""
    stack.publish_samples(A, B, opened=(ulid(7),))
    observed = await stack.observer(proposal(**changed))
    assert observed.inputs is None
    assert observed.mass.anomalous == 1


async def test_other_tools_are_not_read(stack):
    """Other tools are never called; targets of enabled ones count in the total."""
    hanging, off = FakeTool("hangs", ("a", "b", "c")), FakeTool("off", ("d",))
    stack.toolbox.tools |= {"hangs": hanging, "off": off}
    stack.toolbox.disabled.add("off")
    assert (await stack.observer(proposal())).total_targets == 4
    assert hanging.calls == off.calls == []


async def test_an_unobservable_target_raises(stack):
    """An unknown tool or a tool that does not answer raises."""
    with pytest.raises(NotFoundError):
        await stack.observer(proposal(tool="other"))
    stack.tool.respond_with("outlook", ToolError("no answer"))
    with pytest.raises(ToolError):
        await stack.observer(proposal())


async def test_generation_is_that_of_the_newest_plan(stack):
    """The generation is that of the newest plan, or the proposal's own when there is none."""
    made = proposal(generation=2)
    assert (await stack.observer(made)).generation == 2
    stack.observer.generations = {made.fingerprint: 3}
    assert (await stack.observer(made)).generation == 3


@pytest.mark.parametrize(
    ("keys", "share"),
    [
        ({"redis_db_keys": 10.0, "redis_db_keys_expiring": 10.0}, 1.0),
        ({"redis_db_keys": 0.0, "redis_db_keys_expiring": 0.0}, None),
        ({"redis_db_keys": 10.0}, None),
        ({}, None),
    ],
)
async def test_ttl_share_is_none_when_unknown(stack, keys, share):
    """The TTL share is None when the tool has no keys or does not report them."""
    stack.tool.metric_values = {"fake_up": 1.0, **keys}
    assert (await stack.observer(proposal())).ttl_share == share


@pytest.mark.parametrize("subject", ["size", "count", "flush"])
@pytest.mark.parametrize("target", ["a", "b"])
async def test_mode_follows_the_precedence_of_the_settings(subject, target):
    """The most specific mode setting applies, in the same order as in the settings."""
    modes = {"*": "approve", "size": "auto", "b/*": "off", "b/flush": "recommend"}
    tool = FakeTool(targets=("a", "b"))
    box = FakeToolbox(tool, modes={"fake": {name: Mode(mode) for name, mode in modes.items()}})
    assert mode_in(await box.view("fake"), target, subject) == mode_of(modes, target, subject)


async def test_the_reading_is_current(stack):
    """The reading is the tool's current value, not the recommendation's."""
    reading = KnobReading(111, True, Lasts.UNTIL_RESTART)
    stack.tool.respond_with("read", reading)
    assert (await stack.observer(proposal())).reading == reading
