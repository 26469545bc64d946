"""What a forecast of one series can be made of: its levels, and the lags of days and weeks.

A row is (series, origin, steps ahead). Nothing behind the origin is read.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from trimtab.models.contracts import Bools, Floats, Ints

DAY_S = 86_400
DAY_NS = DAY_S * 10**9
LEVEL_WINDOWS_S = (1, 900, 3600, 3 * 3600, 6 * 3600, DAY_S, 7 * DAY_S)
"""Trailing windows whose means are levels, in seconds."""
LAG_HALF_WIDTH_S = 1800
"""Half width of the window in which a day's or a week's lag is averaged, in seconds."""
FEATURES = (
    "last", "level_15m", "level_1h", "level_3h", "level_6h", "level_day", "level_week",
    "day_raw", "day_1", "day_2", "day_3", "days", "day_wide", "week_1", "week_2", "weeks",
    "past_day", "past_days", "past_day_3h", "past_week", "past_weeks",
)  # fmt: skip
"""The columns: levels at the origin, a day's and a week's lags at the target, the same lags at the origin."""


@dataclass(frozen=True, slots=True)
class History:
    """Series-major values and running sums, so that the mean of any window is two reads.

    y      : (n_series, n_steps) values about each series' own middle, NaN = no sample
    total  : (n_series, n_steps + 1) running sum of the samples
    count  : (n_series, n_steps + 1) running number of samples
    middle : (n_series,) what was taken off
    first  : (n_series,) int64, row of the first sample; n_steps where there is none
    end    : (n_series,) int64, nanoseconds UTC of the last row
    events : (n_series, n_known) bool, known days row by row, beyond the last row too; n_known 0 = none
    step_s : seconds from row to row
    """

    y: Floats
    running_sum: Floats
    running_count: Floats
    mean: Floats
    first_row: Ints
    end: Ints
    step_s: float
    events: Bools

    @property
    def n_steps(self) -> int:
        """Rows that there are."""
        return int(self.y.shape[1])

    @property
    def steps_per_day(self) -> int:
        """Rows in a day, at least one."""
        return int(max(round(DAY_S / self.step_s), 1))

    @property
    def length(self) -> Ints:
        """(n_series,) rows from each series' first sample to the end."""
        return np.asarray(self.n_steps - self.first_row, np.int64)

    def select(self, cut: slice | Ints) -> "History":
        """These series alone."""
        return History(
            self.y[cut], self.running_sum[cut], self.running_count[cut], self.mean[cut], self.first_row[cut], self.end[cut],
            self.step_s, self.events[cut],
        )  # fmt: skip


def build_history(y: Floats, end: Ints, step_s: float, events: Bools | None = None) -> History:
    """Running sums of (n_steps, n_series) values; events as in a Panel."""
    rows = np.ascontiguousarray(y.T)
    there = np.isfinite(rows)
    total = np.where(there, rows, 0.0)
    middle = total.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    rows = np.where(there, rows - middle[:, None], np.nan)
    sums, count = (np.zeros((rows.shape[0], rows.shape[1] + 1)) for _ in range(2))
    np.cumsum(np.where(there, rows, 0.0), axis=1, out=sums[:, 1:])
    np.cumsum(there, axis=1, out=count[:, 1:])
    first = np.where(there.any(axis=1), there.argmax(axis=1), rows.shape[1]).astype(np.int64)
    known = np.zeros((len(rows), 0), np.bool_) if events is None else np.ascontiguousarray(events.T)
    return History(rows, sums, count, middle, first, np.asarray(end, np.int64), step_s, known)


def seconds_to_steps(seconds: float, step_s: float) -> int:
    """Rows that a duration takes, at least one."""
    return max(round(seconds / step_s), 1)


def features(history: History, series: Ints, origin: Ints, ahead: Ints) -> Floats:
    """(n_rows, len(VALUES)) in the series' unit about its middle, NaN = not known at that origin.

    series : (n_rows,) which series
    now    : (n_rows,) row of the origin
    ahead  : (n_rows,) steps from the origin to the target, at least 1
    """
    out = np.empty((len(series), len(FEATURES)))
    levels = np.array([seconds_to_steps(s, history.step_s) for s in LEVEL_WINDOWS_S], np.int64)
    half = round(LAG_HALF_WIDTH_S / history.step_s)
    _fill_features(
        history.y, history.running_sum, history.running_count, series, origin, ahead, history.steps_per_day, levels, half, out
    )  # fmt: skip
    return out


def trailing_medians(history: History, series: Ints, origin: Ints, max_rows: int) -> Floats:
    """(n_rows,) median of the last `most` rows up to each origin, NaN where none is known."""
    new, of = unique_origins(series, origin)
    out = np.empty(len(new))
    _fill_trailing_medians(history.y, series[new], origin[new], max_rows, out)
    return np.asarray(out[of], np.float64)


