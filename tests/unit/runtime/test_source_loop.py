"""The tick loop of a source: stages, outages, failing stores, restarts."""

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
    """Executor that runs a function at once, in the calling thread."""

    def submit(self, function, *args, **kwargs):
        done: Future[object] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class FakeTickMetrics:
    """Records source states and ignores everything else."""

    def __init__(self):
        self.states = []

    def observe_tick(self, source, seconds, lag_s, n):
        pass

    def set_series_counts(self, source, total, learning, unusual):
        pass

    def set_source_state(self, _name, state):
        self.states.append(state)

    def set_wanted_replicas(self, name, expected):
        pass

    def remove_source(self, source):
        pass


@pytest.fixture(autouse=True)
def use_plain_scorer(monkeypatch):
    """Replace the scorer by one with predictable scores."""
    monkeypatch.setattr(source_scoring, "Scorer", PlainScorer)


def make_context():
    """Return a loop context of fakes, with one sink."""
    fakes = (FakeClock(), FakeStore(), FakeScoreLog(), FakeSnapshots(), LiveState(), FakeTickMetrics())
    return LoopContext(*fakes, ImmediateExecutor(), sinks=[FakeSink()])


@pytest.fixture
def context():
    """Loop context of fakes."""
    return make_context()


def make_readings(n, values=None, start=1, keys=KEYS):
    """Return readings of n ticks, the first one `start` intervals after the clock's start."""
    rng = np.random.default_rng(abs(start))
    rows = []
    for k in range(n):
        at = START + (start + k) * 5 * SECOND
        row = rng.normal(10, 1, len(keys)) if values is None else np.array(values, np.float64)
        rows.append(Reading(at, keys, np.full(len(keys), at), row))
    return rows


async def run_loop(source, context, seconds, loop=None):
    """Run a loop for so many seconds of the fake clock, then stop it as the engine does."""
    loop = loop or SourceLoop(source, context)
    task = asyncio.create_task(loop.run())
    await settle()
    await context.clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await loop.stop()
    return loop


async def test_a_tick_goes_through_every_stage(context):
    """A tick is logged, scored, saved, published and sent; its series are stored with their units."""
    source = FakeSource(script=make_readings(60, start=0), infos=[SeriesInfo(KEYS[0], unit="s")])
    loop = await run_loop(source, context, 60 * 5 - 1)
    assert loop.tick_count == 60
    assert len(context.snapshots.ticks["fake"]) == 60
    assert len(context.score_log.rows[KEYS[0].id]) == 60
    assert context.store.infos[KEYS[0].id].unit == "s"
    assert context.live.readiness() == (True, "")
    assert context.live.series_by_id(KEYS[0].id).anomaly_score is not None
    assert len(context.sinks[0].sent) == 60
    status = context.live.source_status("fake")
    assert (status.state, status.series) == (SourceState.UP, 3)
    assert context.snapshots.newest["fake"][0] == START + 59 * 5 * SECOND
    assert source.closed == 1


async def test_the_first_read_does_not_wait(context):
    """A source is read at once, not at the next multiple of its interval."""
    source = FakeSource(script=make_readings(1, start=0))
    context.clock.tick(2)
    await run_loop(source, context, 0)
    assert source.reads == 1


async def test_an_anomaly_is_stored_and_published(context):
    """An anomaly is stored and published when it opens and when it closes."""
    rows = (
        make_readings(60)
        + make_readings(2, values=[60.0, 10.0, 10.0], start=61)
        + make_readings(10, start=63)
    )
    reader = context.live.subscribe()
    await run_loop(FakeSource(script=rows), context, 80 * 5)
    context.live.end_subscriptions()
    events = [data async for name, data in reader if name == "anomaly"]
    (stored,) = context.store.by_id.values()
    assert stored.series_id == KEYS[0].id
    assert stored.reason == "recovered"
    assert events[0]["end"] is None
    assert events[-1]["end"] == stored.end


async def test_an_outage_is_unknown_and_opens_no_anomaly(context):
    """While a source raises, its state is unknown, scores are None, and no anomaly opens or closes."""
    errors = [SourceError("http://bob:hunter2@p:9090 refused") for _ in range(20)]
    rows = [*make_readings(60), *errors, *make_readings(5, start=81)]
    source = FakeSource(script=rows)
    loop = SourceLoop(source, context)
    task = asyncio.create_task(loop.run())
    await context.clock.advance(70 * 5)
    status = context.live.source_status("fake")
    assert status.state is SourceState.UNKNOWN
    assert status.detail == "http://(hidden)@p:9090 refused"
    assert context.live.series_by_id(KEYS[0].id).anomaly_score is None
    await context.clock.advance(15 * 5)
    assert context.live.source_status("fake").state is SourceState.UP
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert context.store.by_id == {}
    assert context.metrics.states[-1] is SourceState.UP


