"""Training, evaluation and promotion of the load model, with MLflow on SQLite."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.model_store import SMALL_JOB, ModelFolder, load_history
from trimtab.pipelines.errors import BusyError, HistoryError, ModelRefusedError
from trimtab.pipelines.io.panel import panel_from_history
from trimtab.pipelines.model_registry.artifact import ARRAYS_FILE, Manifest, pack_arrays, write_model
from trimtab.pipelines.model_registry.mlflow_registry import CHALLENGER, CHAMPION
from trimtab.pipelines.model_registry.model_loader import restore_forecaster
from trimtab.pipelines.serving.forecast_load import forecast_load
from trimtab.pipelines.train_load import train_load
from trimtab.pipelines.training.registry_sync import sync_registry

pytestmark = pytest.mark.filterwarnings(  # MLflow uses a deprecated feature of SQLAlchemy
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)


@pytest.fixture
def models(tmp_path):
    """A data folder without a model."""
    return ModelFolder(tmp_path)


class Killed(BaseException):
    """An exception that no `except Exception` catches."""


def test_first_model_becomes_champion_and_same_data_return_it(models):
    """The first model that beats seasonal naive becomes champion; the same data return the same version."""
    first = train_load(
        SMALL_JOB, load_history, models.workspace, by="anna", on_change=models.reported_runs.append
    )
    assert first.promoted, str(first.verdict)
    assert models.store.index().champion == first.version
    moves = models.store.index().moves
    assert [(move.version, move.by, move.before) for move in moves] == [("1", "anna", None)]
    assert models.registry.get_alias(CHAMPION).version == first.version
    assert models.registry.get_alias(CHALLENGER) is None
    stored = models.store.read(first.version)
    assert (
        restore_forecaster(stored, make=models.workspace.make).fitted[0]
        == stored.manifest.trained["rows"] * 3
    )
    assert [run.stage for run in models.reported_runs][-1] == "gate"
    assert models.reported_runs[-1].state == "done"
    again = train_load(SMALL_JOB, load_history, models.workspace)
    assert again.version == first.version
    assert "nothing new" in again.run.said
    assert [run.by for run in models.runs.list_runs()] == ["", "anna"]
    _assert_run_is_logged(models, first)
    _assert_hostile_registry_version_is_refused(models, first)


def _assert_run_is_logged(models, trained):
    """MLflow has the run's parameters, metrics, plots, fingerprint and model."""
    from mlflow.telemetry import get_telemetry_client

    assert get_telemetry_client() is None
    client = models.registry._open()
    run = client.get_run(models.registry.get_alias(CHAMPION).run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["forecaster"] == "load"
    assert run.data.metrics["challenger.pinball"] == pytest.approx(trained.figures["challenger"].pinball)
    assert run.data.tags["trained.fingerprint"]
    assert {f.path for f in client.list_artifacts(run.info.run_id, "pictures")} == {
        "pictures/forecasts.png", "pictures/losses.png",
    }  # fmt: skip


def _assert_hostile_registry_version_is_refused(models, trained):
    """A pickle registered as champion is refused and not executed."""
    import pickle

    trace, files = models.folder / "trace", models.folder / "foreign"

    class Hostile:
        def __reduce__(self):
            return (trace.write_text, ("ran",))

    files.mkdir()
    (files / "model.pkl").write_bytes(pickle.dumps(Hostile()))
    client = models.registry._open()
    run = client.create_run(client.get_experiment_by_name("trimtab-load").experiment_id)
    client.log_artifact(run.info.run_id, str(files / "model.pkl"), "model")
    source = f"{run.info.artifact_uri}/model"
    version = client.create_model_version("trimtab-load", source, run.info.run_id).version
    models.registry.set_alias(CHAMPION, str(version))
    synced = sync_registry(models.registry, models.store, models.now)
    assert list(synced.refused) == [str(version)]
    assert "manifest.json" in synced.refused[str(version)]
    assert models.store.index().champion == trained.version
    assert sync_registry(models.registry, models.store, models.now).refused == {}
    assert not trace.exists()


@pytest.mark.slow
def test_refused_and_killed_runs_keep_the_champion(models, monkeypatch):
    """Refused, failed and killed runs keep the champion; a killed run is resumed."""
    reads = []

    def history():
        reads.append(1)
        return load_history(seed=1)

    train_load(SMALL_JOB, load_history, models.workspace)
    before = models.store.index()
    worse = train_load(replace(SMALL_JOB, forecaster="worse"), load_history, models.workspace)
    assert not worse.promoted
    assert "loss" in str(worse.verdict)
    assert models.store.index().champion == before.champion

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(models.registry, "register", kill)
        with pytest.raises(Killed):
            train_load(SMALL_JOB, history, models.workspace)
    assert models.runs.list_runs()[0].state == "failed"
    assert models.store.index().champion == before.champion
    assert models.registry.get_alias(CHAMPION).version == before.champion
    result = train_load(SMALL_JOB, history, models.workspace, by="anna")
    assert result.run.by == "anna"
    assert (len(reads), result.run.id) == (1, models.runs.list_runs()[0].id)
    assert result.run.state == "done"


def test_failing_champion_is_replaced(models):
    """A champion that fails to forecast is ignored, so the next model replaces it."""
    folder = models.folder / "made"
    files = {ARRAYS_FILE: pack_arrays({"fitted": np.ones(1)})}
    digest = write_model(folder, Manifest("load", "arrays", "failing", SMALL_JOB.schema()), files)
    models.store.add("99", folder, digest, models.now, "registry")
    models.store.promote("99")
    result = train_load(SMALL_JOB, load_history, models.workspace)
    assert (result.promoted, models.store.index().champion) == (True, result.version)


def test_concurrent_runs_and_short_histories_are_refused(models):
    """A second run is refused while one is in progress; too short a history raises an error."""
    with models.runs.start({}, "anna") as work:
        work.enter_stage("judge", 0.2)
        models.now += 180 * 10**9
        with pytest.raises(BusyError, match="requested by anna, for 3 min: 20% done, at judge; wait"):
            train_load(SMALL_JOB, load_history, models.workspace)
    with pytest.raises(HistoryError, match="at least 48 are needed"):
        train_load(SMALL_JOB, lambda: load_history(days=1), models.workspace)


def test_challenger_only_model_does_not_replace_the_champion(models):
    """With challenger_only a model becomes the challenger; an operator may promote it and roll back."""
    first = train_load(SMALL_JOB, load_history, models.workspace)
    second = train_load(SMALL_JOB, lambda: load_history(seed=3), models.workspace, challenger_only=True)
    book = models.store.index()
    assert (book.champion, book.challenger) == (first.version, second.version)
    models.store.promote(second.version, registry_pending=True)
    assert sync_registry(models.registry, models.store, models.now).champion == second.version
    assert models.registry.get_alias(CHAMPION).version == second.version
    assert models.store.rollback().champion == first.version
    (models.store.folder / second.version / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(ModelRefusedError, match="SHA-256"):
        models.store.promote(second.version)
    assert models.store.index().champion == first.version


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"horizon": 12},  # half the horizon
        {"step_s": 7200.0, "horizon": 12},  # the same horizon in longer steps
    ],
)
def test_champion_of_other_settings_is_replaced(models, changed):
    """A champion made for other settings is evaluated by its recipe and replaced."""
    first = train_load(SMALL_JOB, load_history, models.workspace)
    job = replace(SMALL_JOB, **changed)
    named = panel_from_history(load_history(), job.step_s, window_s=job.window_s)
    before = forecast_load(named, job.horizon, models.workspace)
    assert (before.version, before.model) == ("", "seasonal_naive")
    assert "made for 24 steps of 3600 s" in before.incompatible[first.version]
    kept_out = train_load(job, load_history, models.workspace, challenger_only=True)
    assert "train it for these" in str(kept_out.verdict)
    second = train_load(
        replace(job, origins=2), load_history, models.workspace, challenger_only=True, from_settings=True
    )
    assert second.promoted, second.run.said
    assert "of the previous one, it is made for 24 steps of 3600 s" in second.run.said
    assert second.figures["champion"] == second.figures["challenger"]
    book = models.store.index()
    assert (book.champion, book.previous, book.challenger) == (second.version, first.version, None)
    assert forecast_load(named, job.horizon, models.workspace).version == second.version
    back = panel_from_history(load_history(), SMALL_JOB.step_s, window_s=SMALL_JOB.window_s)
    assert forecast_load(back, SMALL_JOB.horizon, models.workspace).version == first.version


def test_worse_model_for_current_settings_is_refused(models):
    """A model for the current settings still has to beat seasonal naive and the champion's recipe."""
    train_load(SMALL_JOB, load_history, models.workspace)
    worse = replace(SMALL_JOB, forecaster="worse", horizon=12)
    result = train_load(worse, load_history, models.workspace, from_settings=True)
    assert not result.promoted
    assert "higher than that of the champion" in str(result.verdict)
    assert models.store.index().versions[result.version].said == f"refused: {result.verdict}"
    assert f"{result.verdict}. Seasonal naive keeps forecasting; the next training" in result.run.said
