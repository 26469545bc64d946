"""Whether the floor of a figure keeps rising: a leak, told from saw teeth, noise, warming up and seasons."""

from dataclasses import dataclass

import numpy as np

from trimtab.engine.patterns.metric_window import MetricWindow, index_pairs, ramp, theil_sen
from trimtab.engine.types import Floats
from trimtab.models.contracts import Bools

BLOCKS = 8
"""Parts of the window; the smallest value of each is its floor, so garbage collection leaves no trace."""
_MIN_BLOCK_ROWS = 3
"""Of a part that are needed to know its floor."""
_MIN_KNOWN_RATIO = 0.75
MIN_RISING_RATIO = 0.8
MIN_ROWS = 96
"""A rise over less may be anything."""


@dataclass(frozen=True, slots=True)
class LeakTrend:
    """How a floor rises.

    per_s  : in the figure's unit per second
    growth : over the window, against its beginning
    rising : share of pairs of parts of which the later one is higher (Mann 1945)
    steady : 0..1, how clearly it is a rise that goes on: mostly rising, above its noise, not levelling off
    over_s : seconds of the window
    """

    slope_per_s: float
    growth: float
    rising_ratio: float
    steadiness: float
    window_s: float


def fit_leak_trend(window: MetricWindow) -> LeakTrend | None:
    """The trend of its floor; None where too little is known, or it falls."""
    cut = len(window.values) // BLOCKS
    if len(window.values) < MIN_ROWS:
        return None
    size = cut * BLOCKS
    values = window.values[-size:].reshape(BLOCKS, cut)
    known = np.count_nonzero(~np.isnan(values), axis=1) >= min(_MIN_BLOCK_ROWS, cut)
    if np.mean(known) < _MIN_KNOWN_RATIO or not (known[0] and known[-1]):
        return None
    times = (window.times[-size:].reshape(BLOCKS, cut).mean(axis=1) - float(window.times[-size])) / 1e9
    floors = np.nanmin(values[known], axis=1)
    return _trend(times[known], floors)


def _trend(times: Floats, floors: Floats) -> LeakTrend | None:
    per_s = theil_sen(times, floors)
    over_s = float(times[-1] - times[0])
    if per_s <= 0.0 or floors[0] <= 0.0 or over_s <= 0.0:
        return None
    i, j = index_pairs(len(floors))
    rising = float(np.mean(floors[j] > floors[i]))
    rest = floors - per_s * times
    noise = float(np.median(np.abs(rest - np.median(rest))))
    middle = len(floors) // 2
    early = theil_sen(times[:middle], floors[:middle])
    late = theil_sen(times[middle:], floors[middle:])
    goes_on = ramp(late, 0.3 * max(early, 0.0), 0.6 * max(early, 0.3 * per_s))
    clear = ramp(per_s * over_s / max(noise, 1e-12), 3.0, 8.0)
    steady = ramp(rising, MIN_RISING_RATIO, 0.93) * clear * goes_on
    return LeakTrend(per_s, per_s * over_s / float(floors[0]), rising, steady, over_s)


def may_be_rising(values: Floats) -> Bools:
    """(n,) figures that are worth a closer look: the floors of most parts lie above those before.

    values : (rows, n), NaN = unknown
    """
    cut = len(values) // BLOCKS
    if len(values) < MIN_ROWS:
        return np.zeros(values.shape[1], np.bool_)
    known = np.where(np.isnan(values), np.inf, values)[-BLOCKS * cut :]
    floors = known.reshape(BLOCKS, cut, -1).min(axis=1)
    i, j = index_pairs(BLOCKS)
    rising = (floors[j] > floors[i]).mean(axis=0) >= MIN_RISING_RATIO
    worth: Bools = rising & np.isfinite(floors[[0, -1]]).all(axis=0) & (floors[-1] > 1.01 * floors[0])
    return worth