async def test_a_partial_answer_is_shown_as_unknown(context):
    """A partial answer shows its values, and the source as unknown."""
    rows = [replace(reading, complete=False) for reading in make_readings(3)]
    await run_loop(FakeSource(script=rows), context, 12)
    assert context.live.source_status("fake").state is SourceState.UNKNOWN
    assert context.live.series_by_id(KEYS[0].id).value is not None


async def test_an_unexpected_error_makes_the_tick_unknown(context):
    """An unexpected error makes one tick unknown; the next tick is read again."""
    source = FakeSource(script=make_readings(10))
    read, fail = source.read, iter([True, False])

    async def broken():
        if next(fail, False):
            raise KeyError("surprise")
        return await read()

    source.read = broken
    loop = await run_loop(source, context, 30)
    assert loop.tick_count >= 3
    assert context.live.source_status("fake").state is SourceState.UP


async def test_opening_is_retried_with_backoff(context):
    """A source that does not open is retried after 1, 2, 4 ... seconds, and readiness gives the reason."""
    source = FakeSource(script=make_readings(100, start=1))
    source.open_errors.extend(SourceError("connection refused") for _ in range(3))
    loop = SourceLoop(source, context)
    task = asyncio.create_task(loop.run())
    await settle()
    assert context.live.readiness() == (False, "fake: connection refused")
    await context.clock.advance(6.5)
    assert source.opened == 3
    await context.clock.advance(1)
    assert source.opened == 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_history_warms_before_the_first_tick(context):
    """History is learned before the first tick and kept in a snapshot."""
    times = START - np.arange(200, 0, -1, dtype=np.int64) * 5 * SECOND
    values = np.random.default_rng(1).normal(10, 1, (200, 3))
    source = FakeSource(script=make_readings(3), histories=[History(5.0, KEYS, times, values)])
    await run_loop(source, context, 6)
    assert context.live.series_by_id(KEYS[0].id).learning_s == 0
    replay = FakeSource(script=make_readings(3, start=3), histories=[History(5.0, KEYS, times, values)])
    replay.history = None
    await run_loop(replay, context, 6)


