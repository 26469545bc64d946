"""What each configured service needs, from live series and their past; what is not known is said."""

import asyncio
import threading

import numpy as np
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from tests.builders.series import SECOND, START, tick_scores
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock, FakeScoreLog
from trimtab.engine.capacity.capacity_service import DEFAULT_STARTUP_S, CapacityService
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.settings import Settings
from trimtab.engine.types import History, ScoreRows, SeriesInfo, SeriesKey, SourceState, SourceStatus
from trimtab.engine.types.selector import Selector

INTERVAL_S = 15.0
PODS = tuple(SeriesKey.of("prometheus", "requests", {"job": "shop", "pod": name}) for name in "ab")
COUNT = SeriesKey.of("prometheus", "replicas", {"job": "shop"})
BUSY = SeriesKey.of("prometheus", "busy", {"job": "shop"})
KEYS = (*PODS, COUNT, BUSY)
PLAIN = {
    "load": 'requests{job="shop"}', "replicas": 'replicas{job="shop"}', "capacity_per_replica": 10,
    "startup": "2m", "max_replicas": 40, "cost_per_replica_hour": 0.5,
}  # fmt: skip


class RecordedScores(FakeScoreLog):
    """Two days of a load with a daily course, on four replicas, as a log reads it."""

    def __init__(self, days=2.0):
        super().__init__()
        self.days = days

    def read(self, series_id, since, until, limit=100_000):  # noqa: ARG002 - the port gives it
        n = round(self.days * 86_400 / INTERVAL_S)
        times = START - (np.arange(n, 0, -1) * round(INTERVAL_S * SECOND))
        load = 20.0 - 8.0 * np.cos(2 * np.pi * np.arange(n) / 5760) + 0.1 * np.sin(np.arange(n))
        values = {COUNT.id: np.full(n, 4.0), BUSY.id: 2.0 * load / 4.0 / 15.0}.get(series_id, load)
        good = (times >= since) & (times < until)
        nothing = np.full(int(good.sum()), np.nan)
        return ScoreRows(times[good], values[good], nothing, nothing, nothing, nothing)


class CapacityStack:
    """Live series that a test sets, and what came of them."""

    def __init__(self, scores=None, memory=None, **changes):
        self.clock, self.live, self.results = FakeClock(), LiveState(), []
        self.live.set_source_status(SourceStatus("prometheus", SourceState.UP, INTERVAL_S))
        given = {name: value for name, value in {**PLAIN, **changes}.items() if value is not None}
        self.settings = Settings.model_validate({"capacity": {"shop": given}}).capacity
        self.service = CapacityService(
            self.settings,
            self.live,
            scores or RecordedScores(),
            memory or FakeKeyValueStore(),
            self.clock,
            lambda *results: self.results.append(results),
        )

    def sample(self, *values):
        """A tick of the sources: each pod's load, the count, how busy they are."""
        scores = tick_scores("prometheus", self.clock.now(), [*values, *[np.nan] * (len(KEYS) - len(values))])
        n = len(KEYS)
        sensed = TickResult(
            KEYS, scores, (), np.empty(0, np.int64), np.zeros(n, np.int64), np.ones(n, np.bool_), {},
            complete=True,
        )  # fmt: skip
        self.live.publish_tick(sensed, INTERVAL_S, (), SeriesInfo)

    async def step(self):
        """The next evaluation."""
        self.clock.time += round(INTERVAL_S * SECOND)
        await self.service.step()
        return self.service.capacities["shop"]


async def test_what_is_wanted_now():
    """Pods are summed; the answer has count, reason, path and both costs, and the metric is set."""
    stack = CapacityStack()
    stack.sample(12.0, 12.0, 4.0)
    found = await stack.step()
    assert (found.load, found.current, found.ready) == (24.0, 4.0, 4.0)
    assert found.wanted == max(found.floor, found.ahead) >= 4
    assert found.why in {"reactive", "forecast"}
    assert found.path.serves == (found.wanted * 10.0,) * 3
    assert found.path.ahead_s == pytest.approx((40.0, 80.0, 120.0))
    assert (found.cost_per_day, found.wanted_cost_per_day) == (48.0, 12.0 * found.wanted)
    assert found.confidence > 0.5
    assert stack.results == [("shop", found.wanted)]


async def test_without_a_past_the_reactive_rule_answers():
    """Nothing was recorded: the rule alone, and less confidence."""
    stack = CapacityStack(FakeScoreLog())
    stack.sample(30.0, 30.0, 4.0)
    found = await stack.step()
    assert (found.wanted, found.why, found.ahead, found.path) == (8, "reactive", None, None)
    assert found.confidence == 0.5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((np.nan, 12.0, 4.0), "sample of load"),
        ((12.0, 12.0, np.nan), "sample of replicas"),
        ((0.0, 0.0, 4.0), "exactly 0"),
    ],
)
async def test_what_is_not_known_is_no_number(values, words):
    """A missing pod, a missing count or a sudden zero: no answer, with the reason, and the metric goes."""
    stack = CapacityStack()
    stack.sample(12.0, 12.0, 4.0)
    await stack.step()
    stack.sample(*values)
    found = await stack.step()
    assert found.wanted is None
    assert words in found.problem
    assert stack.results[-1] == ("shop", None)


