"""What the trees are told beside means: medians that no burst moves, and how restless a series is now."""

import math

import numpy as np
from numba import njit, prange

from trimtab.models.contracts import Floats, Ints
from trimtab.models.forecasting.panel_features import (
    LAG_HALF_WIDTH_S,
    History,
    seconds_to_steps,
    unique_origins,
)

MEDIANS = ("week_median", "day_median", "hour_median", "last_day_median")
ROBUST_FEATURES = (*MEDIANS, "hour_over_usual", "day_change", "step_change", "week_range")
HOUR_OVER_USUAL = ROBUST_FEATURES.index("hour_over_usual")
_ORIGIN_COLUMNS = [
    ROBUST_FEATURES.index(name)
    for name in ("hour_median", "hour_over_usual", "last_day_median", "day_change", "step_change")
]
MEDIAN_DAYS = 7
"""The days whose medians are compared."""


def robust_features(
    history: History, series: Ints, origin: Ints, ahead: Ints, with_slow_columns: bool = True
) -> Floats:
    """(n_rows, len(ROBUST)) in the series' unit about its middle, NaN = not known at that origin.

    series, now, ahead : (n_rows,) which series, row of the origin, steps to the target
    whole              : False = the last day's median, and the changes, stay NaN: they take longest

    The median of a week's medians about the target's time of the day, that of the day before, the last hour's
    and the last day's median. Then the last hour over that time of the day, the mean change from a day to the
    next over three hours, that from row to row over one, the range of the week's medians. On 33 loads at 2
    origins these took the error over a day from .739 to .719 of the naive one, the loss at 0.99 from .949 to
    .926; on either half of the loads alike.
    """
    out = np.empty((len(series), len(ROBUST_FEATURES)))
    half, hour, day = (
        round(LAG_HALF_WIDTH_S / history.step_s),
        seconds_to_steps(3600, history.step_s),
        history.steps_per_day,
    )
    new, of = unique_origins(series, origin)
    origins = np.empty((len(new), len(_ORIGIN_COLUMNS)))
    _fill_origin_columns(history.y, series[new], origin[new], day, half, hour, with_slow_columns, origins)
    out[:, _ORIGIN_COLUMNS] = origins[of]
    _fill_target_columns(history.y, series, origin, ahead, day, half, out)
    return out


@njit(cache=True)
def _window_median(y, i, begin, end):
    """Median of rows begin..end-1; nan where none is there, or begin lies before the first row."""
    if begin < 0 or end <= begin:
        return math.nan
    part = y[i, begin:end]
    part = part[~np.isnan(part)]
    return np.median(part) if part.size > 0 else math.nan


@njit(cache=True)
def _nan_median(values):
    """Median of what is known."""
    known = values[~np.isnan(values)]
    return np.median(known) if known.size > 0 else math.nan


@njit(cache=True)
def _nan_range(values):
    """Largest less smallest of what is known; nan below two."""
    known = values[~np.isnan(values)]
    return known.max() - known.min() if known.size > 1 else math.nan


@njit(cache=True)
def _mean_change(y, i, t, rows, lag):
    """Mean absolute change over `lag` rows, of the last `rows`."""
    whole, found = 0.0, 0
    for k in range(max(t - rows + 1, lag), t + 1):
        size = abs(y[i, k] - y[i, k - lag])
        if not math.isnan(size):
            whole += size
            found += 1
    return whole / found if found > 0 else math.nan


@njit(cache=True, parallel=True)
def _fill_origin_columns(y, series, now, day, half, hour, whole, out):
    """The columns of _OF_ORIGIN."""
    for r in prange(series.shape[0]):
        i, t = series[r], now[r]
        past = np.empty(MEDIAN_DAYS)
        for k in range(MEDIAN_DAYS):
            back = t - half - (k + 1) * day
            past[k] = _window_median(y, i, back - half, back + half + 1)
        recent = _window_median(y, i, max(t + 1 - hour, 0), t + 1)
        out[r, 0] = recent
        out[r, 1] = recent - _nan_median(past)
        out[r, 2:] = math.nan
        if whole:
            out[r, 2] = _window_median(y, i, max(t + 1 - day, 0), t + 1)
            out[r, 3] = _mean_change(y, i, t, 3 * hour, day)
            out[r, 4] = _mean_change(y, i, t, hour, 1)


@njit(cache=True, parallel=True)
def _fill_target_columns(y, series, now, ahead, day, half, out):
    """The columns that stand about the target's time of the day."""
    for r in prange(series.shape[0]):
        i, t = series[r], now[r]
        one = t + ahead[r] - day * ((ahead[r] + day - 1) // day)
        then = np.empty(MEDIAN_DAYS)
        for k in range(MEDIAN_DAYS):
            at = one - k * day
            then[k] = _window_median(y, i, at - half, min(at + half, t) + 1)
        out[r, 0] = _nan_median(then)
        out[r, 1] = then[0]
        out[r, 7] = _nan_range(then)
