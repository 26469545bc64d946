"""Medians and restlessness that the trees are told."""

import numpy as np

from trimtab.models.panel_features import history_of
from trimtab.models.robust_features import ROBUST, robust_features

DAY = 24


def told(y, now, ahead=3):
    """The features of one series of hours from one origin."""
    history = history_of(np.asarray(y, float)[:, None], np.zeros(1, np.int64), 3600.0)
    at = np.array([[now]]), np.array([[ahead]])
    found = robust_features(history, *at)[0, 0]
    found[:4] += history.middle[0]
    return found


def test_a_burst_moves_no_median():
    """A day's course with one burst at the target's time has the median that it has without."""
    rows = np.arange(8 * DAY)
    y = rows % DAY * 1.0
    y[-DAY + 2] = 900.0
    found = told(y, len(y) - 1)
    assert found[0] == 2.0
    assert found[1] == 900.0
    np.testing.assert_allclose(found[2:5], [23.0, 12.5, 0.0], atol=1e-9)
    assert found[7] == 898.0


def test_nothing_behind_the_origin_is_read():
    """Values after the origin change nothing but the middle that is taken off."""
    rng = np.random.default_rng(0)
    y = rng.normal(0, 1, 10 * DAY)
    later = y.copy()
    later[6 * DAY + 1 :] += 50.0
    np.testing.assert_allclose(told(later, 6 * DAY), told(y, 6 * DAY), rtol=1e-9, atol=1e-9)


def test_short_pasts_are_unknown():
    """In its first hours a series has no day before it: NaN, and what is known is there."""
    found = told(np.arange(6.0), 5)
    assert found.shape == (len(ROBUST),)
    assert np.isnan(found[[0, 1, 4, 5, 7]]).all()
    assert np.isfinite(found[[2, 3, 6]]).all()
