"""Notebooks run in a foreign folder, and match their text form."""

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

pytestmark = pytest.mark.filterwarnings(  # MLflow uses a deprecated feature of SQLAlchemy
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)
FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ON_PROMETHEUS = "03_train_on_prometheus"
ALONE = [path for path in NOTEBOOKS if path.stem != ON_PROMETHEUS]


def test_there_are_notebooks():
    """The expected notebooks exist."""
    stems = [path.stem for path in NOTEBOOKS]
    assert stems == ["01_score_a_recording", "02_forecast_a_load", ON_PROMETHEUS]
    assert [path.stem for path in sorted(FOLDER.glob("*.py"))] == stems


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_matches_its_text_form(path):
    """A notebook has the cells of its text form and no outputs."""
    notebook, text = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in text.cells]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)


def execute(path, folder):
    """Run a notebook in a folder with foreign packages and return its text output and number of plots."""
    notebook = jupytext.read(path)
    resources = {"metadata": {"path": str(make_foreign_packages(folder))}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    plots = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), plots


@pytest.mark.slow
@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_notebook_runs_next_to_foreign_packages(path, tmp_path):
    """Every cell runs in a folder that contains other packages named models, engine and pipelines."""
    text, plots = execute(path, tmp_path)
    assert plots >= 3
    if path.stem.startswith("02"):
        assert "version 1 is the challenger; there is no champion yet" in text
        assert "version 2 does not become champion: its" in text
        assert "version 3 is the challenger" in text


def two_weeks_of_requests(now_s):
    """Return OpenMetrics text of the requests of two apps, with a daily cycle and noise."""
    rng = np.random.default_rng(0)
    times = np.arange(now_s - 14 * 86_400, now_s, 300)
    rows = []
    for k, app in enumerate(("search", "shop")):
        rate = 60 + 40 * np.sin(2 * np.pi * times / 86_400 + k) + rng.normal(0, 3, len(times))
        counts = np.cumsum(np.maximum(rate, 0) * 300).round()
        label = f'http_requests_total{{app="{app}"}}'
        rows += [f"{label} {n:.0f} {t}" for n, t in zip(counts.tolist(), times.tolist(), strict=True)]
    return "\n".join(["# TYPE http_requests counter", *rows, "# EOF", ""])


@pytest.mark.slow
def test_a_model_trained_on_prometheus_is_served(tmp_path, monkeypatch):
    """A model trained on two weeks in Prometheus becomes champion and is served from the data folder."""
    backfill(tmp_path, two_weeks_of_requests(int(time.time()) // 300 * 300))
    with start_prometheus(tmp_path) as server:
        data = tmp_path / "data-of-the-engine"
        monkeypatch.setenv("PROMETHEUS_URL", server.url)
        monkeypatch.setenv("TRIMTAB_SETTINGS__DATA_DIR", str(data))
        text, plots = execute(FOLDER / f"{ON_PROMETHEUS}.ipynb", tmp_path)
        assert "version 1 is the challenger" in text
        assert plots == 2
        end = datetime.now(UTC)
        selector = "sum by (app) (rate(http_requests_total[15m]))"
        frame = PrometheusHistory(server.url).read(selector, end - timedelta(days=14), end, 300.0)
    workspace = open_workspace(data)
    assert workspace.store.index().champion is None
    assert sync_registry(workspace.registry, workspace.store, 0).champion == "1"
    forecasts = forecast_load(panel_from_history(frame, 300.0, window_s=14 * 86_400.0), 288, workspace)
    assert (forecasts.model, forecasts.version, len(forecasts.names)) == ("load", "1", 2)
    first = forecasts.end[:, None] // 10**9 + np.arange(1, 289) * 300.0
    actual = 60 + 40 * np.sin(2 * np.pi * first / 86_400 + np.arange(2)[:, None])
    assert np.abs(forecasts.values[1].T - actual).mean() < 4
