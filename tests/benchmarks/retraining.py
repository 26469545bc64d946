"""Measures one retraining in a process of its own: `python -m tests.benchmarks.retraining N_SERIES FOLDER`.

Prints one line of JSON: CPU seconds, seconds and peak memory in MiB of each stage and of the forecast of all
series after it.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from trimtab.pipelines.io.panel import panel_from_history
from trimtab.pipelines.model_registry.mlflow_registry import MlflowRegistry
from trimtab.pipelines.model_registry.model_store import ModelStore
from trimtab.pipelines.serving.forecast_load import forecast_load
from trimtab.pipelines.train_load import LoadJob, ModelWorkspace, train_load
from trimtab.pipelines.training.pipeline_runs import PipelineRuns, RunRecord

STEP_S, DAYS = 300, 14
END = 1_767_225_600  # 2026-01-01 00:00 UTC
CHUNK_SERIES = 500


def make_loads(n: int) -> pd.DataFrame:
    """Return the history of n loads with daily and weekly seasons, drift, noise, bursts and gaps."""
    rows = DAYS * 86_400 // STEP_S
    times = END - STEP_S * np.arange(rows)[::-1]
    parts = [
        _make_load_values(np.random.default_rng(begin), times, min(CHUNK_SERIES, n - begin))
        for begin in range(0, n, CHUNK_SERIES)
    ]
    names = np.array([f'requests_per_second{{app="{k}"}}' for k in range(n)], dtype=object)
    stamps = pd.DatetimeIndex((times * 10**9).astype("datetime64[ns]"), tz="UTC")
    return pd.DataFrame(
        {
            "unique_id": np.repeat(names, rows),
            "ds": stamps.append([stamps] * (n - 1)) if n > 1 else stamps,
            "y": np.concatenate(parts),
        }
    )


def _make_load_values(rng: np.random.Generator, times: np.ndarray, n: int) -> np.ndarray:
    """Return (n * n_times,) values, series by series; NaN = no sample."""
    day, week = ((times % s / s * 2 * np.pi)[None] for s in (86_400, 604_800))
    phase, depth, weekly = (
        rng.uniform(0, 6.3, (n, 1)),
        rng.uniform(0, 0.8, (n, 1)),
        rng.uniform(0, 0.3, (n, 1)),
    )
    season = 1 + depth * np.sin(day + phase) + weekly * np.sin(week + phase)
    drift = np.cumsum(rng.normal(0, 0.003, (n, len(times))), axis=1)
    noise = rng.normal(0, rng.uniform(0.02, 0.3, (n, 1)), (n, len(times)))
    burst = (rng.random((n, len(times))) < 0.003) * rng.exponential(1.5, (n, len(times)))
    y = np.maximum(10 ** rng.uniform(0, 5, (n, 1)) * (season + drift + noise + burst), 0.0)
    y[rng.random((n, len(times))) < 0.002] = np.nan
    return y.ravel()


class StageMeter:
    """CPU seconds, wall-clock seconds and peak memory in MiB, by stage."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}
        self.peak_mb: dict[str, int] = {}
        self.stage = "history"
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def start_stage(self, stage: str) -> None:
        """End the current stage and start the next one."""
        cpu, wall = time.process_time(), time.perf_counter()
        self.cpu_s[self.stage] = round(self.cpu_s.get(self.stage, 0.0) + cpu - self._cpu, 2)
        self.wall_s[self.stage] = round(self.wall_s.get(self.stage, 0.0) + wall - self._wall, 2)
        self.peak_mb[self.stage] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        self.stage, self._cpu, self._wall = stage, cpu, wall

    def on_run_change(self, run: RunRecord) -> None:
        """Start the stage that a run has reached."""
        if run.stage and run.stage != self.stage:
            self.start_stage(run.stage)

    def unmeasured_history(self, n: int) -> pd.DataFrame:
        """Return the history of n series; generating it is a stage of its own."""
        stage = self.stage
        self.start_stage("generate")
        frame = make_loads(n)
        self.start_stage(stage)
        return frame


def measure_retraining(n: int, folder: Path) -> dict[str, object]:
    """Train, evaluate and register a model of n series, then forecast all of them."""
    meter, job = StageMeter(), LoadJob(most=n)
    workspace = ModelWorkspace(
        MlflowRegistry("load", folder / "mlflow"),
        ModelStore(folder / "models"),
        PipelineRuns(folder / "runs", "load", time.time_ns, lambda: "1"),
    )
    result = train_load(job, lambda: meter.unmeasured_history(n), workspace, on_change=meter.on_run_change)
    meter.start_stage("panel")
    panel = panel_from_history(meter.unmeasured_history(n), job.step_s, window_s=job.window_s, max_series=n)
    meter.start_stage("forecast")
    forecasts = forecast_load(panel, job.horizon, workspace)
    meter.start_stage("")
    return {
        "series": len(forecasts.names), "run_summary": result.run.said, "promoted": result.promoted,
        "model": forecasts.model, "known_ratio": float(np.isfinite(forecasts.values).mean()),
        "metrics": dict(result.run.figures), "cpu_s": meter.cpu_s, "wall_s": meter.wall_s,
        "peak_mb": meter.peak_mb,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure_retraining(int(sys.argv[1]), Path(sys.argv[2]))))
