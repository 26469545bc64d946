"""CapacityService: wanted size of each configured service from live series and their history."""

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
    """Recorded scores of two days: a daily load on four replicas."""

    def __init__(self, days=2.0):
        super().__init__()
        self.days = days

    def read(self, series_id, since, until, limit=100_000):  # noqa: ARG002 - the port gives it
        n = round(self.days * 86_400 / INTERVAL_S)
        times = START - (np.arange(n, 0, -1) * round(INTERVAL_S * SECOND))
        load = 20.0 - 8.0 * np.cos(2 * np.pi * np.arange(n) / 5760) + 0.1 * np.sin(np.arange(n))
        values = {COUNT.id: np.full(n, 4.0), BUSY.id: 2.0 * load / 4.0 / 15.0}.get(series_id, load)
        in_range = (times >= since) & (times < until)
        unknown = np.full(int(in_range.sum()), np.nan)
        return ScoreRows(times[in_range], values[in_range], unknown, unknown, unknown, unknown)


class CapacityStack:
    """A capacity service over live series that a test sets, with its published results."""

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
        """Publish one tick: the load of each pod, the replica count, the utilisation."""
        scores = tick_scores("prometheus", self.clock.now(), [*values, *[np.nan] * (len(KEYS) - len(values))])
        n = len(KEYS)
        tick_result = TickResult(
            KEYS, scores, (), np.empty(0, np.int64), np.zeros(n, np.int64), np.ones(n, np.bool_), {},
            complete=True,
        )  # fmt: skip
        self.live.publish_tick(tick_result, INTERVAL_S, (), SeriesInfo)

    async def step(self):
        """Advance one interval and evaluate; return the capacity of `shop`."""
        self.clock.time += round(INTERVAL_S * SECOND)
        await self.service.step()
        return self.service.capacities["shop"]


async def test_wanted_capacity():
    """Pods are summed; the capacity holds count, reason, path and both costs, and is published."""
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


async def test_without_history_the_reactive_policy_applies():
    """Without history the reactive policy applies, with a confidence of 0.5."""
    stack = CapacityStack(FakeScoreLog())
    stack.sample(30.0, 30.0, 4.0)
    found = await stack.step()
    assert (found.wanted, found.why, found.ahead, found.path) == (8, "reactive", None, None)
    assert found.confidence == 0.5


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ((np.nan, 12.0, 4.0), "sample of load"),
        ((12.0, 12.0, np.nan), "sample of replicas"),
        ((0.0, 0.0, 4.0), "exactly 0"),
    ],
)
async def test_unknown_inputs_give_no_wanted_size(values, problem):
    """A missing load, a missing count or a sudden zero gives wanted None with a problem, also published."""
    stack = CapacityStack()
    stack.sample(12.0, 12.0, 4.0)
    await stack.step()
    stack.sample(*values)
    found = await stack.step()
    assert found.wanted is None
    assert problem in found.problem
    assert stack.results[-1] == ("shop", None)


async def test_stale_data_give_no_wanted_size():
    """After more than three intervals without a tick the wanted size is None."""
    stack = CapacityStack()
    stack.sample(12.0, 12.0, 4.0)
    assert (await stack.step()).wanted is not None
    stack.clock.time += round(4 * INTERVAL_S * SECOND)
    assert (await stack.step()).wanted is None


async def test_a_selector_without_series_is_a_problem():
    """The problem of a selector without series names the setting and the selector."""
    stack = CapacityStack(load="nothing_of_that_name")
    stack.sample(12.0, 12.0, 4.0)
    assert (
        "capacity.shop.load: nothing_of_that_name selects no watched series" in (await stack.step()).problem
    )


async def test_capacity_per_replica_is_learnt():
    """Capacity per replica is learnt from load, count and utilisation; an unseen start-up is assumed."""
    stack = CapacityStack(capacity_per_replica="auto", utilisation="busy", startup="auto")
    stack.sample(12.0, 12.0, 4.0)
    found = await stack.step()
    assert found.capacity_per_replica.source == "learnt"
    assert found.capacity_per_replica.value == pytest.approx(15.0, rel=0.01)
    assert (found.startup_s.value, found.startup_s.source) == (DEFAULT_STARTUP_S, "assumed")


async def test_capacity_per_replica_needs_utilisation_history():
    """Without a history of utilisation the wanted size is None and the problem names the setting."""
    stack = CapacityStack(FakeScoreLog(), capacity_per_replica="auto", utilisation="busy")
    stack.sample(12.0, 12.0, 4.0)
    found = await stack.step()
    assert found.wanted is None
    assert "capacity.shop.capacity_per_replica" in found.problem


class ShorterScores(RecordedScores):
    """Recorded scores whose utilisation covers the last day and a half only."""

    def read(self, series_id, since, until, limit=100_000):
        since_utilisation = START - round(1.5 * 86_400 * SECOND)
        return super().read(
            series_id, max(since, since_utilisation) if series_id == BUSY.id else since, until, limit
        )


async def test_capacity_is_learnt_from_overlapping_histories():
    """Capacity per replica is learnt from the time that load and utilisation both cover."""
    stack = CapacityStack(ShorterScores(), capacity_per_replica="auto", utilisation="busy", startup="auto")
    stack.sample(12.0, 12.0, 4.0, 0.4)
    found = await stack.step()
    assert found.capacity_per_replica is not None
    assert found.capacity_per_replica.value == pytest.approx(15.0, rel=0.05)
    assert found.capacity_per_replica.source == "learnt"


