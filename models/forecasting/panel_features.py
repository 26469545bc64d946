"""Features of a forecast: levels at the origin, and lags of days and weeks.

A row is (series, origin, steps ahead). No value after the origin is used.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from trimtab.models.contracts import Bools, Floats, Ints

DAY_S = 86_400
DAY_NS = DAY_S * 10**9
LEVEL_WINDOWS_S = (1, 900, 3600, 3 * 3600, 6 * 3600, DAY_S, 7 * DAY_S)
"""Trailing windows of the levels in seconds."""
LAG_HALF_WIDTH_S = 1800
"""Half width of the window over which a daily or weekly lag is averaged, in seconds."""
FEATURES = (
    "last", "level_15m", "level_1h", "level_3h", "level_6h", "level_day", "level_week",
    "day_raw", "day_1", "day_2", "day_3", "days", "day_wide", "week_1", "week_2", "weeks",
    "past_day", "past_days", "past_day_3h", "past_week", "past_weeks",
)  # fmt: skip
"""Feature columns: levels at the origin, lags of days and weeks at the target and at the origin."""


@dataclass(frozen=True, slots=True)
class History:
    """Series-major values with running sums, so that the mean of any window takes two reads.

    y             : (n_series, n_steps) values minus each series' mean, NaN = no sample
    running_sum   : (n_series, n_steps + 1) sum of the samples before each row
    running_count : (n_series, n_steps + 1) number of samples before each row
    mean          : (n_series,) mean that was subtracted
    first_row     : (n_series,) int64, row of the first sample; n_steps = no sample
    end           : (n_series,) int64, nanoseconds UTC of the last row
    step_s        : seconds between rows
    events        : (n_series, n_known) bool, known days by row, also after the last row; n_known 0 = none
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
        """Number of rows."""
        return int(self.y.shape[1])

    @property
    def steps_per_day(self) -> int:
        """Rows per day, at least one."""
        return int(max(round(DAY_S / self.step_s), 1))

    @property
    def length(self) -> Ints:
        """(n_series,) number of rows from each series' first sample to the end."""
        return np.asarray(self.n_steps - self.first_row, np.int64)

    def select(self, series: slice | Ints) -> "History":
        """Return the history of these series."""
        return History(
            self.y[series], self.running_sum[series], self.running_count[series], self.mean[series],
            self.first_row[series], self.end[series], self.step_s, self.events[series],
        )  # fmt: skip


def build_history(y: Floats, end: Ints, step_s: float, events: Bools | None = None) -> History:
    """Build the history of (n_steps, n_series) values; events as in `Panel`."""
    rows = np.ascontiguousarray(y.T)
    is_sample = np.isfinite(rows)
    total = np.where(is_sample, rows, 0.0)
    mean = total.sum(axis=1) / np.maximum(is_sample.sum(axis=1), 1)
    rows = np.where(is_sample, rows - mean[:, None], np.nan)
    sums, count = (np.zeros((rows.shape[0], rows.shape[1] + 1)) for _ in range(2))
    np.cumsum(np.where(is_sample, rows, 0.0), axis=1, out=sums[:, 1:])
    np.cumsum(is_sample, axis=1, out=count[:, 1:])
    first = np.where(is_sample.any(axis=1), is_sample.argmax(axis=1), rows.shape[1]).astype(np.int64)
    known = np.zeros((len(rows), 0), np.bool_) if events is None else np.ascontiguousarray(events.T)
    return History(rows, sums, count, mean, first, np.asarray(end, np.int64), step_s, known)


def seconds_to_steps(seconds: float, step_s: float) -> int:
    """Return the number of rows in a duration, at least one."""
    return max(round(seconds / step_s), 1)


def features(history: History, series: Ints, origin: Ints, ahead: Ints) -> Floats:
    """Return (n_rows, len(FEATURES)) in the series' unit relative to its mean; NaN = not known at the origin.

    series : (n_rows,) index of the series
    origin : (n_rows,) row of the origin
    ahead  : (n_rows,) steps from the origin to the target, at least 1
    """
    out = np.empty((len(series), len(FEATURES)))
    levels = np.array([seconds_to_steps(s, history.step_s) for s in LEVEL_WINDOWS_S], np.int64)
    half_width = round(LAG_HALF_WIDTH_S / history.step_s)
    _fill_features(
        history.y, history.running_sum, history.running_count, series, origin, ahead, history.steps_per_day,
        levels, half_width, out,
    )  # fmt: skip
    return out


def trailing_medians(history: History, series: Ints, origin: Ints, max_rows: int) -> Floats:
    """Return (n_rows,) medians of the last `max_rows` rows up to each origin; NaN without a sample."""
    first_rows, origin_index = unique_origins(series, origin)
    out = np.empty(len(first_rows))
    _fill_trailing_medians(history.y, series[first_rows], origin[first_rows], max_rows, out)
    return np.asarray(out[origin_index], np.float64)


