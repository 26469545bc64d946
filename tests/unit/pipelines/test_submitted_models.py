"""Submitted models become challengers and forecasters, and never execute foreign code."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge

from tests.builders.model_store import SMALL_JOB, ModelFolder, load_history
from trimtab.pipelines import registry
from trimtab.pipelines.errors import InputError, ModelRefusedError
from trimtab.pipelines.forecasting.regression_features import FEATURES, regression_features
from trimtab.pipelines.io.panel import panel_from_history
from trimtab.pipelines.model_registry.artifact import (
    MANIFEST_FILE,
    SKOPS_FILE,
    Manifest,
    read_model,
    write_model,
)
from trimtab.pipelines.model_registry.model_loader import restore_forecaster

pytestmark = pytest.mark.filterwarnings(  # MLflow uses a deprecated feature of SQLAlchemy
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)
TRUSTED = ("sklearn.tree._tree.Tree",)
SKOPS_MANIFEST = Manifest("load", "skops", "UntrustedType", {})


class UntrustedType:
    """An untrusted type."""


@pytest.mark.parametrize("model", [Ridge(), RandomForestRegressor(20, min_samples_leaf=20, random_state=0)])
def test_regressor_becomes_challenger_and_forecasts(tmp_path, model):
    """A scikit-learn model is stored with skops, becomes challenger, and forecasts when restored."""
    models, four_weeks = ModelFolder(tmp_path), replace(SMALL_JOB, window_s=28 * 86_400.0)
    workspace = replace(models.workspace, trusted=TRUSTED)
    result = registry.submit(model, "requests", load_history(days=28), job=four_weeks, workspace=workspace)
    assert result.verdict.passed, str(result.verdict)
    book = models.store.index()
    assert (book.champion, book.challenger) == (None, result.version)
    stored = models.store.read(result.version)
    panel = panel_from_history(load_history(), 3600.0, window_s=864_000.0).panel
    forecasts = restore_forecaster(stored, TRUSTED).predict(panel, 24, [0.05, 0.5, 0.95])
    assert forecasts.shape == (3, 24, 3)
    assert (np.diff(forecasts, axis=0) >= 0).all()
    assert np.abs(forecasts[1] - panel.y[-24:]).mean() < 20


def test_untrusted_submission_is_refused(tmp_path):
    """A model with an untrusted type is refused at submission."""
    models, model = ModelFolder(tmp_path), RandomForestRegressor(3, min_samples_leaf=20, random_state=0)
    with pytest.raises(ModelRefusedError, match="trusted_types"):
        registry.submit(model, "requests", load_history(), job=SMALL_JOB, workspace=models.workspace)
    assert models.store.index().versions == {}


def test_a_river_forecaster_is_stored_by_its_parameters(tmp_path):
    """Only class and parameters of a river model are stored; it learns the history again."""
    from river.time_series import HoltWinters

    models = ModelFolder(tmp_path)
    model = HoltWinters(alpha=0.3, beta=0.01, gamma=0.3, seasonality=24)
    result = registry.submit(model, "requests", load_history(), job=SMALL_JOB, workspace=models.workspace)
    stored = models.store.read(result.version)
    assert stored.files == {}
    assert stored.manifest.parameters["seasonality"] == 24
    panel = panel_from_history(load_history(), 3600.0, window_s=864_000.0).panel
    forecasts = restore_forecaster(stored).predict(panel, 24, [0.5])
    assert np.abs(forecasts[0] - panel.y[-24:]).mean() < 25


def test_unsupported_objects_are_refused():
    """An object that is neither a regressor nor a river forecaster is refused."""
    for unsupported in (UntrustedType(), object, 3):
        with pytest.raises(InputError, match="scikit-learn"):
            registry.submit(unsupported, "", load_history())


def test_untrusted_type_is_not_opened(tmp_path):
    """A skops file with an unknown type opens only if the type is trusted by name."""
    from skops.io import dumps

    write_model(
        tmp_path / "m",
        SKOPS_MANIFEST,
        {SKOPS_FILE: dumps({"model": UntrustedType(), "errors": np.zeros((8, 199)), "horizon": 2})},
    )
    stored = read_model(tmp_path / "m")
    with pytest.raises(ModelRefusedError, match="untrusted types"):
        restore_forecaster(stored)
    with pytest.raises(ModelRefusedError, match="BadZipFile"):
        restore_forecaster(replace(stored, files={SKOPS_FILE: b"no archive at all"}))
    assert restore_forecaster(stored, [f"{UntrustedType.__module__}.UntrustedType"]).horizon == 2


@pytest.mark.parametrize(
    "path", ["os.system", "river.base.Base", "river.x; import os", "river.time_series.evaluate.Track"]
)
def test_other_classes_than_river_forecasters_are_refused(tmp_path, path):
    """A manifest that names a class other than a river forecaster is refused."""
    write_model(tmp_path / "m", Manifest("load", "river", path, {}), {})
    with pytest.raises(ModelRefusedError, match="not a forecaster of river"):
        restore_forecaster(read_model(tmp_path / "m"))


def _edit(folder, change):
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    change(manifest)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def _link_model(folder):
    (folder / SKOPS_FILE).rename(folder.parent / "x")
    (folder / SKOPS_FILE).symlink_to(folder.parent / "x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / SKOPS_FILE).write_bytes(b"other"), "SHA-256"),
        (lambda f: (f / SKOPS_FILE).unlink(), "lists"),
        (lambda f: (f / "model.pkl").write_bytes(b"."), "model.pkl"),
        (lambda f: (f / MANIFEST_FILE).write_bytes(b"{"), "not a valid manifest"),
        (lambda f: (f / MANIFEST_FILE).unlink(), "has no manifest.json"),
        (lambda f: _edit(f, lambda manifest: manifest.update(format=99)), "format is 99"),
        (lambda f: _edit(f, lambda manifest: manifest.update(kind="pickle")), "not a valid manifest"),
        (lambda f: _edit(f, lambda manifest: manifest["files"].update({"../x": {}})), "has the files"),
        (_link_model, "has no"),
    ],
)  # fmt: skip
def test_model_that_does_not_match_its_manifest_is_refused(tmp_path, damage, message):
    """A changed, missing, additional or linked file and an unknown format are refused with the reason."""
    folder = tmp_path / "m"
    digest = write_model(folder, SKOPS_MANIFEST, {SKOPS_FILE: b"content"})
    assert read_model(folder, digest).files == {SKOPS_FILE: b"content"}
    damage(folder)
    with pytest.raises(ModelRefusedError, match=message):
        read_model(folder)


def test_features_do_not_depend_on_later_values():
    """Features at an origin do not depend on later values."""
    panel = panel_from_history(load_history(), 3600.0, window_s=864_000.0)
    cut = panel.first_rows(200)
    panel.panel.y[200:] = 1e6
    table = regression_features(panel.first_rows(200).panel, np.arange(1, 25))
    assert table.shape == (72, len(FEATURES))
    np.testing.assert_array_equal(table, regression_features(cut.panel, np.arange(1, 25)))