async def test_stale_data_are_no_answer():
    """Three intervals without a tick of the source: unknown."""
    stack = CapacityStack()
    stack.sample(12.0, 12.0, 4.0)
    assert (await stack.step()).wanted is not None
    stack.clock.time += round(4 * INTERVAL_S * SECOND)
    assert (await stack.step()).wanted is None


async def test_a_selector_that_finds_nothing_says_so():
    """The problem names the setting and its selector."""
    stack = CapacityStack(load="nothing_of_that_name")
    stack.sample(12.0, 12.0, 4.0)
    assert (
        "capacity.shop.load: nothing_of_that_name selects no watched series" in (await stack.step()).problem
    )


async def test_what_one_serves_is_learnt():
    """From load, count and utilisation; start-ups were never seen, so theirs is assumed."""
    stack = CapacityStack(capacity_per_replica="auto", utilisation="busy", startup="auto")
    stack.sample(12.0, 12.0, 4.0)
    found = await stack.step()
    assert found.capacity_per_replica.source == "learnt"
    assert found.capacity_per_replica.value == pytest.approx(15.0, rel=0.01)
    assert (found.startup_s.value, found.startup_s.source) == (DEFAULT_STARTUP_S, "assumed")


async def test_what_one_serves_cannot_be_learnt_from_nothing():
    """Without a past of utilisation there is no answer, and the setting that mends it is named."""
    stack = CapacityStack(FakeScoreLog(), capacity_per_replica="auto", utilisation="busy")
    stack.sample(12.0, 12.0, 4.0)
    found = await stack.step()
    assert found.wanted is None
    assert "capacity.shop.capacity_per_replica" in found.problem


class ShorterScores(RecordedScores):
    """As Past; utilisation is measured for the last day and a half only."""

    def read(self, series_id, since, until, limit=100_000):
        begun = START - round(1.5 * 86_400 * SECOND)
        return super().read(series_id, max(since, begun) if series_id == BUSY.id else since, until, limit)


async def test_pasts_of_other_lengths_are_learnt_from_where_they_meet():
    """Where utilisation is measured for less long than load, what both tell of is enough."""
    stack = CapacityStack(ShorterScores(), capacity_per_replica="auto", utilisation="busy", startup="auto")
    stack.sample(12.0, 12.0, 4.0, 0.4)
    found = await stack.step()
    assert found.capacity_per_replica is not None
    assert found.capacity_per_replica.value == pytest.approx(15.0, rel=0.05)
    assert found.capacity_per_replica.source == "learnt"


def recorded(days=4):
    """What a source recorded of two pods and their count, at 5 min."""
    times = START - np.arange(days * 288, 0, -1) * 300 * SECOND
    load = 20.0 - 8.0 * np.cos(2 * np.pi * np.arange(len(times)) / 288)
    values = np.stack([load, load, np.full(len(times), 4.0)], axis=1)
    return History(300.0, (*PODS, COUNT), times, values, coarse=True)


async def test_a_source_hands_its_past_over_once():
    """From a recorded history there is a forecast at once, and after a restart it is remembered."""
    memory = FakeKeyValueStore()
    first = CapacityStack(FakeScoreLog(), memory)
    first.service.add_history(recorded())
    first.sample(12.0, 12.0, 4.0)
    assert (await first.step()).ahead is not None
    again = CapacityStack(FakeScoreLog(), memory)
    again.sample(12.0, 12.0, 4.0)
    assert (await again.step()).ahead is not None


def part_of(history, keys):
    """Only these columns of a history."""
    columns = [history.keys.index(key) for key in keys]
    return History(300.0, tuple(keys), history.times, history.values[:, columns], coarse=True)


async def test_a_second_source_leaves_the_past_of_the_first():
    """The count is handed over by another source, after a restart: the load is still remembered."""
    memory = FakeKeyValueStore()
    first = CapacityStack(FakeScoreLog(), memory)
    first.service.add_history(part_of(recorded(), PODS))
    first.sample(12.0, 12.0, 4.0)
    await first.step()
    again = CapacityStack(FakeScoreLog(), memory)
    again.service.add_history(part_of(recorded(), (COUNT,)))
    again.sample(12.0, 12.0, 4.0)
    assert (await again.step()).ahead is not None
    assert set(memory.values["scaling/shop"]) == {"load", "replicas"}


async def chunks(gate, *histories):
    """What the sources recorded, as the supervisor reads it again, once the gate is open."""
    await gate.wait()
    for history in histories:
        yield history


