"""Patterns over a restart of the engine."""

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
FLAT, TICKS = 130, 260
"""The worker leaks from this tick on."""


def readings(begin=0, end=TICKS, restart=None):
    """Return readings of a leaking worker; its memory is reset at `restart`."""
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.01, TICKS)
    found = []
    for tick in range(begin, end):
        at = START + (tick + 1) * TICK_S * SECOND
        again = restart is not None and tick >= restart
        memory = 10 + noise[tick] + (0.0 if again else 0.03 * max(tick - FLAT, 0))
        row = np.array([memory, 20.0, START / 1e9 + (restart * TICK_S if again else 0)])
        found.append(Reading(at, KEYS, np.full(len(KEYS), at), row))
    return found


def make_context():
    """Return a context of fakes."""
    return LoopContext(
        FakeClock(),
        FakeStore(),
        FakeScoreLog(),
        FakeSnapshots(),
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
    )


async def run_and_kill(source, around, seconds):
    """Run a source loop for so many seconds, then cancel it."""
    task = asyncio.create_task(SourceLoop(source, around).run())
    await settle()
    await around.clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class CalmScorer(PlainScorer):
    """Finds nothing unusual."""

    def step(self, x, t, where=None):
        self.arrays.values["level"][:] = np.where(np.isnan(x), 10.0, x - 2.0)
        return super().step(x, t, where)


@pytest.fixture(autouse=True)
def calm_scores(monkeypatch):
    """No series is unusual for its scorer."""
    monkeypatch.setattr(source_scoring, "Scorer", CalmScorer)


@pytest.fixture(scope="module")
def whole():
    """The visible state of an engine that was never stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_scoring, "Scorer", CalmScorer)
        return visible_state(*asyncio.run(run_worker()))


def start_incident_service(around, kept, memory):
    """Start an incident service with a window of ten minutes."""
    around.incident_service = IncidentService(around.store, kept, memory, window_s=600.0)
    around.incident_service.resume()
    return around.incident_service


async def run_worker(*ends, kind=run_and_kill, restart=None):
    """Run the worker with engine restarts after these ticks; return context and incident store."""
    around, kept, memory = make_context(), FakeIncidents(), FakeKeyValueStore()
    begin = 0
    for end in (*ends, TICKS):
        start_incident_service(around, kept, memory)
        around.live = LiveState()
        source = FakeSource(script=readings(begin, end, restart), infos=INFOS)
        run = kind if end != TICKS else run_and_kill
        await run(source, around, (end - begin) * TICK_S + (1 if begin == 0 else 0))
        if kind is run_loop:
            around.incident_service.save_state()
            memory.values = json.loads(json.dumps(memory.values, allow_nan=False))
        begin = end
    return around, kept


def watcher_of(around):
    """Return the pattern watcher of the worker's source."""
    (watch,) = around.incident_service._watchers.values()
    return watch


def visible_state(around, kept):
    """Return matches, incidents and anomalies."""
    return watcher_of(around).recognizer.current_matches(), kept.by_id, around.store.by_id


@pytest.mark.parametrize(
    ("ends", "kind"), [((180,), run_loop), ((180,), run_and_kill), ((100, 190, 231), run_and_kill)],
    ids=["stopped", "killed", "killed again and again"],
)  # fmt: skip
async def test_a_restart_changes_nothing(whole, ends, kind):
    """A restart gives the same incident, pattern and anomaly."""
    matches, kept, stored = whole
    assert [match.name for match in matches] == ["memory_leak"]
    (incident,) = kept.values()
    assert incident.end is None
    again, kept_again, stored_again = visible_state(*await run_worker(*ends, kind=kind))
    assert again == matches
    assert stored_again == stored
    assert set(kept_again) == {incident.id}
    assert kept_again[incident.id].patterns[0].since == incident.patterns[0].since


async def test_what_cannot_be_read_is_seen_anew():
    """An unreadable state only resets the window."""
    around, kept, memory = make_context(), FakeIncidents(), FakeKeyValueStore()
    start_incident_service(around, kept, memory)
    await run_loop(FakeSource(script=readings(0, 200), infos=INFOS), around, 200 * TICK_S + 1)
    around.snapshots.newest["fake"][2]["patterns"]["held"] = [["worker"]]
    start_incident_service(around, kept, memory)
    await run_and_kill(FakeSource(script=readings(200), infos=INFOS), around, (TICKS - 200) * TICK_S)
    assert (
        around.incident_service.watcher(
            "fake", TICK_S, next(iter(around.incident_service._watchers.values())).info
        ).recognizer.ring.filled
        == 60
    )


async def test_a_restart_of_the_process_is_a_change_near_its_incident():
    """A process restart is one change event, and the pattern ends."""
    _, kept = await run_worker(restart=235)
    (incident,) = kept.by_id.values()
    (change,) = kept.changes()
    assert (change.kind, change.title, change.by) == (
        ChangeKind.RESTART, "worker/worker-1:9000 restarted", "seen",
    )  # fmt: skip
    assert change.time == START + 235 * TICK_S * SECOND
    assert incident.change_ids == (change.id,)
    assert incident.patterns[0].until is not None
    assert incident.state is IncidentState.OPEN


async def test_a_restart_while_the_engine_was_away_is_seen_after_it():
    """A restart while the engine was stopped is detected afterwards."""
    _, kept = await run_worker(235, restart=235)
    (change,) = kept.changes()
    assert change.time == START + 235 * TICK_S * SECOND
