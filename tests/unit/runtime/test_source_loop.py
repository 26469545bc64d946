"""A source's loop: stages in order, outages, failing stores, restarts."""

import asyncio
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from tests.builders.detected_series import PlainScorer
from tests.fakes.ports import (
    START,
    FakeClock,
    FakeScoreLog,
    FakeSink,
    FakeSnapshots,
    FakeSource,
    FakeStore,
    settle,
)
from trimtab.engine.detection import source_scoring
from trimtab.engine.errors import SourceError
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.source_loop import SourceLoop
from trimtab.engine.settings import General
from trimtab.engine.types import History, Reading, SeriesInfo, SeriesKey, SourceState

SECOND = 1_000_000_000
KEYS = tuple(SeriesKey.of("fake", "m", {"i": str(i)}) for i in range(3))


class ImmediateExecutor:
    """An executor that works at once, in the test's own thread."""

    def submit(self, function, *args, **kwargs):
        done: Future[object] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class FakeTickMetrics:
    """Takes every figure and keeps the states."""

    def __init__(self):
        self.states = []

    def observe_tick(self, source, seconds, lag_s, n):
        pass

    def set_series_counts(self, source, total, learning, unusual):
        pass

    def set_source_state(self, _name, state):
        self.states.append(state)

    def set_wanted_replicas(self, name, wanted):
        pass

    def remove_source(self, source):
        pass


@pytest.fixture(autouse=True)
def use_plain_scorer(monkeypatch):
    """Scores that a test can foretell."""
    monkeypatch.setattr(source_scoring, "Scorer", PlainScorer)


@pytest.fixture
def around():
    """Fakes of everything."""
    return LoopContext(
        FakeClock(),
        FakeStore(),
        FakeScoreLog(),
        FakeSnapshots(),
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
        sinks=[FakeSink()],
    )


def make_readings(n, values=None, start=1, keys=KEYS):
    """Readings of n ticks, the first `start` intervals after the clock's start."""
    rng = np.random.default_rng(abs(start))
    rows = []
    for k in range(n):
        at = START + (start + k) * 5 * SECOND
        row = rng.normal(10, 1, len(keys)) if values is None else np.array(values, np.float64)
        rows.append(Reading(at, keys, np.full(len(keys), at), row))
    return rows


async def run_loop(source, around, seconds, loop=None):
    """Run a loop for so long on the fake clock, then stop it as the engine does."""
    loop = loop or SourceLoop(source, around)
    task = asyncio.create_task(loop.run())
    await settle()
    await around.clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await loop.stop()
    return loop


async def test_a_tick_goes_through_every_stage(around):
    """A tick is logged, scored, kept, shown and sent, and its series are remembered with their units."""
    source = FakeSource(script=make_readings(60, start=0), infos=[SeriesInfo(KEYS[0], unit="s")])
    loop = await run_loop(source, around, 60 * 5 - 1)
    assert loop.tick_count == 60
    assert len(around.snapshots.ticks["fake"]) == 60
    assert len(around.score_log.rows[KEYS[0].id]) == 60
    assert around.store.infos[KEYS[0].id].unit == "s"
    assert around.live.readiness() == (True, "")
    assert around.live.series_by_id(KEYS[0].id).anomaly_score is not None
    assert len(around.sinks[0].sent) == 60
    status = around.live.source_status("fake")
    assert (status.state, status.series) == (SourceState.UP, 3)
    assert around.snapshots.newest["fake"][0] == START + 59 * 5 * SECOND
    assert source.closed == 1


async def test_the_first_read_does_not_wait(around):
    """A source is read at once, not at the next multiple of its interval."""
    source = FakeSource(script=make_readings(1, start=0))
    around.clock.tick(2)
    await run_loop(source, around, 0)
    assert source.reads == 1


async def test_an_anomaly_is_stored_and_told(around):
    """An anomaly reaches the store and the event stream when it opens and when it closes."""
    rows = (
        make_readings(60)
        + make_readings(2, values=[60.0, 10.0, 10.0], start=61)
        + make_readings(10, start=63)
    )
    reader = around.live.subscribe()
    await run_loop(FakeSource(script=rows), around, 80 * 5)
    around.live.end_subscriptions()
    events = [data async for name, data in reader if name == "anomaly"]
    (stored,) = around.store.by_id.values()
    assert stored.series_id == KEYS[0].id
    assert stored.reason == "recovered"
    assert events[0]["end"] is None
    assert events[-1]["end"] == stored.end


