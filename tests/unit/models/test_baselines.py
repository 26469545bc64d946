"""Baseline forecasts and tree features."""

import numpy as np
import pytest

from trimtab.models.contracts import Panel
from trimtab.models.errors import StateError
from trimtab.models.forecasters.boosted import Boosted
from trimtab.models.forecasting.baselines import (
    BASELINES,
    TREE_FEATURES,
    TreeInputs,
    baseline_forecasts,
    concatenate_inputs,
    tree_features,
)
from trimtab.models.forecasting.linear_stage import mean_error
from trimtab.models.forecasting.robust_features import ROBUST_FEATURES

NAN = np.nan


@pytest.mark.parametrize(
    ("usual", "day_before", "hour", "hour_over_usual", "linear", "expected"),
    [
        (10.0, 12.0, 20.0, 5.0, 90.0, (90.0, 16.0, 15.0)),
        (NAN, 12.0, 20.0, NAN, 90.0, (90.0, 20.0, 12.0)),
        (10.0, 12.0, 20.0, NAN, 90.0, (90.0, 16.0, 12.0)),
        (NAN, NAN, NAN, NAN, 90.0, (90.0, 90.0, 90.0)),
        (NAN, NAN, 20.0, NAN, NAN, (NAN, 20.0, 20.0)),
    ],
)
def test_baseline_forecasts(usual, day_before, hour, hour_over_usual, linear, expected):
    """Each baseline follows its own rule; unknown inputs are replaced by known ones."""
    robust = np.array([usual, day_before, hour, 0.0, hour_over_usual, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(baseline_forecasts(robust, np.float64(linear)), expected)


def make_inputs(n=1, **changed):
    """Return n rows of inputs with all values known."""
    values = {
        "values": np.arange(21.0) + np.zeros((n, 1)), "robust": np.full((n, len(ROBUST_FEATURES)), 2.0),
        "linear": np.full(n, 4.0), "error_quantiles": np.full((n, 5), 6.0), "scale": np.full(n, 8.0),
        "time_and_events": np.full((n, 5), 9.0),
    }  # fmt: skip
    return TreeInputs(**(values | changed))


def test_tree_features_are_relative_to_the_baseline_and_its_error():
    """Scaling values, baseline and error by two changes no feature; names match the columns."""
    one = tree_features(make_inputs(), np.array([3.0]), np.array([0.5]))
    assert one.shape == (1, len(TREE_FEATURES))
    assert len(set(TREE_FEATURES)) == len(TREE_FEATURES)
    assert one[0, TREE_FEATURES.index("linear")] == 2.0
    assert one[0, TREE_FEATURES.index("week_median")] == -2.0
    np.testing.assert_allclose(one[0, TREE_FEATURES.index("roughness")], np.log(16.0))
    np.testing.assert_allclose(one[0, TREE_FEATURES.index("week_range")], np.log(4.0), rtol=1e-6)
    assert one[0, TREE_FEATURES.index("event")] == 9.0
    double = make_inputs(
        values=2 * np.arange(21.0)[None], robust=np.full((1, 8), 4.0), linear=np.array([8.0]),
        error_quantiles=np.full((1, 5), 12.0), scale=np.array([16.0]),
    )  # fmt: skip
    np.testing.assert_allclose(tree_features(double, np.array([6.0]), np.array([1.0])), one, rtol=1e-6)


def test_selected_rows_can_be_concatenated_again():
    """Concatenating all selected rows gives the original inputs."""
    whole = make_inputs(3, linear=np.arange(3.0))
    again = concatenate_inputs([whole.select_rows(np.array([0])), whole.select_rows(np.array([1, 2]))])
    np.testing.assert_array_equal(again.linear, whole.linear)
    np.testing.assert_array_equal(again.values, whole.values)


def test_mean_error_caps_bursts():
    """Errors count up to twice their median, all of them if most are 0; an unknown series gets the median."""
    errors = np.array([[1.0, -1.0, 1.0, 97.0], [0.0, 0.0, 0.0, 8.0], [NAN] * 4])
    np.testing.assert_allclose(mean_error(errors, 2.0), [1.25, 2.0, 1.625])
    np.testing.assert_allclose(mean_error(errors)[:2], [25.0, 2.0])


def make_bursty_panel(days=16, day=24, n=6, seed=3):
    """Return hourly loads, quiet but for one burst a week before the forecast day."""
    rng = np.random.default_rng(seed)
    y = (
        100
        + 10 * np.sin(np.arange(days * day) * 2 * np.pi / day)[:, None]
        + rng.normal(0, 1, (days * day, n))
    )
    y[-7 * day + 5 : -7 * day + 8, 0] += 5000.0
    return Panel(y, np.full(n, 1_767_225_600 * 10**9), 3600.0, np.ones(n, bool))


@pytest.mark.slow
def test_a_burst_a_week_ago_is_not_repeated():
    """The median of the three baselines ignores a single burst and follows the daily season."""
    model = Boosted()
    panel = make_bursty_panel()
    model.fit(panel)
    middle = model.predict(panel, 24, (0.5,))[0]
    expected = 100 + 10 * np.sin(np.arange(24) * 2 * np.pi / 24)
    np.testing.assert_allclose(middle[:, 0], expected, atol=25.0)
    np.testing.assert_allclose(middle[:, 1:], np.tile(expected[:, None], 5), atol=6.0)


@pytest.mark.slow
def test_state_without_trees_of_a_baseline_is_refused():
    """Restoring a state without the trees of a baseline raises StateError naming the missing array."""
    model = Boosted()
    model.fit(make_bursty_panel())
    state = model.state()
    assert {key.partition(".")[0] for key in state} == {"stage", "young", "far", *BASELINES}
    with pytest.raises(StateError, match="feature"):
        Boosted().restore({k: v for k, v in state.items() if not k.startswith("level.")})
