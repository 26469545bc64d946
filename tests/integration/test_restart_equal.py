"""kill -9 during a run: results after the restart equal those of an uninterrupted run (P1, P4)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.servers.prometheus import wait_for
from trimtab.engine.clock import SystemClock
from trimtab.engine.store import join_store
from trimtab.engine.store.time_series.score_log import ParquetScoreLog
from trimtab.engine.types import SeriesKey

ROWS, SERIES = 2000, 6
KILL_AFTER_TICKS = (150, 1100)
"""Ticks after which the engine is killed."""
STEP_S = 60
BEGIN_S = 1_767_225_600


def write_recording(path: Path, rows: int = ROWS) -> None:
    """Write noise with spikes, shifts and gaps."""
    rng = np.random.default_rng(5)
    values = rng.normal(100, 3, (ROWS, SERIES))
    values[900:903, 0] += 500
    values[1300:1500, 1] -= 300
    values[1800:1810, 2] = np.nan
    values[rng.random((ROWS, SERIES)) < 0.01] = np.nan
    with path.open("w") as out:
        out.write("time," + ",".join(f"s{i}" for i in range(SERIES)) + "\n")
        for k, row in enumerate(values[:rows]):
            cells = ("" if np.isnan(v) else repr(float(v)) for v in row)
            out.write(f"{BEGIN_S + k * STEP_S}," + ",".join(cells) + "\n")


class ReplayEngine:
    """`trimtab up` over the recording, in its own folder."""

    def __init__(self, folder: Path, csv: Path, speed: float = 0.0, **general: object) -> None:
        folder.mkdir()
        self.data_dir = folder / "data"
        self.config = folder / "trimtab.yaml"
        sources = {"host": {"enabled": False}, "prometheus": {"enabled": False}}
        files = {"paths": [str(csv)], "speed": speed}
        settings = {
            "settings": {"data_dir": str(self.data_dir), "log_format": "json", "log_level": "debug"}
            | general,
            "sources": {**sources, "files": files},
            "api": {"port": 0},
        }
        self.config.write_text(yaml.safe_dump(settings))
        self.log = folder / "log"

    def start(self) -> subprocess.Popen:
        """Start the child process."""
        argv = [str(Path(sys.executable).with_name("trimtab")), "up", "--config", str(self.config)]
        with self.log.open("wb") as log:
            return subprocess.Popen(argv, stdout=log, stderr=log, env=dict(os.environ))

    def tick_count(self) -> int:
        """Return the number of ticks in the log of this process."""
        return self.log.read_text(errors="replace").count('"event":"tick"')

    def run_until(self, until_ticks: int, end_signal: signal.Signals) -> None:
        """Start the engine, and end it by a signal after so many ticks."""
        process = self.start()
        try:
            wait_for(lambda: self.tick_count() >= until_ticks or process.poll() is not None, 90)
            assert process.poll() is None, self.log.read_text()[-3000:]
        finally:
            process.send_signal(end_signal)
            process.wait(20)
        if end_signal is signal.SIGTERM:
            assert process.returncode == 0

    def run_to_end(self, rows: int) -> None:
        """Start the engine, and stop it after the last row."""
        process, last = self.start(), _iso(BEGIN_S + (rows - 1) * STEP_S)
        try:
            wait_for(lambda: last in self.log.read_text(errors="replace"), 90)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        assert process.returncode == 0

    def scores(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Return the score log by series."""
        log = ParquetScoreLog(self.data_dir / "scores", 36_500, 10**12, SystemClock().now)
        scores = {}
        for i in range(SERIES):
            key = SeriesKey.of("files", f"s{i}", {"file": "r.csv"})
            rows = log.read(key.id, 0, 2**62)
            scores[str(key)] = (rows.times, rows.value, rows.anomaly_score, rows.yhat, rows.yhat_lower)
        return scores

    def anomalies(self) -> list[object]:
        """Return the stored anomalies."""
        store = join_store(self.data_dir, SystemClock().now)
        try:
            return store.anomalies(limit=10_000)
        finally:
            store.close()


@pytest.mark.acceptance
def test_killed_and_restarted_equals_uninterrupted(tmp_path):
    """After three kill -9 scores equal those of one run to 1e-9, and no anomaly is lost or duplicated."""
    csv = tmp_path / "r.csv"
    write_recording(csv)
    uninterrupted, killed = ReplayEngine(tmp_path / "whole", csv), ReplayEngine(tmp_path / "killed", csv)
    uninterrupted.run_until(ROWS, signal.SIGTERM)
    ticks_so_far = 0
    for at in KILL_AFTER_TICKS:
        killed.run_until(at - ticks_so_far, signal.SIGKILL)
        ticks_so_far = at
    killed.run_until(1, signal.SIGKILL)
    killed.run_to_end(ROWS)
    expected, actual_scores = uninterrupted.scores(), killed.scores()
    for series, columns in expected.items():
        assert len(columns[0]) > 0.9 * ROWS
        for actual, expected_column in zip(actual_scores[series], columns, strict=True):
            np.testing.assert_allclose(actual, expected_column, rtol=0, atol=1e-9, err_msg=series)
    assert killed.anomalies() == uninterrupted.anomalies()
    assert len(uninterrupted.anomalies()) > 0


@pytest.mark.acceptance
def test_river_members_survive_a_kill(tmp_path):
    """A river member, which no snapshot stores, scores after kill -9 as in an uninterrupted run."""
    csv = tmp_path / "r.csv"
    write_recording(csv, rows=700)
    detectors = {"detectors": ["default", "river:OneClassSVM"]}
    uninterrupted, killed = (
        ReplayEngine(tmp_path / "whole", csv, **detectors),
        ReplayEngine(tmp_path / "killed", csv, **detectors),
    )
    uninterrupted.run_until(700, signal.SIGTERM)
    killed.run_until(500, signal.SIGKILL)
    killed.run_to_end(700)
    expected, actual_scores = uninterrupted.scores(), killed.scores()
    for series, columns in expected.items():
        for actual, expected_column in zip(actual_scores[series], columns, strict=True):
            np.testing.assert_allclose(actual, expected_column, rtol=0, atol=1e-9, err_msg=series)
    assert killed.anomalies() == uninterrupted.anomalies()


def _iso(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(unix_s))
