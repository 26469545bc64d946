"""Comparison of forecasters on recorded history."""

import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor

import trimtab
from tests.builders.model_store import load_history
from tests.fakes.fake_forecasters import make_forecaster
from trimtab.models.errors import UnknownModelError
from trimtab.pipelines.errors import InputError


def test_all_kinds_of_forecasters_are_compared():
    """All contenders get one row over the same windows, and a seasonal one beats a constant one."""
    result = trimtab.backtest_forecast(
        load_history(),
        {"naive": "seasonal_naive", "lazy": DummyRegressor(), "own": make_forecaster("seasonal_naive")},
        step="1h",
    )
    assert result.index.tolist() == ["naive", "lazy", "own"]
    assert result["points"].tolist() == [3 * 24 * 3] * 3
    assert result.loc["naive", "pinball"] < result.loc["lazy", "pinball"] / 2
    assert (result["silent"] == 0).all()


def test_later_values_do_not_change_earlier_windows():
    """Values of the last window do not change the metrics of earlier windows."""
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
    ("given", "error", "message"),
    [
        ({"windows": 9}, InputError, "9 windows of 24 need 264"),
        ({"horizon": "5m"}, InputError, "horizon 5m, step 1h"),
        ({"windows": 0}, InputError, "windows 0"),
        ({"forecasters": ["lode"]}, UnknownModelError, "Did you mean 'load'"),
        ({"forecasters": {"x": object()}}, InputError, "scikit-learn"),
    ],
)
def test_invalid_comparisons_are_refused(given, error, message):
    """A short history, a short horizon and an unknown forecaster raise an error."""
    with pytest.raises(error, match=message):
        trimtab.backtest_forecast(load_history(), **{"step": "1h", **given})
