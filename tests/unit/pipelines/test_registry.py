"""The registry as notebooks use it."""

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge

from tests.builders.model_store import SMALL, Models, past
from trimtab.pipelines import registry
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.model_registry.mlflow_registry import CHALLENGER, CHAMPION
from trimtab.pipelines.model_registry.model_store import Shelf
from trimtab.pipelines.training.registry_sync import sync

pytestmark = pytest.mark.filterwarnings(  # MLflow itself asks SQLAlchemy for what is deprecated
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)


def test_a_challenger_is_promoted_asked_and_taken_over(tmp_path):
    """Promoting changes the registry only; its champion forecasts anywhere, and an engine takes it over."""
    models = Models(tmp_path)
    with pytest.raises(ModelRefusedError, match="no champion yet"):
        registry.forecast(past(), job=SMALL, place=models.place)
    done = registry.submit(Ridge(), "requests", past(), job=SMALL, place=models.place)
    assert "champion" not in done.figures
    assert done.run.said.startswith("version 1 is the challenger")
    registry.promote("1", place=models.place)
    registry.promote("1", place=models.place)
    assert models.registry.alias(CHAMPION).version == "1"
    assert models.registry.alias(CHALLENGER) is None
    assert models.shelf.book().champion is None
    second = registry.submit(Ridge(10.0), "requests", past(), job=SMALL, place=models.place)
    assert set(second.figures) == {"challenger", "champion", "seasonal_naive"}
    found = registry.versions(place=models.place)
    assert found[["version", "role", "forecaster"]].to_numpy().tolist()[-1] == ["1", "champion", "Ridge"]
    asked = registry.forecast(past(), job=SMALL, place=models.place)
    assert asked.columns.tolist() == ["unique_id", "ds", "q0.05", "q0.5", "q0.9", "q0.95", "q0.99"]
    assert asked.groupby("unique_id").size().tolist() == [24, 24, 24]
    assert (asked["ds"].to_numpy() > past()["ds"].dt.tz_localize(None).max().to_datetime64()).all()
    assert np.abs(asked["q0.5"].mean() - 100) < 10
    assert sync(models.registry, models.shelf, 0).champion == "1"


def test_a_champion_that_is_not_on_the_shelf_is_fetched(tmp_path):
    """An engine whose data folder never saw the version copies it from a registry on the same disk."""
    models = Models(tmp_path)
    registry.submit(Ridge(), "requests", past(), job=SMALL, place=models.place)
    registry.promote("1", place=models.place)
    other = Shelf(tmp_path / "other")
    done = sync(models.registry, other, 0)
    assert (done.champion, done.refused) == ("1", {})


@pytest.mark.parametrize("version", ["7", "2"])
def test_what_did_not_pass_the_gate_is_not_promoted(tmp_path, version):
    """A version that is not there, or was refused, does not become champion, and why is said."""
    models = Models(tmp_path)
    registry.submit(Ridge(), "requests", past(), job=SMALL, place=models.place)
    refused = registry.submit(DummyRegressor(), "requests", past(), job=SMALL, place=models.place)
    assert refused.version == "2"
    why = {"7": "no such version", "2": "more than seasonal naive"}[version]
    with pytest.raises(ModelRefusedError, match=f"(?s){why}.*which is '1'"):
        registry.promote(version, place=models.place)
    assert models.registry.alias(CHAMPION) is None
