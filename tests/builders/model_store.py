"""Builders of a data folder with registry, model store and runs, and of a history to train on."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tests.builders.series import START
from tests.fakes.fake_forecasters import make_forecaster
from trimtab.pipelines.model_registry.mlflow_registry import MlflowRegistry
from trimtab.pipelines.model_registry.model_store import ModelStore
from trimtab.pipelines.train_load import LoadJob, ModelWorkspace
from trimtab.pipelines.training.pipeline_runs import PipelineRuns

SMALL_JOB = LoadJob(step_s=3600.0, horizon=24, window_s=10 * 86_400.0)


def load_history(days: int = 10, step_s: float = 3600.0, series: int = 3, seed: int = 0, end: int = START):
    """Return daily cycles with noise: unique_id, ds, y."""
    rng = np.random.default_rng(seed)
    n = int(days * 86_400 / step_s)
    times = end - np.arange(n)[::-1] * int(step_s * 1e9)
    stamps = pd.DatetimeIndex(times.astype("datetime64[ns]"), tz="UTC")
    parts = [
        pd.DataFrame(
            {
                "unique_id": f'requests{{app="{k}"}}',
                "ds": stamps,
                "y": 100 + 40 * np.sin(2 * np.pi * times / 86_400e9 + k) + rng.normal(0, 8, n),
            }
        )
        for k in range(series)
    ]
    return pd.concat(parts, ignore_index=True)


@dataclass
class ModelFolder:
    """A model workspace in a folder, with a settable clock and the reported run records."""

    folder: Path
    uri: str = ""
    now: int = START
    reported_runs: list = field(default_factory=list)

    def __post_init__(self):
        self.numbers = itertools.count(1)
        self.registry = MlflowRegistry("load", self.folder / "mlflow", self.uri)
        self.store = ModelStore(self.folder / "models" / "load")
        self.runs = PipelineRuns(
            self.folder / "training" / "load", "load", lambda: self.now, lambda: f"{next(self.numbers):026d}"
        )
        self.workspace = ModelWorkspace(self.registry, self.store, self.runs, make=make_forecaster)
