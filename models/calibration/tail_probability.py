"""Tail probability of any statistic, estimated from the series' own history.

A channel is one side of one detector's statistic. Each channel of each series keeps its `MAX_PEAKS` largest
peaks: an excursion above the upper part of the statistic counts once, with its largest value (runs
declustering), so that a rate counts alarm intervals, not ticks. A generalised Pareto tail fitted by
probability-weighted moments (Hosking and Wallis, 1987) smooths the peaks and extrapolates beyond the largest;
with few peaks its shape is shrunk towards a prior. Every `horizon` ticks the history loses half its weight
and every second peak.
"""

import math

import numpy as np
from numba import njit

from trimtab.models.bank import StateField

MAX_PEAKS = 32
"""Number of peaks kept per channel."""
QUIET_TICKS = 5
"""An excursion ends after more than this number of ticks below the upper part."""
MIN_FIT_PEAKS = 8
"""With fewer peaks the rate comes from ranks and a Pareto tail of index DEFAULT_PARETO_INDEX."""
DEFAULT_PARETO_INDEX = 3.0
SHORT_HISTORY_SHAPE = 2.0
"""While history is short, the tail shape is at least SHORT_HISTORY_SHAPE / sqrt(number of samples)."""
MAX_EXCESS_RATIO = 4.0
"""In the fit, the two largest excesses count as at most this multiple of the third largest, so that one past
incident or one bad sample does not mask later anomalies.
"""
UPPER_QUANTILE = 0.85
"""The upper part of a statistic starts at this quantile."""
MIN_LOG_RATE = -200.0
"""Lower bound of log rates."""


def tail_fields(channels: int) -> dict[str, StateField]:
    """Return the state fields of the tails of `channels` channels."""
    c = (channels,)
    return {
        "tail_top": StateField(np.float32, 0.0, (channels, MAX_PEAKS)),
        "tail_count": StateField(np.int32, 0.0, c),
        "tail_seen": StateField(np.float64, 0.0, c),
        "tail_quantile": StateField(np.float64, math.nan, c),
        "tail_peak": StateField(np.float32, math.nan, c),
        "tail_quiet": StateField(np.int32, 0.0, c),
        "tail_pending": StateField(np.float32, math.nan, c),
        "tail_shape": StateField(np.float32, 0.0, c),
        "tail_scale": StateField(np.float32, 0.0, c),
    }


@njit(cache=True)
def min_tail_shape(seen):
    """Return the smallest tail shape assumed after `seen` samples."""
    return min(SHORT_HISTORY_SHAPE / math.sqrt(max(seen, 1.0)), 0.5)


@njit(cache=True)
def default_pareto_index(seen):
    """Return the index of the Pareto tail assumed while there is no fit."""
    return min(DEFAULT_PARETO_INDEX, 1.0 / min_tail_shape(seen))


@njit(cache=True)
def fit_tail(top, count, seen, prior_shape, prior_weight):
    """Fit shape and scale of the excesses of top[1:count] over top[0]; (nan, nan) if there are too few.

    top : ascending in [0, count)
    """
    k = count - 1
    if k < MIN_FIT_PEAKS:
        return math.nan, math.nan
    u = float(top[0])
    b0 = 0.0
    b1 = 0.0
    third = float(top[count - 3]) - u
    max_excess = MAX_EXCESS_RATIO * third if third > 0.0 else math.inf
    for j in range(1, count):
        y = min(float(top[j]) - u, max_excess)
        b0 += y
        b1 += y * (k - j) / (k - 1.0)
    b0 /= k
    b1 /= k
    if b0 <= 0.0:
        return math.nan, math.nan
    gap = b0 - 2.0 * b1
    shape = 2.0 - b0 / gap if gap > 0.0 else 0.9
    shape = (k * shape + prior_weight * prior_shape) / (k + prior_weight)
    shape = min(max(shape, min_tail_shape(seen)), 0.9)
    return shape, b0 * (1.0 - shape)


@njit(cache=True)
def log_exceedance_rate(top, count, seen, shape, scale, s):
    """Return the log rate per tick of excursions that peak above s."""
    if count == 0 or s == math.inf:
        return -math.log(seen + 1.0) if s > 0.0 else 0.0
    low = float(top[0])
    high = float(top[count - 1])
    if not scale > 0.0:
        if s > high:
            log_tail = -default_pareto_index(seen) * math.log(s / high) if high > 0.0 else 0.0
            return max(log_tail - math.log(seen + 1.0), MIN_LOG_RATE)
        above = 1
        while above < count and float(top[count - 1 - above]) >= s:
            above += 1
        return math.log((above + 1.0) / (seen + 1.0)) if s > 0.0 else 0.0
    base = math.log((count - 1.0) / (seen + 1.0))
    if s <= low:
        part = s / low if low > 0.0 else 0.0
        return min(base * min(max(part, 0.0), 1.0), 0.0)
    y = (s - low) / scale
    drop = y if shape < 1e-6 else math.log1p(shape * y) / shape
    return max(base - drop, MIN_LOG_RATE)


