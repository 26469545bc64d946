"""Capacity and startup time of a replica, estimated from recorded metrics."""

import numpy as np

from trimtab.models.contracts import Floats

MIN_SAMPLES, MIN_BLOCKS = 60, 6
MIN_UTILISATION = 0.15
"""Samples with lower utilisation are ignored, because work other than requests dominates there."""
MAX_INTERVAL_RATIO = 1.5
"""Maximum ratio of the interval's ends; with a wider interval the capacity is unknown."""
BOOTSTRAP_DRAWS = 400
MIN_STARTS = 3

Interval = tuple[float, float, float]


def replica_capacity(load: Floats, replicas: Floats, utilisation: Floats) -> Interval | None:
    """Return (value, low, high) of the load one replica serves at full utilisation; None = unknown.

    The value is the median of load / (replicas x utilisation), with a 90 % interval from a block bootstrap
    (Kuensch, 1989), because adjacent samples are correlated. It is unknown with few samples, with idle
    replicas only, or if the blocks disagree.

    load        : (n,) float64, any unit
    replicas    : (n,) ready replicas
    utilisation : (n,) ratio 0..1; NaN = unknown

    >>> load = np.linspace(100.0, 400.0, 200)
    >>> [round(x) for x in replica_capacity(load, np.full(200, 4.0), load / 4.0 / 120.0)]
    [120, 120, 120]
    >>> replica_capacity(load, np.full(200, 4.0), np.full(200, 0.01)) is None
    True
    """
    is_usable = (utilisation >= MIN_UTILISATION) & (replicas >= 1.0) & (load > 0.0)
    capacity = load[is_usable] / (replicas[is_usable] * utilisation[is_usable])
    if len(capacity) < MIN_SAMPLES:
        return None
    block_medians = np.array(
        [np.median(block) for block in np.array_split(capacity, max(MIN_BLOCKS, len(capacity) // 60))]
    )
    draws = np.random.default_rng(7).integers(0, len(block_medians), (BOOTSTRAP_DRAWS, len(block_medians)))
    low, high = np.quantile(np.median(block_medians[draws], axis=1), (0.05, 0.95))
    return None if high > MAX_INTERVAL_RATIO * low else (float(np.median(capacity)), float(low), float(high))


def startup_time_s(total: Floats, ready: Floats, step_s: float) -> Interval | None:
    """Return (value, low, high) of the seconds from a scale-up until it is ready; None = too few starts.

    The value is the 0.8 quantile, because a plan based on the median would be late half of the time.

    total : (n,) ready and starting replicas by step
    ready : (n,) ready replicas; NaN = unknown
    step_s : seconds between steps

    >>> total = np.repeat([2.0, 4.0, 2.0, 5.0, 3.0, 6.0], 20)
    >>> ready = np.minimum(total, np.concatenate([np.full(4, 2.0), total[:-4]]))
    >>> startup_time_s(total, ready, 15.0)
    (60.0, 60.0, 60.0)
    """
    times_s = []
    for i in np.flatnonzero(np.diff(total) > 0.0) + 1:
        if not ready[i - 1] >= total[i - 1]:
            continue  # another start is in progress, so the starts cannot be told apart
        end_rows = np.flatnonzero((ready[i:] >= total[i]) | (total[i:] < total[i]))
        if len(end_rows) and ready[i + end_rows[0]] >= total[i]:
            times_s.append(float(end_rows[0] * step_s))
    durations_s = np.array([seconds for seconds in times_s if seconds > 0.0])
    if len(durations_s) < MIN_STARTS:
        return None
    return float(np.quantile(durations_s, 0.8)), float(durations_s.min()), float(durations_s.max())
