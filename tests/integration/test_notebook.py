"""Notebooks run from a stranger's folder, and their two forms are one."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.builders.foreign_folder import make_foreign_packages
from tests.servers.prometheus import backfill, start_prometheus
from trimtab.pipelines.io.history import PrometheusHistory
from trimtab.pipelines.io.panel import panel_from_history
from trimtab.pipelines.registry import open_workspace
from trimtab.pipelines.serving.forecast_load import forecast_load
from trimtab.pipelines.training.registry_sync import sync_registry

jupytext = pytest.importorskip("jupytext", reason="pip install 'trimtab[notebook]'")
nbclient = pytest.importorskip("nbclient", reason="pip install 'trimtab[notebook]'")

pytestmark = pytest.mark.filterwarnings(  # MLflow itself asks SQLAlchemy for what is deprecated
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)
FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ON_PROMETHEUS = "03_train_on_prometheus"
ALONE = [path for path in NOTEBOOKS if path.stem != ON_PROMETHEUS]


def test_there_are_notebooks():
    """A notebook that is lost is missed."""
    stems = [path.stem for path in NOTEBOOKS]
    assert stems == ["01_score_a_recording", "02_forecast_a_load", ON_PROMETHEUS]
    assert [path.stem for path in sorted(FOLDER.glob("*.py"))] == stems


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pair_is_one(path):
    """The notebook has the cells of its text form, and no outputs are committed."""
    notebook, text = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in text.cells]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)


def executed(path, folder):
    """Texts and pictures that the cells put out, run in a folder with packages models, engine, pipelines."""
    notebook = jupytext.read(path)
    where = {"metadata": {"path": str(make_foreign_packages(folder))}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), pictures


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_runs_beside_foreign_packages(path, tmp_path):
    """Every cell runs, in a folder that holds packages models, engine and pipelines of its own."""
    said, pictures = executed(path, tmp_path)
    assert pictures >= 3
    if path.stem.startswith("02"):
        assert "version 1 is the challenger; there is no champion yet" in said
        assert "version 2 does not become champion: it errs" in said
        assert "version 3 is the challenger" in said


def two_weeks(now_s):
    """OpenMetrics text of requests that two apps counted, by a daily course with noise."""
    rng = np.random.default_rng(0)
    times = np.arange(now_s - 14 * 86_400, now_s, 300)
    rows = []
    for k, app in enumerate(("search", "shop")):
        pace = 60 + 40 * np.sin(2 * np.pi * times / 86_400 + k) + rng.normal(0, 3, len(times))
        counts = np.cumsum(np.maximum(pace, 0) * 300).round()
        label = f'http_requests_total{{app="{app}"}}'
        rows += [f"{label} {n:.0f} {t}" for n, t in zip(counts.tolist(), times.tolist(), strict=True)]
    return "\n".join(["# TYPE http_requests counter", *rows, "# EOF", ""])


def test_a_model_trained_on_prometheus_is_served(tmp_path, monkeypatch):
    """From two weeks in a real Prometheus to a champion, which an engine of the data folder then serves."""
    backfill(tmp_path, two_weeks(int(time.time()) // 300 * 300))
    with start_prometheus(tmp_path) as server:
        data = tmp_path / "data-of-the-engine"
        monkeypatch.setenv("PROMETHEUS_URL", server.url)
        monkeypatch.setenv("TRIMTAB_SETTINGS__DATA_DIR", str(data))
        said, pictures = executed(FOLDER / f"{ON_PROMETHEUS}.ipynb", tmp_path)
        assert "version 1 is the challenger" in said
        assert pictures == 2
        end = datetime.now(UTC)
        selector = "sum by (app) (rate(http_requests_total[15m]))"
        frame = PrometheusHistory(server.url).read(selector, end - timedelta(days=14), end, 300.0)
    place = open_workspace(data)
    assert place.store.index().champion is None
    assert sync_registry(place.registry, place.store, 0).champion == "1"
    ahead = forecast_load(panel_from_history(frame, 300.0, window_s=14 * 86_400.0), 288, place)
    assert (ahead.model, ahead.version, len(ahead.names)) == ("load", "1", 2)
    first = ahead.end[:, None] // 10**9 + np.arange(1, 289) * 300.0
    came = 60 + 40 * np.sin(2 * np.pi * first / 86_400 + np.arange(2)[:, None])
    assert np.abs(ahead.values[1].T - came).mean() < 4
