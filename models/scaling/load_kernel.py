"""The compiled walk of `trimtab.models.scaling.load_ahead` over one load: what a tick says of the load ahead.

The same code makes the rows that are learnt from and the row that is asked of, so they cannot differ.
`cum` is a running sum with a leading zero: cum[i] is the sum of the first i values.
"""

import math

import numpy as np
from numba import njit

N_SHAPE_FEATURES = 12
"""Numbers by which the next minutes are expected: recent moves, and what the day usually does."""
N_SPREAD_FEATURES = 9
"""Numbers, in the load's unit, that say how far off that may be; none is negative."""
EARLIER_DAYS = 7
"""Earlier days that say what is usual at a time of the day."""


@njit(cache=True, nogil=True)
def nonnegative_quadratic_minimum(gram, moment):
    """The w >= 0 that minimises w'Gw/2 - m'w, by coordinate descent; gram's diagonal is above 0.

    >>> nonnegative_quadratic_minimum(np.eye(2), np.array([3.0, -1.0])).tolist()
    [3.0, 0.0]
    """
    weights = np.zeros(len(moment))
    for _ in range(200):
        moved, largest = 0.0, 1e-300
        for j in range(len(moment)):
            rest = moment[j] + gram[j, j] * weights[j]
            for k in range(len(moment)):
                rest -= gram[j, k] * weights[k]
            new = max(0.0, rest / gram[j, j])
            moved = max(moved, abs(new - weights[j]))
            largest = max(largest, new)
            weights[j] = new
        if moved <= 1e-6 * largest:
            break
    return weights


@njit(cache=True, nogil=True)
def window_mean(cum, n, first, last):
    """Mean of the values first..last, both included, as far as they are among the first n; NaN = none is."""
    lo, hi = max(0, first), min(n, last + 1)
    if hi <= lo:
        return math.nan
    return (cum[hi] - cum[lo]) / (hi - lo)


@njit(cache=True, nogil=True)
def usual_at_time_of_day(cum, n, at, width, day, days):
    """Median over earlier days of the mean around the same time of the day; NaN = no earlier day is known."""
    found = np.empty(days)
    k = 0
    for d in range(1, days + 1):
        one = window_mean(cum, n, at - d * day - width, at - d * day + width)
        if not math.isnan(one):
            found[k] = one
            k += 1
    if k == 0:
        return math.nan
    return np.median(found[:k])


@njit(cache=True, nogil=True)
def fill_shape_features(x, cum, i, ahead, day, moves, means, widths, out):
    """Shape of the load at tick i, seen `ahead` ticks on; a number that is not known is 0."""
    n, here, k = i + 1, x[i], 0
    for back in moves:
        out[k] = here - x[max(0, i - back)]
        k += 1
    for back in means:
        out[k] = here - window_mean(cum, n, i - back, i)
        k += 1
    broad = usual_at_time_of_day(cum, n, i + ahead, widths[0], day, EARLIER_DAYS)
    out[k] = broad - usual_at_time_of_day(cum, n, i, widths[0], day, EARLIER_DAYS)
    out[k + 1] = usual_at_time_of_day(cum, n, i + ahead, widths[1], day, EARLIER_DAYS) - usual_at_time_of_day(
        cum, n, i, widths[1], day, EARLIER_DAYS
    )
    out[k + 2] = usual_at_time_of_day(cum, n, i + ahead, widths[1], day, 1) - usual_at_time_of_day(
        cum, n, i, widths[1], day, 1
    )
    out[k + 3] = broad - here
    for j in range(N_SHAPE_FEATURES):
        if math.isnan(out[j]):
            out[j] = 0.0


@njit(cache=True, nogil=True)
def shape_features(x, cum, rows, ahead, day, moves, means, widths):
    """(n_rows, SHAPES) for the ticks `rows`."""
    out = np.empty((len(rows), N_SHAPE_FEATURES))
    for r in range(len(rows)):
        fill_shape_features(x, cum, rows[r], ahead, day, moves, means, widths, out[r])
    return out


@njit(cache=True, nogil=True)
def fill_spread_features(x, cum, miss_sum, i, ahead, day, means, widths, likely, recent, level, out):
    """How far off the expectation made at tick i may be.

    recent : (6,) running means of misses, the first two of them those of `walk`'s choice
    """
    off = 0.0
    known = 0
    for d in range(1, EARLIER_DAYS + 1):
        at = i + ahead - d * day
        one = window_mean(miss_sum, i + 1, at - widths[0], at + widths[0])
        if not math.isnan(one):
            off += one
            known += 1
    for j in range(4):
        out[j] = recent[2 + j]
    out[4] = off / known if known else 0.0
    out[5] = 0.05 * abs(likely)
    out[6] = 0.05 * math.sqrt(abs(likely) * abs(level))
    out[7] = abs(x[i] - likely)
    out[8] = abs(x[i] - window_mean(cum, i + 1, i - means[0] * 2, i))


@njit(cache=True, nogil=True)
def walk_forward(
    x,
    cum,
    first,
    last,
    ahead,
    day,
    moves,
    means,
    widths,
    paces,
    weights,
    drawn,
    likely,
    miss_sum,
    recent,
    spreads,
):
    """Take the ticks first..last-1 in: what each expects `ahead` ticks on, and how far off that may be.

    weights  : (SHAPES,) of the shape
    drawn    : (n,) what the shape alone expects;  likely : (n,) mixed with the load as it stands now, by
               which of the two missed less of late. Both are filled at the tick that expects
    miss_sum : (n + 1,) running sum of the misses seen until then
    recent   : (6,) running means of misses: shape, load as it stands, then the mix at four paces
    spreads  : (last - first, SPREADS) filled
    """
    shape = np.empty(N_SHAPE_FEATURES)
    for i in range(first, last):
        fill_shape_features(x, cum, i, ahead, day, moves, means, widths, shape)
        drawn[i] = x[i] + np.dot(shape, weights)
        miss, made = 0.0, i - ahead
        if made >= 0:
            miss = abs(x[i] - likely[made])
            recent[0] += paces[0] * (abs(x[i] - drawn[made]) - recent[0])
            recent[1] += paces[0] * (abs(x[i] - x[made]) - recent[1])
            for j in range(4):
                recent[2 + j] += paces[1 + j] * (miss - recent[2 + j])
        miss_sum[i + 1] = miss_sum[i] + miss
        a, b = recent[0] ** 4, recent[1] ** 4
        trust = b / (a + b) if a + b > 0.0 else 0.5
        likely[i] = trust * drawn[i] + (1.0 - trust) * x[i]
        level = cum[i + 1] / (i + 1)
        fill_spread_features(
            x, cum, miss_sum, i, ahead, day, means, widths, likely[i], recent, level, spreads[i - first]
        )
