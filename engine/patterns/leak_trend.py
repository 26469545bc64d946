"""Detects a steadily rising floor of a metric: a leak, as opposed to sawtooth, noise, warm-up and seasons."""

from dataclasses import dataclass

import numpy as np

from trimtab.engine.patterns.metric_window import MetricWindow, index_pairs, ramp, theil_sen
from trimtab.engine.types import Floats
from trimtab.models.contracts import Bools

BLOCKS = 8
"""Blocks of the window; the minimum of each is its floor, which removes the effect of garbage collection."""
_MIN_BLOCK_ROWS = 3
"""Known rows that a block needs."""
_MIN_KNOWN_RATIO = 0.75
MIN_RISING_RATIO = 0.8
MIN_ROWS = 96
"""Rows needed to conclude anything."""


@dataclass(frozen=True, slots=True)
class LeakTrend:
    """A rising floor.

    slope_per_s  : in the metric's unit per second
    growth       : increase over the window, relative to its start
    rising_ratio : ratio of block pairs whose later block is higher (Mann 1945)
    steadiness   : 0..1, how clearly the rise continues: mostly rising, above its noise, not levelling off
    window_s     : seconds of the window
    """

    slope_per_s: float
    growth: float
    rising_ratio: float
    steadiness: float
    window_s: float


def fit_leak_trend(window: MetricWindow) -> LeakTrend | None:
    """Return the trend of the window's floor; None where too little is known or the floor does not rise."""
    block_rows = len(window.values) // BLOCKS
    if len(window.values) < MIN_ROWS:
        return None
    size = block_rows * BLOCKS
    values = window.values[-size:].reshape(BLOCKS, block_rows)
    known = np.count_nonzero(~np.isnan(values), axis=1) >= min(_MIN_BLOCK_ROWS, block_rows)
    if np.mean(known) < _MIN_KNOWN_RATIO or not (known[0] and known[-1]):
        return None
    times = (window.times[-size:].reshape(BLOCKS, block_rows).mean(axis=1) - float(window.times[-size])) / 1e9
    floors = np.nanmin(values[known], axis=1)
    return _trend(times[known], floors)


def _trend(times: Floats, floors: Floats) -> LeakTrend | None:
    slope = theil_sen(times, floors)
    window_s = float(times[-1] - times[0])
    if slope <= 0.0 or floors[0] <= 0.0 or window_s <= 0.0:
        return None
    i, j = index_pairs(len(floors))
    rising_ratio = float(np.mean(floors[j] > floors[i]))
    residuals = floors - slope * times
    noise = float(np.median(np.abs(residuals - np.median(residuals))))
    middle = len(floors) // 2
    early = theil_sen(times[:middle], floors[:middle])
    late = theil_sen(times[middle:], floors[middle:])
    continues = ramp(late, 0.3 * max(early, 0.0), 0.6 * max(early, 0.3 * slope))
    clear = ramp(slope * window_s / max(noise, 1e-12), 3.0, 8.0)
    steadiness = ramp(rising_ratio, MIN_RISING_RATIO, 0.93) * clear * continues
    return LeakTrend(slope, slope * window_s / float(floors[0]), rising_ratio, steadiness, window_s)


def may_be_rising(values: Floats) -> Bools:
    """Return (n,) bool: columns whose floor mostly rises, a cheap filter before `fit_leak_trend`.

    values : (rows, n), NaN = unknown
    """
    block_rows = len(values) // BLOCKS
    if len(values) < MIN_ROWS:
        return np.zeros(values.shape[1], np.bool_)
    known = np.where(np.isnan(values), np.inf, values)[-BLOCKS * block_rows :]
    floors = known.reshape(BLOCKS, block_rows, -1).min(axis=1)
    i, j = index_pairs(BLOCKS)
    rising = (floors[j] > floors[i]).mean(axis=0) >= MIN_RISING_RATIO
    candidates: Bools = rising & np.isfinite(floors[[0, -1]]).all(axis=0) & (floors[-1] > 1.01 * floors[0])
    return candidates
