"""The registry API for notebooks."""

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

pytestmark = pytest.mark.filterwarnings(  # MLflow uses a deprecated feature of SQLAlchemy
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)


def test_challenger_is_promoted_and_adopted(tmp_path):
    """Promotion changes the registry only; its champion forecasts from there, and an engine adopts it."""
    models = ModelFolder(tmp_path)
    with pytest.raises(ModelRefusedError, match="no champion yet"):
        registry.forecast(load_history(), job=SMALL_JOB, workspace=models.workspace)
    result = registry.submit(Ridge(), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace)
    assert "champion" not in result.figures
    assert result.run.said.startswith("version 1 is the challenger")
    registry.promote("1", workspace=models.workspace)
    registry.promote("1", workspace=models.workspace)
    assert models.registry.get_alias(CHAMPION).version == "1"
    assert models.registry.get_alias(CHALLENGER) is None
    assert models.store.index().champion is None
    second = registry.submit(
        Ridge(10.0), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace
    )
    assert set(second.figures) == {"challenger", "champion", "seasonal_naive"}
    listed = registry.versions(workspace=models.workspace)
    assert listed[["version", "role", "forecaster"]].to_numpy().tolist()[-1] == ["1", "champion", "Ridge"]
    forecasts = registry.forecast(load_history(), job=SMALL_JOB, workspace=models.workspace)
    assert forecasts.columns.tolist() == ["unique_id", "ds", "q0.05", "q0.5", "q0.9", "q0.95", "q0.99"]
    assert forecasts.groupby("unique_id").size().tolist() == [24, 24, 24]
    assert (
        forecasts["ds"].to_numpy() > load_history()["ds"].dt.tz_localize(None).max().to_datetime64()
    ).all()
    assert np.abs(forecasts["q0.5"].mean() - 100) < 10
    assert sync_registry(models.registry, models.store, 0).champion == "1"


def test_missing_champion_is_fetched(tmp_path):
    """An engine without the champion's version copies it from the registry."""
    models = ModelFolder(tmp_path)
    registry.submit(Ridge(), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace)
    registry.promote("1", workspace=models.workspace)
    other = ModelStore(tmp_path / "other")
    result = sync_registry(models.registry, other, 0)
    assert (result.champion, result.refused) == ("1", {})


@pytest.mark.parametrize("version", ["7", "2"])
def test_unknown_or_refused_version_is_not_promoted(tmp_path, version):
    """Promoting an unknown or refused version raises an error with the reason."""
    models = ModelFolder(tmp_path)
    registry.submit(Ridge(), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace)
    refused = registry.submit(
        DummyRegressor(), "requests", load_history(), job=SMALL_JOB, workspace=models.workspace
    )
    assert refused.version == "2"
    reason = {"7": "does not exist here", "2": "higher than that of seasonal naive"}[version]
    with pytest.raises(ModelRefusedError, match=f"(?s){reason}.*which is '1'"):
        registry.promote(version, workspace=models.workspace)
    assert models.registry.get_alias(CHAMPION) is None