async def test_what_a_reload_adds_hears_of_its_past():
    """Beside the evaluations; what stays hears nothing twice, and nothing of an older namesake counts."""
    memory = FakeKeyValueStore()
    memory.values["scaling/new"] = {"load": [[START - SECOND, 9e9, 1.0], [START, 9e9, 1.0]]}
    stack = CapacityStack(FakeScoreLog(), memory)
    stack.service.add_history(recorded())
    stack.sample(12.0, 12.0, 4.0)
    await stack.step()
    asked, gate = [], asyncio.Event()
    stack.service.read_history = lambda: asked.append(1) or chunks(gate, recorded())
    same = stack.settings["shop"].model_copy(update={"max_replicas": 30})
    stack.service.configure({"shop": same, "new": stack.settings["shop"]})
    before = stack.service._services["shop"].history.column("load", (), stack.clock.now())
    await stack.step()
    assert stack.service.capacities["new"].ahead is None
    assert stack.service.capacities["shop"].ahead is not None
    gate.set()
    await asyncio.gather(*stack.service._history_tasks)
    await stack.step()
    assert stack.service.capacities["new"].ahead == stack.service.capacities["shop"].ahead
    assert asked == [1]
    after = stack.service._services["shop"].history.column("load", (), stack.clock.now())
    assert np.nanmax(after) == pytest.approx(np.nanmax(before))
    await stack.service.close()


async def test_a_past_that_cannot_be_read_is_left_out():
    """What is new answers by the reactive rule, and what happens in the engine is recorded once."""

    async def broken():
        raise OSError("no more files")
        yield

    stack = CapacityStack(FakeScoreLog())
    stack.service.read_history = broken
    stack.service.configure({**stack.settings, "new": stack.settings["shop"]})
    stack.sample(12.0, 12.0, 4.0)
    with capture_logs() as logs:
        await stack.step()
        await asyncio.gather(*stack.service._history_tasks)
    assert [line["event"] for line in logs] == ["capacity_history_incomplete"]
    assert stack.service.capacities["new"].why == "reactive"


async def test_what_a_source_hands_over_meanwhile_is_kept():
    """Sources read their past in another thread, also while what was handed over is being written."""
    stack = CapacityStack(FakeScoreLog(), memory := FakeKeyValueStore())
    late = threading.Thread(target=stack.service.add_history, args=(part_of(recorded(), (COUNT,)),))

    def slow(name, value):
        memory.values[name] = value
        if late.ident is None:
            late.start()
            late.join(0.2)

    memory.set = slow
    stack.service.add_history(part_of(recorded(), PODS))
    stack.sample(12.0, 12.0, 4.0)
    await stack.step()
    late.join()
    stack.service._services["shop"].history.column("load", (), stack.clock.now())
    assert set(memory.values["scaling/shop"]) == {"load", "replicas"}


async def test_what_was_not_looked_at_yet_is_there_and_unknown():
    """From the start on a capacity is shown; until it was evaluated it wants no number, and says why."""
    stack = CapacityStack()
    begun = stack.service.capacities["shop"]
    assert (begun.wanted, begun.why) == (None, "unknown")
    assert "not evaluated yet" in begun.problem
    stack.sample(12.0, 12.0, 4.0)
    shown = (await stack.step()).wanted
    stack.service.configure(stack.settings)
    assert shown is not None
    assert stack.service.capacities["shop"].wanted == shown


async def test_a_reload_lets_go_of_what_is_gone():
    """A capacity that is no longer configured is shown no more."""
    stack = CapacityStack()
    stack.sample(12.0, 12.0, 4.0)
    await stack.step()
    stack.service.configure({})
    assert stack.service.capacities == {}
    assert stack.results[-1] == ("shop", None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"load": "sum(requests)"}, "is not a valid selector"),
        ({"min_replicas": 50}, "max_replicas"),
        ({"tool": "pm2"}, "tool and knob belong together"),
        ({"capacity_per_replica": "auto"}, "set utilisation"),
        ({"startup": "soon"}, "not a duration"),
    ],
)
def test_settings_that_cannot_be_meant(changes, words):
    """Each says what was wrong and what to write."""
    with pytest.raises(ValidationError, match=words.replace("(", r"\(")):
        Settings.model_validate({"capacity": {"shop": {**PLAIN, **changes}}})


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("requests", True),
        ('requests{job="shop"}', True),
        ('requests{job!="shop"}', False),
        ('{job=~"sh.*",pod!~"b|c"}', True),
        ('requests{job=~"ho"}', False),  # expressions match the whole value
        ('requests{zone=""}', True),  # a label that is missing is empty
        ('other{job="shop"}', False),
    ],
)
def test_selectors(text, matches):
    """A selector means what it means to Prometheus."""
    assert Selector.parse(text).matches("requests", {"job": "shop", "pod": "a"}) is matches
