"""Forecasters compared on the past."""

import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor

import trimtab
from tests.builders.model_store import load_history
from tests.fakes.fake_forecasters import make_forecaster
from trimtab.models.errors import UnknownModelError
from trimtab.pipelines.errors import InputError


def test_names_regressors_and_forecasters_are_judged_alike():
    """All contenders get a row over the same windows; one that knows the day beats one that does not."""
    found = trimtab.backtest_forecast(
        load_history(),
        {"naive": "seasonal_naive", "lazy": DummyRegressor(), "own": make_forecaster("seasonal_naive")},
        step="1h",
    )
    assert found.index.tolist() == ["naive", "lazy", "own"]
    assert found["points"].tolist() == [3 * 24 * 3] * 3
    assert found.loc["naive", "pinball"] < found.loc["lazy", "pinball"] / 2
    assert (found["silent"] == 0).all()


def test_nothing_behind_a_window_is_known_in_it():
    """What comes in the last window changes no figure of the windows before."""
    frame = load_history()
    cut = frame["ds"].max() - pd.Timedelta("24h")
    changed = frame.assign(y=frame["y"].where(frame["ds"] <= cut, 1e6))
    early = frame[frame["ds"] <= cut]
    two = trimtab.backtest_forecast(early, ["seasonal_naive"], step="1h", windows=2)
    same = trimtab.backtest_forecast(changed[changed["ds"] <= cut], ["seasonal_naive"], step="1h", windows=2)
    worse = trimtab.backtest_forecast(changed, ["seasonal_naive"], step="1h", windows=3)
    pd.testing.assert_frame_equal(two, same)
    assert worse.loc["seasonal_naive", "mase"] > 100


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"windows": 9}, InputError, "9 windows of 24 want 264"),
        ({"horizon": "5m"}, InputError, "horizon 5m, step 1h"),
        ({"windows": 0}, InputError, "windows 0"),
        ({"forecasters": ["lode"]}, UnknownModelError, "Did you mean 'load'"),
        ({"forecasters": {"x": object()}}, InputError, "scikit-learn"),
    ],
)
def test_what_cannot_be_compared_says_why(given, error, words):
    """Too short a history, a horizon below a step and unknown forecasters are refused with what is wanted."""
    with pytest.raises(error, match=words):
        trimtab.backtest_forecast(load_history(), **{"step": "1h", **given})
