"""What one replica serves, and how long one takes to start, from what was recorded."""

import numpy as np

from trimtab.models.contracts import Floats

MIN_SAMPLES, MIN_BLOCKS = 60, 6
MIN_UTILISATION = 0.15
"""Below, what a replica does beside its work hides what the work takes."""
MAX_INTERVAL_RATIO = 1.5
"""Ratio of an interval's ends above which nothing is known."""
BOOTSTRAP_DRAWS = 400
MIN_STARTS = 3

Interval = tuple[float, float, float]


def replica_capacity(load: Floats, replicas: Floats, utilisation: Floats) -> Interval | None:
    """(value, low, high) of the load that one replica serves at full utilisation; None = it cannot be known.

    The median of load / (replicas x utilisation), with a 90 % interval from resampled blocks of time, as
    neighbours in time are alike (Kuensch, 1989). It is unknown from few samples, from idle replicas only,
    or where the blocks do not agree.

    load : (n,) float64, any unit;  replicas : (n,) that serve;  utilisation : (n,) ratio 0..1; NaN = unknown

    >>> load = np.linspace(100.0, 400.0, 200)
    >>> [round(x) for x in replica_capacity(load, np.full(200, 4.0), load / 4.0 / 120.0)]
    [120, 120, 120]
    >>> replica_capacity(load, np.full(200, 4.0), np.full(200, 0.01)) is None
    True
    """
    good = (utilisation >= MIN_UTILISATION) & (replicas >= 1.0) & (load > 0.0)
    one = load[good] / (replicas[good] * utilisation[good])
    if len(one) < MIN_SAMPLES:
        return None
    middles = np.array([np.median(block) for block in np.array_split(one, max(MIN_BLOCKS, len(one) // 60))])
    drawn = np.random.default_rng(7).integers(0, len(middles), (BOOTSTRAP_DRAWS, len(middles)))
    low, high = np.quantile(np.median(middles[drawn], axis=1), (0.05, 0.95))
    return None if high > MAX_INTERVAL_RATIO * low else (float(np.median(one)), float(low), float(high))


def startup_time_s(total: Floats, ready: Floats, step_s: float) -> Interval | None:
    """(value, low, high) of the seconds from an order until it serves; None = too few were seen.

    The value is the 80 % quantile: who plans with the median is late half the time.

    total : (n,) ready and starting, by step;  ready : (n,) that serve; NaN = unknown

    >>> total = np.repeat([2.0, 4.0, 2.0, 5.0, 3.0, 6.0], 20)
    >>> ready = np.minimum(total, np.concatenate([np.full(4, 2.0), total[:-4]]))
    >>> startup_time_s(total, ready, 15.0)
    (60.0, 60.0, 60.0)
    """
    found = []
    for i in np.flatnonzero(np.diff(total) > 0.0) + 1:
        if not ready[i - 1] >= total[i - 1]:
            continue  # another start is under way: whose it is cannot be told
        until = np.flatnonzero((ready[i:] >= total[i]) | (total[i:] < total[i]))
        if len(until) and ready[i + until[0]] >= total[i]:
            found.append(float(until[0] * step_s))
    took = np.array([seconds for seconds in found if seconds > 0.0])
    if len(took) < MIN_STARTS:
        return None
    return float(np.quantile(took, 0.8)), float(took.min()), float(took.max())
