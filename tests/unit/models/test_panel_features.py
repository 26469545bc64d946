"""Forecast features: windows, lags, and no value after the origin."""

import numpy as np
import pytest

from trimtab.models.forecasting.linear_pool import change_scale, sample_origins
from trimtab.models.forecasting.panel_features import (
    FEATURES,
    build_history,
    event_flags,
    features,
    target_times,
)

STEPS_PER_DAY = 24


def make_history(seed=0, n=20 * STEPS_PER_DAY, events=None):
    """Return two hourly series with gaps, and their history."""
    y = np.random.default_rng(seed).normal(10, 3, (n, 2))
    y[5 * STEPS_PER_DAY : 5 * STEPS_PER_DAY + 3, 0] = np.nan
    return y, build_history(y, np.array([10**18, 2 * 10**18]), 3600.0, events)


def column(x, name):
    """Return one feature column."""
    return x[:, FEATURES.index(name)]


@pytest.mark.parametrize("ahead", [1, 5, 24, 25, 48])
def test_columns_match_their_names(ahead):
    """Levels are means up to the origin; lags are whole days and weeks before the target."""
    y, h = make_history()
    now = 17 * STEPS_PER_DAY + 3
    x = features(h, np.array([0]), np.array([now]), np.array([ahead])) + h.mean[0]
    lag = now + ahead - STEPS_PER_DAY * -(-ahead // STEPS_PER_DAY)

    def about(at, half=0):
        return np.nanmean(y[at - half : min(at + half, now) + 1, 0])

    assert column(x, "last")[0] == pytest.approx(y[now, 0])
    assert column(x, "level_6h")[0] == pytest.approx(np.nanmean(y[now - 5 : now + 1, 0]))
    assert column(x, "level_week")[0] == pytest.approx(
        np.nanmean(y[now - 7 * STEPS_PER_DAY + 1 : now + 1, 0])
    )
    assert column(x, "day_raw")[0] == pytest.approx(y[lag, 0])
    assert column(x, "day_2")[0] == pytest.approx(about(lag - STEPS_PER_DAY))
    assert column(x, "days")[0] == pytest.approx(
        np.nanmean([about(lag - k * STEPS_PER_DAY) for k in range(7)])
    )
    assert column(x, "week_1")[0] == pytest.approx(about(now + ahead - 7 * STEPS_PER_DAY))


def test_values_after_the_origin_are_not_used():
    """Other values after an origin do not change its features."""
    y, h = make_history()
    now = np.full(60, 12 * STEPS_PER_DAY)
    series, ahead = np.arange(60) % 2, 1 + np.arange(60)
    before = features(h, series, now, ahead) + h.mean[series, None]
    y[12 * STEPS_PER_DAY + 1 :] = -1e3
    other = build_history(y, h.end, 3600.0)
    after = features(other, series, now, ahead) + other.mean[series, None]
    np.testing.assert_allclose(after, before, rtol=1e-9)


def test_lags_before_the_first_row_are_unknown():
    """A lag before the first row is NaN; a level uses the existing rows."""
    _, h = make_history()
    x = features(h, np.array([1]), np.array([10]), np.array([1]))
    assert np.isnan(column(x, "day_1")).all()
    assert np.isnan(column(x, "week_1")).all()
    assert np.isfinite(column(x, "level_week")).all()


def test_known_days_are_flagged():
    """A row flags whether its target and its daily lag are on known days, also after the last row."""
    events = np.zeros((21 * STEPS_PER_DAY, 2), bool)
    events[20 * STEPS_PER_DAY :, 0] = True
    _, h = make_history(events=events)
    now = np.array([20 * STEPS_PER_DAY - 1, 20 * STEPS_PER_DAY - 1, 20 * STEPS_PER_DAY - 1])
    flags = event_flags(h, np.array([0, 1, 0]), now, np.array([1, 1, 30]))
    assert flags.tolist() == [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_times_count_from_the_end():
    """A target's time is that of the last row plus its steps."""
    _, h = make_history()
    times = target_times(h, np.array([1]), np.array([h.n_steps - 3]), np.array([4]))
    assert times.tolist() == [2 * 10**18 + 2 * 3600 * 10**9]


def test_training_targets_lie_in_the_panel():
    """Training targets lie within the panel, after enough history."""
    _, h = make_history()
    rows = sample_origins(
        h, change_scale(h), (3, 9), per_series=50, min_history=STEPS_PER_DAY, max_age=10 * STEPS_PER_DAY
    )
    assert rows.is_known.mean() > 0.9
    assert (rows.origin[rows.is_known] >= STEPS_PER_DAY).all()
    assert (rows.origin[rows.is_known] >= h.n_steps - 10 * STEPS_PER_DAY).all()
    assert (rows.origin + rows.ahead < h.n_steps)[rows.is_known].all()
    assert set(np.unique(rows.ahead)) == set(range(4, 10))