def unique_origins(series: Ints, origin: Ints) -> tuple[Ints, Ints]:
    """Rows at which another origin begins, and which of these each row has.

    >>> [found.tolist() for found in unique_origins(np.array([0, 0, 1]), np.array([5, 5, 5]))]
    [[0, 2], [0, 0, 1]]
    """
    new = np.r_[True, (np.diff(series) != 0) | (np.diff(origin) != 0)][: len(series)]
    return np.flatnonzero(new), np.cumsum(new) - 1


def target_times(history: History, series: Ints, origin: Ints, ahead: Ints) -> Ints:
    """(n_rows,) nanoseconds UTC of the targets."""
    steps = origin + ahead - (history.n_steps - 1)
    return np.asarray(history.end[series] + np.round(steps * history.step_s * 1e9).astype(np.int64), np.int64)


def event_flags(history: History, series: Ints, origin: Ints, ahead: Ints) -> Floats:
    """(n_rows, 2): whether the target, and the day's lag that it is compared with, lie in a known day."""
    if not history.events.shape[1]:
        return np.zeros((len(series), 2))
    to = origin + ahead
    lag = to - history.steps_per_day * -(-ahead // history.steps_per_day)
    rows = np.stack([to, lag], axis=1)
    inside = (rows >= 0) & (rows < history.events.shape[1])
    flags = history.events[series[:, None], np.clip(rows, 0, history.events.shape[1] - 1)]
    return np.asarray(flags & inside, np.float64)


@njit(cache=True)
def _window_mean(total, count, i, begin, end):
    """Mean of rows begin..end-1; nan where none is there."""
    begin = max(begin, 0)
    if end <= begin:
        return math.nan
    n = count[i, end] - count[i, begin]
    return (total[i, end] - total[i, begin]) / n if n > 0.0 else math.nan


@njit(cache=True)
def _smoothed_lag(total, count, i, at, half, now):
    """Mean about row `at`, of what is not behind `now`; nan in front of the first row."""
    if at < 0:
        return math.nan
    return _window_mean(total, count, i, at - half, min(at + half, now) + 1)


@njit(cache=True)
def _mean_of_lags(total, count, i, at, half, now, pace, most):
    """Mean of the lags at, at - pace ... of which there are at most so many."""
    found = 0
    whole = 0.0
    for k in range(most):
        one = _smoothed_lag(total, count, i, at - k * pace, half, now)
        if not math.isnan(one):
            whole += one
            found += 1
    return whole / found if found > 0 else math.nan


@njit(cache=True, parallel=True)
def _fill_features(y, total, count, series, now, ahead, day, levels, half, out):
    """The columns of VALUES, row by row."""
    week = 7 * day
    n_levels = levels.shape[0]
    for r in prange(series.shape[0]):
        i, t, to = series[r], now[r], now[r] + ahead[r]
        one = to - day * ((ahead[r] + day - 1) // day)
        seven = to - week * ((ahead[r] + week - 1) // week)
        for k in range(n_levels):
            out[r, k] = _window_mean(total, count, i, t + 1 - levels[k], t + 1)
        out[r, 7] = y[i, one] if one >= 0 else math.nan
        out[r, 8] = _smoothed_lag(total, count, i, one, half, t)
        out[r, 9] = _smoothed_lag(total, count, i, one - day, half, t)
        out[r, 10] = _smoothed_lag(total, count, i, one - 2 * day, half, t)
        out[r, 11] = _mean_of_lags(total, count, i, one, half, t, day, 7)
        out[r, 12] = _smoothed_lag(total, count, i, one, 4 * half, t)
        out[r, 13] = _smoothed_lag(total, count, i, seven, half, t)
        out[r, 14] = _smoothed_lag(total, count, i, seven - week, half, t)
        out[r, 15] = _mean_of_lags(total, count, i, seven, half, t, week, 4)
        out[r, 16] = _smoothed_lag(total, count, i, t - half - day, half, t)
        out[r, 17] = _mean_of_lags(total, count, i, t - half - day, half, t, day, 7)
        out[r, 18] = _smoothed_lag(total, count, i, t - 3 * half - day, 3 * half, t)
        out[r, 19] = _smoothed_lag(total, count, i, t - half - week, half, t)
        out[r, 20] = _mean_of_lags(total, count, i, t - half - week, half, t, week, 4)


@njit(cache=True, parallel=True)
def _fill_trailing_medians(y, series, now, most, out):
    """The median of each row's past."""
    for r in prange(series.shape[0]):
        past = y[series[r], max(now[r] + 1 - most, 0) : now[r] + 1]
        past = past[~np.isnan(past)]
        out[r] = np.median(past) if past.size > 0 else math.nan
