"""Compiled walk-forward forecast of `trimtab.models.scaling.load_ahead` over one load.

Training rows and forecasts use the same code, so they cannot differ. `cum` is a running sum with a leading
zero: cum[i] is the sum of the first i values.
"""

import math

import numpy as np
from numba import njit

N_SHAPE_FEATURES = 12
"""Features of the expected change: recent changes and the usual course of the day."""
N_SPREAD_FEATURES = 9
"""Features of the error size, in the load's unit and not negative."""
EARLIER_DAYS = 7
"""Number of earlier days that define the usual value at a time of day."""


@njit(cache=True, nogil=True)
def nonnegative_quadratic_minimum(gram, moment):
    """Return the w >= 0 that minimises w'Gw/2 - m'w by coordinate descent; gram's diagonal must be positive.

    >>> nonnegative_quadratic_minimum(np.eye(2), np.array([3.0, -1.0])).tolist()
    [3.0, 0.0]
    """
    weights = np.zeros(len(moment))
    for _ in range(200):
        largest_change, largest = 0.0, 1e-300
        for j in range(len(moment)):
            residual = moment[j] + gram[j, j] * weights[j]
            for k in range(len(moment)):
                residual -= gram[j, k] * weights[k]
            new = max(0.0, residual / gram[j, j])
            largest_change = max(largest_change, abs(new - weights[j]))
            largest = max(largest, new)
            weights[j] = new
        if largest_change <= 1e-6 * largest:
            break
    return weights


@njit(cache=True, nogil=True)
def window_mean(cum, n, first, last):
    """Return the mean of the values first..last (inclusive) among the first n; NaN if there are none."""
    lo, hi = max(0, first), min(n, last + 1)
    if hi <= lo:
        return math.nan
    return (cum[hi] - cum[lo]) / (hi - lo)


@njit(cache=True, nogil=True)
def usual_at_time_of_day(cum, n, at, width, day, days):
    """Return the median over earlier days of the mean around the same time of day; NaN if no day is known."""
    means = np.empty(days)
    n_known = 0
    for d in range(1, days + 1):
        mean = window_mean(cum, n, at - d * day - width, at - d * day + width)
        if not math.isnan(mean):
            means[n_known] = mean
            n_known += 1
    if n_known == 0:
        return math.nan
    return np.median(means[:n_known])


@njit(cache=True, nogil=True)
def fill_shape_features(x, cum, i, ahead, day, change_lags, mean_windows, half_widths, out):
    """Fill the shape features of the load at tick i for a horizon of `ahead` ticks; 0 = not known."""
    n, now, k = i + 1, x[i], 0
    for back in change_lags:
        out[k] = now - x[max(0, i - back)]
        k += 1
    for back in mean_windows:
        out[k] = now - window_mean(cum, n, i - back, i)
        k += 1
    broad = usual_at_time_of_day(cum, n, i + ahead, half_widths[0], day, EARLIER_DAYS)
    out[k] = broad - usual_at_time_of_day(cum, n, i, half_widths[0], day, EARLIER_DAYS)
    out[k + 1] = usual_at_time_of_day(
        cum, n, i + ahead, half_widths[1], day, EARLIER_DAYS
    ) - usual_at_time_of_day(cum, n, i, half_widths[1], day, EARLIER_DAYS)
    out[k + 2] = usual_at_time_of_day(cum, n, i + ahead, half_widths[1], day, 1) - usual_at_time_of_day(
        cum, n, i, half_widths[1], day, 1
    )
    out[k + 3] = broad - now
    for j in range(N_SHAPE_FEATURES):
        if math.isnan(out[j]):
            out[j] = 0.0


@njit(cache=True, nogil=True)
def shape_features(x, cum, rows, ahead, day, change_lags, mean_windows, half_widths):
    """Return (n_rows, N_SHAPE_FEATURES) for the ticks `rows`."""
    out = np.empty((len(rows), N_SHAPE_FEATURES))
    for r in range(len(rows)):
        fill_shape_features(x, cum, rows[r], ahead, day, change_lags, mean_windows, half_widths, out[r])
    return out


@njit(cache=True, nogil=True)
def fill_spread_features(
    x, cum, error_sum, i, ahead, day, mean_windows, half_widths, expected, recent, level, out
):
    """Fill the error features of the forecast made at tick i.

    expected : the forecast
    recent   : (6,) running means of errors; the first two belong to the choice in `walk_forward`
    """
    error = 0.0
    n_known = 0
    for d in range(1, EARLIER_DAYS + 1):
        at = i + ahead - d * day
        mean = window_mean(error_sum, i + 1, at - half_widths[0], at + half_widths[0])
        if not math.isnan(mean):
            error += mean
            n_known += 1
    for j in range(4):
        out[j] = recent[2 + j]
    out[4] = error / n_known if n_known else 0.0
    out[5] = 0.05 * abs(expected)
    out[6] = 0.05 * math.sqrt(abs(expected) * abs(level))
    out[7] = abs(x[i] - expected)
    out[8] = abs(x[i] - window_mean(cum, i + 1, i - mean_windows[0] * 2, i))


@njit(cache=True, nogil=True)
def walk_forward(
    x,
    cum,
    first,
    last,
    ahead,
    day,
    change_lags,
    mean_windows,
    half_widths,
    rates,
    weights,
    regression,
    expected,
    error_sum,
    recent,
    spreads,
):
    """Process the ticks first..last-1: forecast `ahead` ticks and fill the features of the forecast's error.

    weights    : (N_SHAPE_FEATURES,) weights of the shape features
    regression : (n,) forecasts of the regression alone, filled at the tick that makes the forecast
    expected   : (n,) regression mixed with the current load, weighted by their recent errors
    error_sum  : (n + 1,) running sum of the absolute errors
    recent     : (6,) running means of errors: regression, current load, then the mix at four rates
    spreads    : (last - first, N_SPREAD_FEATURES), filled
    """
    shape = np.empty(N_SHAPE_FEATURES)
    for i in range(first, last):
        fill_shape_features(x, cum, i, ahead, day, change_lags, mean_windows, half_widths, shape)
        regression[i] = x[i] + np.dot(shape, weights)
        error, origin = 0.0, i - ahead
        if origin >= 0:
            error = abs(x[i] - expected[origin])
            recent[0] += rates[0] * (abs(x[i] - regression[origin]) - recent[0])
            recent[1] += rates[0] * (abs(x[i] - x[origin]) - recent[1])
            for j in range(4):
                recent[2 + j] += rates[1 + j] * (error - recent[2 + j])
        error_sum[i + 1] = error_sum[i] + error
        regression_error, current_error = recent[0] ** 4, recent[1] ** 4
        total_error = regression_error + current_error
        trust = current_error / total_error if total_error > 0.0 else 0.5
        expected[i] = trust * regression[i] + (1.0 - trust) * x[i]
        level = cum[i + 1] / (i + 1)
        fill_spread_features(
            x,
            cum,
            error_sum,
            i,
            ahead,
            day,
            mean_windows,
            half_widths,
            expected[i],
            recent,
            level,
            spreads[i - first],
        )