async def test_an_outage_is_unknown_and_nothing_else(around):
    """While a source raises, its state is unknown with the reason, scores are null, and no anomaly moves."""
    away = [SourceError("http://bob:hunter2@p:9090 refused") for _ in range(20)]
    rows = [*make_readings(60), *away, *make_readings(5, start=81)]
    source = FakeSource(script=rows)
    loop = SourceLoop(source, around)
    task = asyncio.create_task(loop.run())
    await around.clock.advance(70 * 5)
    status = around.live.source_status("fake")
    assert status.state is SourceState.UNKNOWN
    assert status.detail == "http://(hidden)@p:9090 refused"
    assert around.live.series_by_id(KEYS[0].id).anomaly_score is None
    await around.clock.advance(15 * 5)
    assert around.live.source_status("fake").state is SourceState.UP
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert around.store.by_id == {}
    assert around.metrics.states[-1] is SourceState.UP


async def test_a_partial_answer_is_shown_as_unknown(around):
    """An answer that is not whole shows its values, and the source as unknown."""
    rows = [replace(reading, complete=False) for reading in make_readings(3)]
    await run_loop(FakeSource(script=rows), around, 12)
    assert around.live.source_status("fake").state is SourceState.UNKNOWN
    assert around.live.series_by_id(KEYS[0].id).value is not None


async def test_a_fault_of_ours_is_unknown_too(around):
    """An error that nobody foresaw makes that tick unknown; the next one is read again."""
    source = FakeSource(script=make_readings(10))
    read, fail = source.read, iter([True, False])

    async def broken():
        if next(fail, False):
            raise KeyError("surprise")
        return await read()

    source.read = broken
    loop = await run_loop(source, around, 30)
    assert loop.tick_count >= 3
    assert around.live.source_status("fake").state is SourceState.UP


async def test_opening_is_tried_again_less_and_less_often(around):
    """A source that does not open is tried after 1, 2, 4 ... seconds, and says why it is unknown."""
    source = FakeSource(script=make_readings(100, start=1))
    source.open_errors.extend(SourceError("connection refused") for _ in range(3))
    loop = SourceLoop(source, around)
    task = asyncio.create_task(loop.run())
    await settle()
    assert around.live.readiness() == (False, "fake: connection refused")
    await around.clock.advance(6.5)
    assert source.opened == 3
    await around.clock.advance(1)
    assert source.opened == 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_history_warms_before_the_first_tick(around):
    """History is learnt first, kept in a snapshot, and the first tick is scored."""
    times = START - np.arange(200, 0, -1, dtype=np.int64) * 5 * SECOND
    values = np.random.default_rng(1).normal(10, 1, (200, 3))
    source = FakeSource(script=make_readings(3), histories=[History(5.0, KEYS, times, values)])
    await run_loop(source, around, 6)
    assert around.live.series_by_id(KEYS[0].id).learning_s == 0
    again = FakeSource(script=make_readings(3, start=3), histories=[History(5.0, KEYS, times, values)])
    again.history = None
    await run_loop(again, around, 6)


