"""Patterns across a restart of the engine or of the watched process."""

import asyncio
import json

import numpy as np
import pytest

from tests.builders.detected_series import PlainScorer
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import START, FakeClock, FakeScoreLog, FakeSnapshots, FakeSource, FakeStore, settle
from tests.unit.runtime.test_source_loop import FakeTickMetrics, ImmediateExecutor, run_loop
from trimtab.engine.detection import source_scoring
from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.source_loop import SourceLoop
from trimtab.engine.types import ChangeKind, IncidentState, Reading, SeriesInfo, SeriesKey

SECOND = 1_000_000_000
TICK_S = 5
WORKER = {"job": "worker", "instance": "worker-1:9000"}
UNITS = {
    "process_resident_memory_bytes": "B",
    "process_memory_limit_bytes": "B",
    "process_start_time_seconds": "s",
}
KEYS = tuple(SeriesKey.of("fake", name, WORKER) for name in UNITS)
INFOS = [SeriesInfo(key, UNITS[key.metric]) for key in KEYS]
LEAK_START, TICKS = 130, 260
"""First tick of the leak, and number of ticks."""


def readings(begin=0, end=TICKS, restart=None):
    """Return readings of a leaking worker; its memory is reset at `restart`."""
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.01, TICKS)
    found = []
    for tick in range(begin, end):
        at = START + (tick + 1) * TICK_S * SECOND
        has_restarted = restart is not None and tick >= restart
        memory = 10 + noise[tick] + (0.0 if has_restarted else 0.03 * max(tick - LEAK_START, 0))
        row = np.array([memory, 20.0, START / 1e9 + (restart * TICK_S if has_restarted else 0)])
        found.append(Reading(at, KEYS, np.full(len(KEYS), at), row))
    return found


def make_context():
    """Return a loop context of fakes."""
    return LoopContext(
        FakeClock(),
        FakeStore(),
        FakeScoreLog(),
        FakeSnapshots(),
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
    )


async def run_and_kill(source, context, seconds):
    """Run a source loop for this many seconds, then cancel it."""
    task = asyncio.create_task(SourceLoop(source, context).run())
    await settle()
    await context.clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class CalmScorer(PlainScorer):
    """A scorer for which no value is anomalous."""

    def step(self, x, t, where=None):
        self.arrays.values["level"][:] = np.where(np.isnan(x), 10.0, x - 2.0)
        return super().step(x, t, where)


@pytest.fixture(autouse=True)
def calm_scores(monkeypatch):
    """Replace the scorer by one that finds no anomaly."""
    monkeypatch.setattr(source_scoring, "Scorer", CalmScorer)


@pytest.fixture(scope="module")
def uninterrupted():
    """Return the visible state of an engine that was never stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_scoring, "Scorer", CalmScorer)
        return visible_state(*asyncio.run(run_worker()))


def start_incident_service(context, incident_store, memory):
    """Start an incident service with a window of ten minutes."""
    context.incident_service = IncidentService(context.store, incident_store, memory, window_s=600.0)
    context.incident_service.resume()
    return context.incident_service


async def run_worker(*ends, kind=run_and_kill, restart=None):
    """Run the worker with engine restarts after these ticks; return context and incident store."""
    context, incident_store, memory = make_context(), FakeIncidents(), FakeKeyValueStore()
    begin = 0
    for end in (*ends, TICKS):
        start_incident_service(context, incident_store, memory)
        context.live = LiveState()
        source = FakeSource(script=readings(begin, end, restart), infos=INFOS)
        run = kind if end != TICKS else run_and_kill
        await run(source, context, (end - begin) * TICK_S + (1 if begin == 0 else 0))
        if kind is run_loop:
            context.incident_service.save_state()
            memory.values = json.loads(json.dumps(memory.values, allow_nan=False))
        begin = end
    return context, incident_store


def watcher_of(context):
    """Return the pattern watcher of the worker's source."""
    (watcher,) = context.incident_service._watchers.values()
    return watcher


def visible_state(context, incident_store):
    """Return matches, incidents and anomalies."""
    return watcher_of(context).recognizer.current_matches(), incident_store.by_id, context.store.by_id


@pytest.mark.parametrize(
    ("ends", "kind"), [((180,), run_loop), ((180,), run_and_kill), ((100, 190, 231), run_and_kill)],
    ids=["stopped", "killed", "killed three times"],
)  # fmt: skip
async def test_engine_restart_keeps_the_pattern(uninterrupted, ends, kind):
    """A restarted engine has the same incident, pattern and anomaly as one that kept running."""
    matches, incidents, anomalies = uninterrupted
    assert [match.name for match in matches] == ["memory_leak"]
    (incident,) = incidents.values()
    assert incident.end is None
    matches_after, incidents_after, anomalies_after = visible_state(*await run_worker(*ends, kind=kind))
    assert matches_after == matches
    assert anomalies_after == anomalies
    assert set(incidents_after) == {incident.id}
    assert incidents_after[incident.id].patterns[0].since == incident.patterns[0].since


async def test_unreadable_pattern_state_resets_the_window():
    """An unreadable pattern state only resets the window."""
    context, incident_store, memory = make_context(), FakeIncidents(), FakeKeyValueStore()
    start_incident_service(context, incident_store, memory)
    await run_loop(FakeSource(script=readings(0, 200), infos=INFOS), context, 200 * TICK_S + 1)
    context.snapshots.newest["fake"][2]["patterns"]["held"] = [["worker"]]
    start_incident_service(context, incident_store, memory)
    await run_and_kill(FakeSource(script=readings(200), infos=INFOS), context, (TICKS - 200) * TICK_S)
    assert (
        context.incident_service.watcher(
            "fake", TICK_S, next(iter(context.incident_service._watchers.values())).info
        ).recognizer.ring.filled
        == 60
    )


async def test_process_restart_is_a_change_event():
    """A process restart is one change event of the incident, and the pattern ends."""
    _, incident_store = await run_worker(restart=235)
    (incident,) = incident_store.by_id.values()
    (change,) = incident_store.changes()
    assert (change.kind, change.title, change.by) == (
        ChangeKind.RESTART, "worker/worker-1:9000 restarted", "seen",
    )  # fmt: skip
    assert change.time == START + 235 * TICK_S * SECOND
    assert incident.change_ids == (change.id,)
    assert incident.patterns[0].until is not None
    assert incident.state is IncidentState.OPEN


async def test_restart_while_the_engine_was_stopped_is_detected():
    """A process restart while the engine was stopped is detected after the engine starts."""
    _, incident_store = await run_worker(235, restart=235)
    (change,) = incident_store.changes()
    assert change.time == START + 235 * TICK_S * SECOND
