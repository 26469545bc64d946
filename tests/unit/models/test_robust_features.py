"""Robust features: medians and variability."""

import numpy as np

from trimtab.models.forecasting.panel_features import build_history
from trimtab.models.forecasting.robust_features import ROBUST_FEATURES, robust_features

STEPS_PER_DAY = 24


def features_at(y, now, ahead=3):
    """Return the features of one hourly series at one origin."""
    history = build_history(np.asarray(y, float)[:, None], np.zeros(1, np.int64), 3600.0)
    values = robust_features(history, np.array([0]), np.array([now]), np.array([ahead]))[0]
    values[:4] += history.mean[0]
    return values


def test_burst_does_not_move_the_medians():
    """One burst at the target's time of day does not change the medians."""
    rows = np.arange(8 * STEPS_PER_DAY)
    y = rows % STEPS_PER_DAY * 1.0
    y[-STEPS_PER_DAY + 2] = 900.0
    values = features_at(y, len(y) - 1)
    assert values[0] == 2.0
    assert values[1] == 900.0
    np.testing.assert_allclose(values[2:5], [23.0, 12.5, 0.0], atol=1e-9)
    assert values[7] == 898.0


def test_values_after_the_origin_are_not_used():
    """Values after the origin change only the subtracted mean."""
    rng = np.random.default_rng(0)
    y = rng.normal(0, 1, 10 * STEPS_PER_DAY)
    later = y.copy()
    later[6 * STEPS_PER_DAY + 1 :] += 50.0
    np.testing.assert_allclose(
        features_at(later, 6 * STEPS_PER_DAY), features_at(y, 6 * STEPS_PER_DAY), rtol=1e-9, atol=1e-9
    )


def test_short_history_gives_nan():
    """In the first hours daily features are NaN, the others are known."""
    values = features_at(np.arange(6.0), 5)
    assert values.shape == (len(ROBUST_FEATURES),)
    assert np.isnan(values[[0, 1, 4, 5, 7]]).all()
    assert np.isfinite(values[[2, 3, 6]]).all()


def test_rows_are_independent_and_slow_columns_are_optional():
    """Rows have the same features together and alone; without slow columns only these are NaN."""
    y = np.random.default_rng(1).normal(0, 1, (9 * STEPS_PER_DAY, 2))
    history = build_history(y, np.zeros(2, np.int64), 3600.0)
    series, now = np.array([0, 0, 0, 1, 1]), np.array([200, 200, 190, 190, 215])
    ahead = np.array([1, 30, 5, 5, 2])
    whole = robust_features(history, series, now, ahead)
    rows = zip(series, now, ahead, strict=True)
    each = [robust_features(history, *(np.array([part]) for part in row))[0] for row in rows]
    np.testing.assert_array_equal(whole, each)
    part = robust_features(history, series, now, ahead, with_slow_columns=False)
    lacks = np.isin(ROBUST_FEATURES, ["last_day_median", "day_change", "step_change"])
    assert np.isnan(part[:, lacks]).all()
    np.testing.assert_array_equal(part[:, ~lacks], whole[:, ~lacks])
