"""The registry as notebooks use it."""

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge

from tests.builders.model_store import SMALL_JOB, ModelFolder, load_history
from trimtab.pipelines import registry
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.model_registry.mlflow_registry import CHALLENGER, CHAMPION
from trimtab.pipelines.model_registry.model_store import ModelStore
from trimtab.pipelines.training.registry_sync import sync_registry

pytestmark = pytest.mark.filterwarnings(  # MLflow itself asks SQLAlchemy for what is deprecated
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)


def test_a_challenger_is_promoted_asked_and_taken_over(tmp_path):
    """Promoting changes the registry only; its champion forecasts anywhere, and an engine takes it over."""
    models = ModelFolder(tmp_path)
    with pytest.raises(ModelRefusedError, match="no champion yet"):
        registry.forecast(load_history(), job=SMALL_JOB, workspace=models.workspace)
    done = registry.submit(Ridge(), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace)
    assert "champion" not in done.figures
    assert done.run.said.startswith("version 1 is the challenger")
    registry.promote("1", workspace=models.workspace)
    registry.promote("1", workspace=models.workspace)
    assert models.registry.get_alias(CHAMPION).version == "1"
    assert models.registry.get_alias(CHALLENGER) is None
    assert models.store.index().champion is None
    second = registry.submit(
        Ridge(10.0), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace
    )
    assert set(second.figures) == {"challenger", "champion", "seasonal_naive"}
    found = registry.versions(workspace=models.workspace)
    assert found[["version", "role", "forecaster"]].to_numpy().tolist()[-1] == ["1", "champion", "Ridge"]
    asked = registry.forecast(load_history(), job=SMALL_JOB, workspace=models.workspace)
    assert asked.columns.tolist() == ["unique_id", "ds", "q0.05", "q0.5", "q0.9", "q0.95", "q0.99"]
    assert asked.groupby("unique_id").size().tolist() == [24, 24, 24]
    assert (asked["ds"].to_numpy() > load_history()["ds"].dt.tz_localize(None).max().to_datetime64()).all()
    assert np.abs(asked["q0.5"].mean() - 100) < 10
    assert sync_registry(models.registry, models.store, 0).champion == "1"


def test_a_champion_that_is_not_on_the_shelf_is_fetched(tmp_path):
    """An engine whose data folder never saw the version copies it from a registry on the same disk."""
    models = ModelFolder(tmp_path)
    registry.submit(Ridge(), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace)
    registry.promote("1", workspace=models.workspace)
    other = ModelStore(tmp_path / "other")
    done = sync_registry(models.registry, other, 0)
    assert (done.champion, done.refused) == ("1", {})


@pytest.mark.parametrize("version", ["7", "2"])
def test_what_did_not_pass_the_gate_is_not_promoted(tmp_path, version):
    """A version that is not there, or was refused, does not become champion, and why is said."""
    models = ModelFolder(tmp_path)
    registry.submit(Ridge(), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace)
    refused = registry.submit(
        DummyRegressor(), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace
    )
    assert refused.version == "2"
    why = {"7": "no such version", "2": "more than seasonal naive"}[version]
    with pytest.raises(ModelRefusedError, match=f"(?s){why}.*which is '1'"):
        registry.promote(version, workspace=models.workspace)
    assert models.registry.get_alias(CHAMPION) is None