@njit(cache=True)
def exceedance_level(top, count, seen, shape, scale, log_p):
    """Return the statistic that excursions exceed at the rate exp(log_p) per tick; nan if unknown."""
    if count == 0:
        return math.nan
    high = float(top[count - 1])
    if not scale > 0.0:
        return high * math.exp(max(-math.log(seen + 1.0) - log_p, 0.0) / default_pareto_index(seen))
    drop = math.log((count - 1.0) / (seen + 1.0)) - log_p
    if drop <= 0.0:
        return float(top[0])
    return float(top[0]) + scale * (drop if shape < 1e-6 else math.expm1(shape * drop) / shape)


@njit(cache=True)
def _sift_up(top, count, j, value):
    """Replace top[j] by a larger value and move it to its sorted position; return the unchanged count."""
    while j + 1 < count and top[j + 1] < value:
        top[j] = top[j + 1]
        j += 1
    top[j] = value
    return count


@njit(cache=True)
def insert_peak(top, count, value):
    """Insert a value into the sorted peaks, in a full table instead of the smallest; return the new count."""
    if count == top.shape[0]:
        if value <= top[0]:
            return count
        return _sift_up(top, count, 0, value)
    j = count
    while j > 0 and top[j - 1] > value:
        top[j] = top[j - 1]
        j -= 1
    top[j] = value
    return count + 1


@njit(cache=True)
def raise_peak(top, count, old, value):
    """Raise the peak of the open excursion from `old` to `value`; return the new count."""
    j = 0
    while j < count and top[j] != old:
        j += 1
    if j == count:
        return insert_peak(top, count, value)
    return _sift_up(top, count, j, value)


@njit(cache=True)
def halve_peaks(top, count):
    """Keep every second peak, starting with the second largest; return the new count."""
    n_kept = count // 2
    first = count - 2 * n_kept
    for j in range(n_kept):
        top[j] = top[first + 2 * j]
    return n_kept


@njit(cache=True)
def defer_peak(c, s, seen, pending):
    """Count one tick of a flagged stretch; its peak enters the tail when the stretch has ended."""
    seen[c] += 1.0
    if math.isfinite(s) and not s <= pending[c]:
        pending[c] = s


@njit(cache=True)
def add_deferred_peak(
    c, cap, prior_shape, prior_weight, top, count, seen, quantile, peak, pending, shape, scale
):
    """Add the peak of an ended flagged stretch to channel c, capped at `cap`."""
    if pending[c] > quantile[c] and pending[c] > 0.0:
        value = np.float32(min(pending[c], cap))
        count[c] = raise_peak(top[c], count[c], peak[c], value)
        peak[c] = value
        shape[c], scale[c] = fit_tail(top[c], count[c], seen[c], prior_shape, prior_weight)
    pending[c] = math.nan


@njit(cache=True)
def learn_tail(
    c, s, cap, horizon, prior_shape, prior_weight, top, count, seen, quantile, peak, quiet, shape, scale
):
    """Update channel c of one series with the statistic of one tick; an infinite one only counts as a sample.

    cap : upper limit of a stored peak
    """
    seen[c] += 1.0
    if not math.isfinite(s):
        return
    if math.isnan(quantile[c]):
        quantile[c] = s
    scale_hint = min(abs(s - quantile[c]), float(top[c, count[c] - 1]) if count[c] > 0 else abs(s))
    step = 0.02 * abs(quantile[c]) + (0.02 if seen[c] < 64.0 else 0.0005) * scale_hint
    quantile[c] += step * (UPPER_QUANTILE if s > quantile[c] else UPPER_QUANTILE - 1.0)
    changed = False
    if s > quantile[c] and s > 0.0:
        quiet[c] = 0
        value = np.float32(min(s, cap))
        if math.isnan(peak[c]):
            peak[c] = value
            count[c] = insert_peak(top[c], count[c], value)
            changed = True
        elif value > peak[c]:
            count[c] = raise_peak(top[c], count[c], peak[c], value)
            peak[c] = value
            changed = True
    elif not math.isnan(peak[c]):
        quiet[c] += 1
        if quiet[c] > QUIET_TICKS:
            peak[c] = math.nan
    if seen[c] >= horizon:
        seen[c] *= 0.5
        count[c] = halve_peaks(top[c], count[c])
        changed = True
    if changed:
        shape[c], scale[c] = fit_tail(top[c], count[c], seen[c], prior_shape, prior_weight)