def unique_origins(series: Ints, origin: Ints) -> tuple[Ints, Ints]:
    """Return the first row of each distinct origin, and for every row the index of its origin.

    >>> [found.tolist() for found in unique_origins(np.array([0, 0, 1]), np.array([5, 5, 5]))]
    [[0, 2], [0, 0, 1]]
    """
    is_new = np.r_[True, (np.diff(series) != 0) | (np.diff(origin) != 0)][: len(series)]
    return np.flatnonzero(is_new), np.cumsum(is_new) - 1


def target_times(history: History, series: Ints, origin: Ints, ahead: Ints) -> Ints:
    """Return (n_rows,) times of the targets in nanoseconds UTC."""
    steps = origin + ahead - (history.n_steps - 1)
    return np.asarray(history.end[series] + np.round(steps * history.step_s * 1e9).astype(np.int64), np.int64)


def event_flags(history: History, series: Ints, origin: Ints, ahead: Ints) -> Floats:
    """Return (n_rows, 2) flags 0 or 1: whether the target, and its daily lag, are on a known day."""
    if not history.events.shape[1]:
        return np.zeros((len(series), 2))
    target = origin + ahead
    lag = target - history.steps_per_day * -(-ahead // history.steps_per_day)
    rows = np.stack([target, lag], axis=1)
    inside = (rows >= 0) & (rows < history.events.shape[1])
    flags = history.events[series[:, None], np.clip(rows, 0, history.events.shape[1] - 1)]
    return np.asarray(flags & inside, np.float64)


@njit(cache=True)
def _window_mean(total, count, i, begin, end):
    """Return the mean of rows begin..end-1; nan if there is no sample."""
    begin = max(begin, 0)
    if end <= begin:
        return math.nan
    n = count[i, end] - count[i, begin]
    return (total[i, end] - total[i, begin]) / n if n > 0.0 else math.nan


@njit(cache=True)
def _smoothed_lag(total, count, i, at, half_width, origin):
    """Return the mean around row `at` of values up to `origin`; nan if `at` is before the first row."""
    if at < 0:
        return math.nan
    return _window_mean(total, count, i, at - half_width, min(at + half_width, origin) + 1)


@njit(cache=True)
def _mean_of_lags(total, count, i, at, half_width, origin, period, max_lags):
    """Return the mean of up to max_lags lags at, at - period, ...; nan if none is known."""
    n_known = 0
    total_of_lags = 0.0
    for k in range(max_lags):
        lag = _smoothed_lag(total, count, i, at - k * period, half_width, origin)
        if not math.isnan(lag):
            total_of_lags += lag
            n_known += 1
    return total_of_lags / n_known if n_known > 0 else math.nan


@njit(cache=True, parallel=True)
def _fill_features(y, total, count, series, origin, ahead, day, levels, half_width, out):
    """Fill the columns of FEATURES row by row."""
    week = 7 * day
    n_levels = levels.shape[0]
    for r in prange(series.shape[0]):
        i, t, target = series[r], origin[r], origin[r] + ahead[r]
        daily = target - day * ((ahead[r] + day - 1) // day)
        weekly = target - week * ((ahead[r] + week - 1) // week)
        for k in range(n_levels):
            out[r, k] = _window_mean(total, count, i, t + 1 - levels[k], t + 1)
        out[r, 7] = y[i, daily] if daily >= 0 else math.nan
        out[r, 8] = _smoothed_lag(total, count, i, daily, half_width, t)
        out[r, 9] = _smoothed_lag(total, count, i, daily - day, half_width, t)
        out[r, 10] = _smoothed_lag(total, count, i, daily - 2 * day, half_width, t)
        out[r, 11] = _mean_of_lags(total, count, i, daily, half_width, t, day, 7)
        out[r, 12] = _smoothed_lag(total, count, i, daily, 4 * half_width, t)
        out[r, 13] = _smoothed_lag(total, count, i, weekly, half_width, t)
        out[r, 14] = _smoothed_lag(total, count, i, weekly - week, half_width, t)
        out[r, 15] = _mean_of_lags(total, count, i, weekly, half_width, t, week, 4)
        out[r, 16] = _smoothed_lag(total, count, i, t - half_width - day, half_width, t)
        out[r, 17] = _mean_of_lags(total, count, i, t - half_width - day, half_width, t, day, 7)
        out[r, 18] = _smoothed_lag(total, count, i, t - 3 * half_width - day, 3 * half_width, t)
        out[r, 19] = _smoothed_lag(total, count, i, t - half_width - week, half_width, t)
        out[r, 20] = _mean_of_lags(total, count, i, t - half_width - week, half_width, t, week, 4)


@njit(cache=True, parallel=True)
def _fill_trailing_medians(y, series, origin, max_rows, out):
    """Fill the median of each row's last values."""
    for r in prange(series.shape[0]):
        past = y[series[r], max(origin[r] + 1 - max_rows, 0) : origin[r] + 1]
        past = past[~np.isnan(past)]
        out[r] = np.median(past) if past.size > 0 else math.nan
