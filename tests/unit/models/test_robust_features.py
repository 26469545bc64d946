"""Medians and restlessness that the trees are told."""

import numpy as np

from trimtab.models.forecasting.panel_features import build_history
from trimtab.models.forecasting.robust_features import ROBUST_FEATURES, robust_features

STEPS_PER_DAY = 24


def features_at(y, now, ahead=3):
    """The features of one series of hours from one origin."""
    history = build_history(np.asarray(y, float)[:, None], np.zeros(1, np.int64), 3600.0)
    found = robust_features(history, np.array([0]), np.array([now]), np.array([ahead]))[0]
    found[:4] += history.mean[0]
    return found


def test_a_burst_moves_no_median():
    """A day's course with one burst at the target's time has the median that it has without."""
    rows = np.arange(8 * STEPS_PER_DAY)
    y = rows % STEPS_PER_DAY * 1.0
    y[-STEPS_PER_DAY + 2] = 900.0
    found = features_at(y, len(y) - 1)
    assert found[0] == 2.0
    assert found[1] == 900.0
    np.testing.assert_allclose(found[2:5], [23.0, 12.5, 0.0], atol=1e-9)
    assert found[7] == 898.0


def test_nothing_behind_the_origin_is_read():
    """Values after the origin change nothing but the middle that is taken off."""
    rng = np.random.default_rng(0)
    y = rng.normal(0, 1, 10 * STEPS_PER_DAY)
    later = y.copy()
    later[6 * STEPS_PER_DAY + 1 :] += 50.0
    np.testing.assert_allclose(
        features_at(later, 6 * STEPS_PER_DAY), features_at(y, 6 * STEPS_PER_DAY), rtol=1e-9, atol=1e-9
    )


def test_short_pasts_are_unknown():
    """In its first hours a series has no day before it: NaN, and what is known is there."""
    found = features_at(np.arange(6.0), 5)
    assert found.shape == (len(ROBUST_FEATURES),)
    assert np.isnan(found[[0, 1, 4, 5, 7]]).all()
    assert np.isfinite(found[[2, 3, 6]]).all()


def test_rows_of_one_origin_are_told_alike_and_what_takes_longest_can_be_left_out():
    """Rows together give what each gives alone; without the whole, only changes and the day's median lack."""
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