def recorded_history(days=4):
    """Return a recorded history of two pods and their count at 5 min."""
    times = START - np.arange(days * 288, 0, -1) * 300 * SECOND
    load = 20.0 - 8.0 * np.cos(2 * np.pi * np.arange(len(times)) / 288)
    values = np.stack([load, load, np.full(len(times), 4.0)], axis=1)
    return History(300.0, (*PODS, COUNT), times, values, coarse=True)


async def test_history_is_stored_for_the_next_start():
    """A recorded history gives a forecast at once and again after a restart."""
    memory = FakeKeyValueStore()
    first = CapacityStack(FakeScoreLog(), memory)
    first.service.add_history(recorded_history())
    first.sample(12.0, 12.0, 4.0)
    assert (await first.step()).ahead is not None
    again = CapacityStack(FakeScoreLog(), memory)
    again.sample(12.0, 12.0, 4.0)
    assert (await again.step()).ahead is not None


def select_series(history, keys):
    """Return the history with these series only."""
    columns = [history.keys.index(key) for key in keys]
    return History(300.0, tuple(keys), history.times, history.values[:, columns], coarse=True)


async def test_history_of_a_second_source_keeps_the_first():
    """A history from another source after a restart keeps the stored history of the load."""
    memory = FakeKeyValueStore()
    first = CapacityStack(FakeScoreLog(), memory)
    first.service.add_history(select_series(recorded_history(), PODS))
    first.sample(12.0, 12.0, 4.0)
    await first.step()
    again = CapacityStack(FakeScoreLog(), memory)
    again.service.add_history(select_series(recorded_history(), (COUNT,)))
    again.sample(12.0, 12.0, 4.0)
    assert (await again.step()).ahead is not None
    assert set(memory.values["scaling/shop"]) == {"load", "replicas"}


async def gated_histories(gate, *histories):
    """Yield histories once the gate is open."""
    await gate.wait()
    for history in histories:
        yield history


async def test_a_reload_reads_history_for_new_capacities_only():
    """A reload reads history in the background for new capacities only and ignores a former namesake's."""
    memory = FakeKeyValueStore()
    memory.values["scaling/new"] = {"load": [[START - SECOND, 9e9, 1.0], [START, 9e9, 1.0]]}
    stack = CapacityStack(FakeScoreLog(), memory)
    stack.service.add_history(recorded_history())
    stack.sample(12.0, 12.0, 4.0)
    await stack.step()
    reads, gate = [], asyncio.Event()
    stack.service.read_history = lambda: reads.append(1) or gated_histories(gate, recorded_history())
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
    assert reads == [1]
    after = stack.service._services["shop"].history.column("load", (), stack.clock.now())
    assert np.nanmax(after) == pytest.approx(np.nanmax(before))
    await stack.service.close()


async def test_an_unreadable_history_is_logged():
    """When the history cannot be read, the reactive policy applies and one log event is written."""

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


async def test_history_added_during_a_write_is_kept():
    """History that another thread adds while the store is written is kept."""
    stack = CapacityStack(FakeScoreLog(), memory := FakeKeyValueStore())
    late = threading.Thread(
        target=stack.service.add_history, args=(select_series(recorded_history(), (COUNT,)),)
    )

    def slow(name, value):
        memory.values[name] = value
        if late.ident is None:
            late.start()
            late.join(0.2)

    memory.set = slow
    stack.service.add_history(select_series(recorded_history(), PODS))
    stack.sample(12.0, 12.0, 4.0)
    await stack.step()
    late.join()
    stack.service._services["shop"].history.column("load", (), stack.clock.now())
    assert set(memory.values["scaling/shop"]) == {"load", "replicas"}


async def test_an_unevaluated_capacity_is_unknown():
    """Before its first evaluation a capacity is listed with wanted None; a reload keeps the last result."""
    stack = CapacityStack()
    since_utilisation = stack.service.capacities["shop"]
    assert (since_utilisation.wanted, since_utilisation.why) == (None, "unknown")
    assert "not evaluated yet" in since_utilisation.problem
    stack.sample(12.0, 12.0, 4.0)
    shown = (await stack.step()).wanted
    stack.service.configure(stack.settings)
    assert shown is not None
    assert stack.service.capacities["shop"].wanted == shown


async def test_a_reload_removes_a_capacity():
    """A capacity that is no longer configured is removed and its metric published as None."""
    stack = CapacityStack()
    stack.sample(12.0, 12.0, 4.0)
    await stack.step()
    stack.service.configure({})
    assert stack.service.capacities == {}
    assert stack.results[-1] == ("shop", None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"load": "sum(requests)"}, "is not a valid selector"),
        ({"min_replicas": 50}, "max_replicas"),
        ({"tool": "pm2"}, "tool and knob belong together"),
        ({"capacity_per_replica": "auto"}, "set utilisation"),
        ({"startup": "soon"}, "not a duration"),
    ],
)
def test_invalid_settings_name_the_fault(changes, problem):
    """Invalid settings raise with a message that names the fault."""
    with pytest.raises(ValidationError, match=problem.replace("(", r"\(")):
        Settings.model_validate({"capacity": {"shop": {**PLAIN, **changes}}})


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("requests", True),
        ('requests{job="shop"}', True),
        ('requests{job!="shop"}', False),
        ('{job=~"sh.*",pod!~"b|c"}', True),
        ('requests{job=~"ho"}', False),  # regular expressions match the whole value
        ('requests{zone=""}', True),  # a missing label equals the empty string
        ('other{job="shop"}', False),
    ],
)
def test_selectors_match_like_prometheus(text, matches):
    """A selector matches as in Prometheus."""
    assert Selector.parse(text).matches("requests", {"job": "shop", "pod": "a"}) is matches