async def test_a_failing_store_loses_nothing_and_is_said(around):
    """With a store that fails sensing goes on; anomalies are saved when it works again."""
    rows = (
        make_readings(60)
        + make_readings(2, values=[60.0, 10.0, 10.0], start=61)
        + make_readings(10, start=63)
    )
    loop = SourceLoop(FakeSource(script=rows), around)
    task = asyncio.create_task(loop.run())
    await around.clock.advance(59 * 5)
    around.store.broken = "the disk is full"
    await around.clock.advance(4 * 5)
    assert loop.persistence.problem == "the disk is full"
    assert loop.persistence.pending_count > 0
    assert around.store.by_id == {}
    assert loop.tick_count >= 62
    around.store.broken = None
    await around.clock.advance(10 * 5)
    assert loop.persistence.problem is None
    assert loop.persistence.pending_count == 0
    assert [a.reason for a in around.store.by_id.values()] == ["recovered"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_restart_goes_on_where_it_was(around):
    """P4: after a crash the logged ticks are replayed: same scores, same anomalies, none twice."""
    rows = make_readings(60) + make_readings(40, values=[60.0, 10.0, 10.0], start=61)
    whole = LoopContext(
        FakeClock(),
        FakeStore(),
        FakeScoreLog(),
        FakeSnapshots(),
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
    )
    await run_loop(FakeSource(script=rows), whole, 101 * 5)
    task = asyncio.create_task(SourceLoop(FakeSource(script=rows[:80]), around).run())
    await around.clock.advance(80 * 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    around.score_log = FakeScoreLog()
    around.live = LiveState()
    loop = await run_loop(FakeSource(script=rows[80:]), around, 21 * 5)
    assert loop.tick_count == 20
    assert around.store.by_id == whole.store.by_id
    for key in KEYS:
        mine, wanted = around.score_log.rows[key.id], whole.score_log.rows[key.id]
        np.testing.assert_array_equal(mine, wanted[-len(mine) :])
        assert len(mine) >= 20


async def test_stored_anomalies_that_nobody_watches_are_closed(around):
    """An anomaly that is open in the store, but in no state, ends as lost."""
    rows = make_readings(60) + make_readings(3, values=[60.0, 10.0, 10.0], start=61)
    await run_loop(FakeSource(script=rows), around, 63 * 5)
    (stored,) = around.store.by_id.values()
    assert stored.end is None
    around.snapshots = FakeSnapshots()
    await run_loop(FakeSource(script=make_readings(2, start=64)), around, 10)
    assert around.store.by_id[stored.id].reason == "state lost"


async def test_a_budget_changes_while_running(around):
    """A larger budget takes effect at the next tick, without learning anew."""
    loop = SourceLoop(FakeSource(script=make_readings(100, values=[14.0, 10.0, 10.0])), around)
    task = asyncio.create_task(loop.run())
    await around.clock.advance(60 * 5)
    before = around.live.series_by_id(KEYS[0].id).anomaly_score
    loop.set_budget(8.0)
    await around.clock.advance(5)
    assert around.live.series_by_id(KEYS[0].id).anomaly_score == pytest.approx(2 * before)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("later", [8.0, 0.5])
async def test_a_restart_judges_by_the_budget_of_that_time(around, later):
    """Ticks that are replayed are judged by the budget that held for them, whatever it was set to since."""
    rows = make_readings(60) + make_readings(60, values=[16.0, 10.0, 10.0], start=60)
    whole = LoopContext(
        FakeClock(),
        FakeStore(),
        FakeScoreLog(),
        FakeSnapshots(),
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
    )
    for world in (whole, around):
        loop = SourceLoop(FakeSource(script=rows), world)
        task = asyncio.create_task(loop.run())
        await world.clock.advance(70 * 5)
        loop.set_budget(4.0)
        await world.clock.advance(15 * 5)
        if world is whole:
            loop.set_budget(later)
            await world.clock.advance(35 * 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    around.score_log = FakeScoreLog()
    around.general = General(false_alarms_per_week=later)
    await run_loop(FakeSource(script=rows[loop.tick_count :]), around, 35 * 5)
    assert around.store.by_id == whole.store.by_id
    for key in KEYS:
        mine, wanted = around.score_log.rows[key.id], whole.score_log.rows[key.id]
        np.testing.assert_array_equal(mine, wanted[-len(mine) :])
        assert len(mine) > 35


async def test_a_removed_source_takes_its_anomalies_along(around):
    """Open anomalies of a source that is watched no more end, and its series are gone."""
    rows = make_readings(60) + make_readings(3, values=[60.0, 10.0, 10.0], start=61)
    loop = await run_loop(FakeSource(script=rows), around, 63 * 5)
    await loop.remove()
    (stored,) = around.store.by_id.values()
    assert stored.reason == "source removed"
    assert around.live.sources() == []
    assert around.live.series_page()[1] == 0


async def test_a_clock_that_goes_back_is_no_standstill(around):
    """When the clock is set back by an hour the source is read on, at the times of the new clock."""
    source = FakeSource(script=[*make_readings(10), *make_readings(10, start=-700)])
    task = asyncio.create_task(SourceLoop(source, around).run())
    await around.clock.advance(49)
    around.clock.time = START - 700 * 5 * SECOND
    around.clock._sleepers = [(0, *rest) for _, *rest in around.clock._sleepers]
    await around.clock.advance(40)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.reads >= 16
    assert around.live.series_by_id(KEYS[0].id).time < START


async def test_a_recording_ends(around):
    """A replayed source is read without waiting until it gives None; then the loop is over."""
    source = FakeSource(script=[*make_readings(80), None])
    source.start_after = None
    await asyncio.wait_for(SourceLoop(source, around).run(), 20)
    assert len(around.snapshots.ticks["fake"]) == 80
    again = FakeSource(script=[None])
    again.start_after = None
    await asyncio.wait_for(SourceLoop(again, around).run(), 20)
    assert again.start_after == START + 80 * 5 * SECOND


class FakeIncidentService:
    """Hears what a loop tells of its start and end."""

    def __init__(self):
        self.calls = []

    def watch(self, *_):
        return None

    def went_on(self, source, keys, info, open_ids, time):
        self.calls.append((source, keys, [info(key).key for key in keys], tuple(open_ids), time))

    def step(self, *_):
        return [], []

    def forget(self, source):
        self.calls.append(source)


async def test_incidents_hear_what_is_watched_before_the_first_tick(around):
    """At every start: all series with what is open, and nothing where the source begins anew."""
    around.incident_service = FakeIncidentService()
    await run_loop(FakeSource(script=make_readings(60, start=0)), around, 60 * 5 - 1)
    await run_loop(FakeSource(script=make_readings(5, start=60)), around, 5)
    first, again = around.incident_service.calls
    assert first == ("fake", (), [], (), START)
    assert (again[0], again[1], again[2], again[3]) == ("fake", KEYS, list(KEYS), ())
    assert again[4] == START + 59 * 5 * SECOND
