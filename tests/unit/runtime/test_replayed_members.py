"""Detector members whose state cannot be stored (river's) are restored by replaying logged ticks."""

import asyncio
from concurrent.futures import Future

import numpy as np
import pytest

from tests.fakes.ports import START, FakeClock, FakeScoreLog, FakeSource, FakeStore
from tests.unit.runtime.test_source_loop import FakeTickMetrics
from trimtab.engine.detection import source_detector
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.source_loop import SourceLoop
from trimtab.engine.settings import General
from trimtab.engine.store.time_series.snapshots import FolderSnapshots
from trimtab.engine.types import Reading, SeriesKey

NS = 1_000_000_000
MEMBER = "river:OneClassSVM"
KEYS = tuple(SeriesKey.of("fake", "m", {"i": str(i)}) for i in range(4))


class ImmediateExecutor:
    """Executor that runs a function at once."""

    def submit(self, function, *args, **kwargs):
        done: Future[object] = Future()
        done.set_result(function(*args, **kwargs))
        return done


def make_readings(n):
    """Return noise in which series come and go, so that slots are reused."""
    rng = np.random.default_rng(3)
    rows = []
    for k in range(n):
        keys = KEYS[:3] if k < 40 else KEYS[1:] if k > 90 else KEYS
        at = START + (1 + k) * 5 * NS
        rows.append(Reading(at, keys, np.full(len(keys), at), rng.normal(10, 1, len(keys))))
    return rows


def make_context(folder):
    """Return a loop context with snapshots in a folder."""
    general = General(detectors=("default", MEMBER))
    snapshots = FolderSnapshots(folder).open()
    return LoopContext(
        FakeClock(),
        FakeStore(),
        FakeScoreLog(),
        snapshots,
        LiveState(),
        FakeTickMetrics(),
        ImmediateExecutor(),
        general,
    )


async def run_and_kill(context, rows, ticks):
    """Run a loop for `ticks` ticks and end it as kill -9 does: nothing more is saved."""
    loop = SourceLoop(FakeSource(script=rows), context)
    task = asyncio.create_task(loop.run())
    await context.clock.advance(ticks * 5 + 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return loop


async def test_a_restart_restores_river_members_by_replay(tmp_path):
    """Scores after a restart equal those of an uninterrupted run, though no snapshot holds river's state."""
    rows = make_readings(200)
    uninterrupted, killed = make_context(tmp_path / "whole"), make_context(tmp_path / "broken")
    await run_and_kill(uninterrupted, rows, 200)
    loop = await run_and_kill(killed, rows, 150)
    assert killed.snapshots.load("fake") is not None
    assert MEMBER in loop.detector.scoring.detector_names
    killed.score_log = FakeScoreLog()
    killed.snapshots.close()
    killed.snapshots = FolderSnapshots(tmp_path / "broken").open()
    restarted = await run_and_kill(killed, rows[loop.tick_count :], 50)
    assert restarted.tick_count == 200 - loop.tick_count
    restarted_bank, killed_bank = (
        loop_run.detector.scoring.scorer.extras[MEMBER] for loop_run in (restarted, loop)
    )
    assert restarted_bank._sample_counts.keys() == killed_bank._sample_counts.keys()
    for key in KEYS[1:]:
        actual, expected = killed.score_log.rows[key.id], uninterrupted.score_log.rows[key.id]
        np.testing.assert_allclose(actual, expected[-len(actual) :], rtol=0, atol=1e-9)
        assert np.isfinite(np.array(actual)[:, 2]).any()


async def test_the_tick_log_is_kept_as_long_as_needed(tmp_path, monkeypatch):
    """With a river member enough older ticks stay to restore it; without one only the usual number stays."""
    monkeypatch.setattr(source_detector, "REPLAY_TICKS", 200)
    with_member, without = make_context(tmp_path / "with"), make_context(tmp_path / "without")
    without.general = General()
    kept_ticks = []
    for context in (with_member, without):
        await run_and_kill(context, make_readings(400), 400)
        kept_ticks.append(len(list(context.snapshots.ticks_until("fake"))))
    assert 200 <= kept_ticks[0] <= 320
    assert kept_ticks[1] <= 125


@pytest.mark.parametrize("detectors", [("default", "river:Nobody")])
async def test_an_unknown_river_member_starts_no_detector(tmp_path, detectors):
    """A source with an unknown river member gets no detector."""
    context = make_context(tmp_path)
    context.general = General(detectors=detectors)
    loop = await run_and_kill(context, make_readings(3), 3)
    assert loop.detector is None