async def test_a_failing_store_loses_nothing_and_is_reported(context):
    """With a failing store detection goes on; anomalies are saved when the store works again."""
    rows = (
        make_readings(60)
        + make_readings(2, values=[60.0, 10.0, 10.0], start=61)
        + make_readings(10, start=63)
    )
    loop = SourceLoop(FakeSource(script=rows), context)
    task = asyncio.create_task(loop.run())
    await context.clock.advance(59 * 5)
    context.store.broken = "the disk is full"
    await context.clock.advance(4 * 5)
    assert loop.persistence.problem == "the disk is full"
    assert loop.persistence.pending_count > 0
    assert context.store.by_id == {}
    assert loop.tick_count >= 62
    context.store.broken = None
    await context.clock.advance(10 * 5)
    assert loop.persistence.problem is None
    assert loop.persistence.pending_count == 0
    assert [a.reason for a in context.store.by_id.values()] == ["recovered"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_restart_replays_logged_ticks(context):
    """P4: after a crash the logged ticks are replayed with the same scores and anomalies."""
    rows = make_readings(60) + make_readings(40, values=[60.0, 10.0, 10.0], start=61)
    uninterrupted = make_context()
    await run_loop(FakeSource(script=rows), uninterrupted, 101 * 5)
    task = asyncio.create_task(SourceLoop(FakeSource(script=rows[:80]), context).run())
    await context.clock.advance(80 * 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    context.score_log = FakeScoreLog()
    context.live = LiveState()
    loop = await run_loop(FakeSource(script=rows[80:]), context, 21 * 5)
    assert loop.tick_count == 20
    assert context.store.by_id == uninterrupted.store.by_id
    for key in KEYS:
        actual, expected = context.score_log.rows[key.id], uninterrupted.score_log.rows[key.id]
        np.testing.assert_array_equal(actual, expected[-len(actual) :])
        assert len(actual) >= 20


async def test_stored_anomalies_without_state_are_closed(context):
    """An anomaly that is open in the store but in no state is closed as lost."""
    rows = make_readings(60) + make_readings(3, values=[60.0, 10.0, 10.0], start=61)
    await run_loop(FakeSource(script=rows), context, 63 * 5)
    (stored,) = context.store.by_id.values()
    assert stored.end is None
    context.snapshots = FakeSnapshots()
    await run_loop(FakeSource(script=make_readings(2, start=64)), context, 10)
    assert context.store.by_id[stored.id].reason == "state lost"


async def test_the_budget_can_change_while_running(context):
    """A larger budget takes effect at the next tick, without learning again."""
    loop = SourceLoop(FakeSource(script=make_readings(100, values=[14.0, 10.0, 10.0])), context)
    task = asyncio.create_task(loop.run())
    await context.clock.advance(60 * 5)
    before = context.live.series_by_id(KEYS[0].id).anomaly_score
    loop.set_budget(8.0)
    await context.clock.advance(5)
    assert context.live.series_by_id(KEYS[0].id).anomaly_score == pytest.approx(2 * before)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("later", [8.0, 0.5])
async def test_replayed_ticks_use_the_budget_of_their_time(context, later):
    """Replayed ticks use the budget that was in force at their time, not the current one."""
    rows = make_readings(60) + make_readings(60, values=[16.0, 10.0, 10.0], start=60)
    uninterrupted = make_context()
    for loop_context in (uninterrupted, context):
        loop = SourceLoop(FakeSource(script=rows), loop_context)
        task = asyncio.create_task(loop.run())
        await loop_context.clock.advance(70 * 5)
        loop.set_budget(4.0)
        await loop_context.clock.advance(15 * 5)
        if loop_context is uninterrupted:
            loop.set_budget(later)
            await loop_context.clock.advance(35 * 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    context.score_log = FakeScoreLog()
    context.general = General(false_alarms_per_week=later)
    await run_loop(FakeSource(script=rows[loop.tick_count :]), context, 35 * 5)
    assert context.store.by_id == uninterrupted.store.by_id
    for key in KEYS:
        actual, expected = context.score_log.rows[key.id], uninterrupted.score_log.rows[key.id]
        np.testing.assert_array_equal(actual, expected[-len(actual) :])
        assert len(actual) > 35


async def test_removing_a_source_closes_its_anomalies(context):
    """Removing a source closes its open anomalies and drops its series."""
    rows = make_readings(60) + make_readings(3, values=[60.0, 10.0, 10.0], start=61)
    loop = await run_loop(FakeSource(script=rows), context, 63 * 5)
    await loop.remove()
    (stored,) = context.store.by_id.values()
    assert stored.reason == "source removed"
    assert context.live.sources() == []
    assert context.live.series_page()[1] == 0


async def test_the_loop_continues_after_the_clock_is_set_back(context):
    """When the clock is set back by an hour, the source is read at the new times."""
    source = FakeSource(script=[*make_readings(10), *make_readings(10, start=-700)])
    task = asyncio.create_task(SourceLoop(source, context).run())
    await context.clock.advance(49)
    context.clock.time = START - 700 * 5 * SECOND
    context.clock._sleepers = [(0, *rest) for _, *rest in context.clock._sleepers]
    await context.clock.advance(40)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.reads >= 16
    assert context.live.series_by_id(KEYS[0].id).time < START


async def test_the_loop_ends_with_its_recording(context):
    """A replayed source is read without waiting until it returns None; then the loop ends."""
    source = FakeSource(script=[*make_readings(80), None])
    source.start_after = None
    await asyncio.wait_for(SourceLoop(source, context).run(), 20)
    assert len(context.snapshots.ticks["fake"]) == 80
    replay = FakeSource(script=[None])
    replay.start_after = None
    await asyncio.wait_for(SourceLoop(replay, context).run(), 20)
    assert replay.start_after == START + 80 * 5 * SECOND


class FakeIncidentService:
    """Records what a loop reports at its start and end."""

    def __init__(self):
        self.calls = []

    def watcher(self, *_):
        return None

    def resume_source(self, source, keys, info, open_ids, time):
        self.calls.append((source, keys, [info(key).key for key in keys], tuple(open_ids), time))

    def step(self, *_):
        return [], []

    def forget_source(self, source):
        self.calls.append(source)


async def test_the_incident_service_knows_the_series_before_the_first_tick(context):
    """Each start reports all series and open anomalies; a new source reports none."""
    context.incident_service = FakeIncidentService()
    await run_loop(FakeSource(script=make_readings(60, start=0)), context, 60 * 5 - 1)
    await run_loop(FakeSource(script=make_readings(5, start=60)), context, 5)
    first, replay = context.incident_service.calls
    assert first == ("fake", (), [], (), START)
    assert (replay[0], replay[1], replay[2], replay[3]) == ("fake", KEYS, list(KEYS), ())
    assert replay[4] == START + 59 * 5 * SECOND
