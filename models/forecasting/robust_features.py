"""Robust features of the trees: medians, unaffected by bursts, and the current variability of a series."""

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
"""Number of days whose medians are compared."""


def robust_features(
    history: History, series: Ints, origin: Ints, ahead: Ints, with_slow_columns: bool = True
) -> Floats:
    """Return (n_rows, len(ROBUST_FEATURES)) in the series' unit relative to its mean; NaN = not known.

    series, origin, ahead : (n_rows,) index of the series, row of the origin, steps to the target
    with_slow_columns     : False leaves last_day_median, day_change and step_change NaN

    week_median     : median over a week of the daily medians around the target's time of day
    day_median      : the last of these daily medians
    hour_median     : median of the last hour
    last_day_median : median of the last day
    hour_over_usual : median of the last hour minus the usual value at that time of day
    day_change      : mean change from one day to the next, over three hours
    step_change     : mean change from row to row, over the last hour
    week_range      : range of the daily medians

    On 33 loads at 2 origins these features reduced the error over a day, relative to seasonal naive, from
    0.739 to 0.719 and the loss at 0.99 from 0.949 to 0.926. Either half of the loads gave the same.
    """
    out = np.empty((len(series), len(ROBUST_FEATURES)))
    half_width, hour, day = (
        round(LAG_HALF_WIDTH_S / history.step_s),
        seconds_to_steps(3600, history.step_s),
        history.steps_per_day,
    )
    first_rows, origin_index = unique_origins(series, origin)
    origins = np.empty((len(first_rows), len(_ORIGIN_COLUMNS)))
    _fill_origin_columns(
        history.y, series[first_rows], origin[first_rows], day, half_width, hour, with_slow_columns, origins
    )
    out[:, _ORIGIN_COLUMNS] = origins[origin_index]
    _fill_target_columns(history.y, series, origin, ahead, day, half_width, out)
    return out


@njit(cache=True)
def _window_median(y, i, begin, end):
    """Return the median of rows begin..end-1; nan if there is no sample or begin is before the first row."""
    if begin < 0 or end <= begin:
        return math.nan
    part = y[i, begin:end]
    part = part[~np.isnan(part)]
    return np.median(part) if part.size > 0 else math.nan


@njit(cache=True)
def _nan_median(values):
    """Return the median of the known values; nan if there are none."""
    known = values[~np.isnan(values)]
    return np.median(known) if known.size > 0 else math.nan


@njit(cache=True)
def _nan_range(values):
    """Return largest minus smallest known value; nan if there are fewer than two."""
    known = values[~np.isnan(values)]
    return known.max() - known.min() if known.size > 1 else math.nan


@njit(cache=True)
def _mean_change(y, i, t, rows, lag):
    """Return the mean absolute change over `lag` rows in the last `rows` rows; nan if none is known."""
    total, n_known = 0.0, 0
    for k in range(max(t - rows + 1, lag), t + 1):
        change = abs(y[i, k] - y[i, k - lag])
        if not math.isnan(change):
            total += change
            n_known += 1
    return total / n_known if n_known > 0 else math.nan


@njit(cache=True, parallel=True)
def _fill_origin_columns(y, series, origin, day, half_width, hour, with_slow_columns, out):
    """Fill the columns of _ORIGIN_COLUMNS, which depend on the origin only."""
    for r in prange(series.shape[0]):
        i, t = series[r], origin[r]
        past = np.empty(MEDIAN_DAYS)
        for k in range(MEDIAN_DAYS):
            back = t - half_width - (k + 1) * day
            past[k] = _window_median(y, i, back - half_width, back + half_width + 1)
        recent = _window_median(y, i, max(t + 1 - hour, 0), t + 1)
        out[r, 0] = recent
        out[r, 1] = recent - _nan_median(past)
        out[r, 2:] = math.nan
        if with_slow_columns:
            out[r, 2] = _window_median(y, i, max(t + 1 - day, 0), t + 1)
            out[r, 3] = _mean_change(y, i, t, 3 * hour, day)
            out[r, 4] = _mean_change(y, i, t, hour, 1)


@njit(cache=True, parallel=True)
def _fill_target_columns(y, series, origin, ahead, day, half_width, out):
    """Fill the columns that depend on the target's time of day."""
    for r in prange(series.shape[0]):
        i, t = series[r], origin[r]
        latest = t + ahead[r] - day * ((ahead[r] + day - 1) // day)
        medians = np.empty(MEDIAN_DAYS)
        for k in range(MEDIAN_DAYS):
            at = latest - k * day
            medians[k] = _window_median(y, i, at - half_width, min(at + half_width, t) + 1)
        out[r, 0] = _nan_median(medians)
        out[r, 1] = medians[0]
        out[r, 7] = _nan_range(medians)
