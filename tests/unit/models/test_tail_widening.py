"""Widened outer quantiles and the cold-start forecast."""

import numpy as np
import pytest

from trimtab.models.forecasting.cold_start import ColdStart, reverting_forecast
from trimtab.models.forecasting.panel_features import build_history, trailing_medians
from trimtab.models.forecasting.quantile_levels import QUANTILE_LEVELS
from trimtab.models.forecasting.tail_widening import (
    MAX_NAIVE_SHARE,
    STRETCH,
    naive_error_quantiles,
    widen_tails,
)

STEPS_PER_DAY = 24
NARROW = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])[:, None, None] * np.ones((1, 24, 1))


def make_hourly_history(y):
    """Return the history of one hourly series."""
    return build_history(np.asarray(y, float)[:, None], np.zeros(1, np.int64), 3600.0)


def test_naive_errors_are_about_their_median():
    """A load that grows evenly has no naive errors; with less than a day they are unknown."""
    assert naive_error_quantiles(make_hourly_history(np.arange(3 * STEPS_PER_DAY))).tolist() == [
        [0.0] * len(QUANTILE_LEVELS)
    ]
    assert np.isnan(naive_error_quantiles(make_hourly_history(np.ones(STEPS_PER_DAY)))).all()


@pytest.mark.parametrize(("step", "share"), [(1, 0.0), (6, MAX_NAIVE_SHARE), (24, MAX_NAIVE_SHARE)])
def test_outer_levels_widen_with_the_naive_errors(step, share):
    """Outer levels get the naive share from an hour ahead on; inner levels do not."""
    rng = np.random.default_rng(0)
    history = make_hourly_history(rng.normal(0, 30, 10 * STEPS_PER_DAY))
    naive = naive_error_quantiles(history)[0]
    out = widen_tails(NARROW, history)[:, step - 1, 0]
    for k, level in enumerate(QUANTILE_LEVELS):
        own = NARROW[k, 0, 0] * STRETCH.get(level, 1.0)
        weight = share if level in STRETCH else 0.0
        assert out[k] == pytest.approx((1 - weight) * own + weight * naive[k])
    assert (np.diff(out) >= 0).all()


def test_without_a_day_the_tails_are_only_stretched():
    """Without naive errors the outer levels are only stretched."""
    out = widen_tails(NARROW, make_hourly_history(np.ones(STEPS_PER_DAY // 2)))[:, -1, 0]
    np.testing.assert_allclose(out, [-1.0, 0.0, 0.5, 1.0, 2.0 * STRETCH[0.99]])


def test_trailing_medians():
    """The median covers the last rows up to an origin; missing and later values are ignored."""
    history = make_hourly_history([5.0, np.nan, 1.0, 9.0, 100.0])
    series, now = np.zeros(4, np.int64), np.array([0, 3, 3, 4])
    np.testing.assert_allclose(trailing_medians(history, series, now, 3) + history.mean, [5.0, 5.0, 5.0, 9.0])
    assert np.isnan(trailing_medians(make_hourly_history([np.nan, 1.0]), series[:1], now[:1], 3)).all()


def test_cold_start_ignores_a_burst():
    """Four hours of forty times the load do not change the forecast of the next day."""
    y = np.full(12, 10.0)
    y[2:6] = 400.0
    history = make_hourly_history(y)
    far = reverting_forecast(history, np.zeros(1, np.int64), np.array([11]), np.array([STEPS_PER_DAY]))
    assert float(far[0] + history.mean[0]) == pytest.approx(10.0)


def test_cold_start_spread_grows_with_the_horizon():
    """The spread does not shrink with the horizon, and unseen horizons have the assumed minimum."""
    rng = np.random.default_rng(0)
    y = 20 + rng.normal(0, 2, (144, 12)) + np.linspace(0, 5, 144)[:, None]
    history = build_history(y, np.zeros(12, np.int64), 300.0)
    pool = ColdStart(86_400.0)
    pool.fit(history)
    width = pool.predict(history, 288)[-1] - pool.predict(history, 288)[1]
    assert (np.diff(width, axis=0) >= -1e-9).all()
    assert (width[-1] >= 7 * history.y.std(axis=1) - 1e-6).all()
