"""A quantile of a load some minutes ahead, tick by tick: what scaling ahead of it needs."""

import math
from collections.abc import Sequence

import numpy as np

from trimtab.models.contracts import Floats, Ints
from trimtab.models.scaling.load_kernel import N_SPREAD_FEATURES, shape_features, walk_forward
from trimtab.models.scaling.regression import quantile_weights, ridge_weights

DAY_S, MAX_HISTORY_DAYS = 86_400.0, 14
MIN_HISTORY_S = 6 * 3600.0
"""A shorter past says nothing about the next minutes."""
REFIT_S = DAY_S
CHANGE_LAGS_S = (60.0, 120.0, 300.0, 600.0)
MEAN_WINDOWS_S = (300.0, 900.0, 3600.0, 10_800.0)
DAY_HALF_WIDTHS_S = (600.0, 150.0)
ERROR_MEMORIES_S = (10_800.0, 600.0, 3600.0, 21_600.0, DAY_S)
"""Seconds that running means remember: of the choice between two expectations, then of the misses."""
TRAINING_SPACING_S = 60.0


class LoadAhead:
    """A streaming forecaster of one load for short horizons.

    A ridge regression on recent moves and on what the day usually does says what is likely; a linear
    quantile regression on its own recent misses says how much more it may be. Both are fitted to the past
    of this load alone, again each day. What it says at a tick depends on that tick and earlier ones only.

    tick_s   : seconds from value to value
    aheads_s : (k,) horizons in seconds from the newest value on
    level    : probability 0..1 that the load stays below what `step` says

    >>> load = LoadAhead(60.0, (180.0,), 0.9)
    >>> load.fit(100.0 + 10.0 * np.sin(np.arange(2 * 1440) / 200.0))
    >>> bool(90.0 < load.step(109.0)[0] < 125.0)
    True
    """

    def __init__(self, tick_s: float, aheads_s: Sequence[float], level: float) -> None:
        self.tick_s = tick_s
        self.aheads_s = tuple(aheads_s)
        self.level = level
        self.is_fitted = False
        self._x: Floats = np.empty(0)
        self._n = 0
        self._refit_at = 0
        self._horizons: list[_HorizonForecaster] = []

    def fit(self, past: Floats) -> None:
        """Start from the past: (n,) float64 by tick, newest last; NaN in it is bridged."""
        kept = fill_gaps(past[-self._seconds_to_ticks(MAX_HISTORY_DAYS * DAY_S) :])
        self._x = np.empty(len(kept) + self._seconds_to_ticks(REFIT_S) + 1)
        self._x[: len(kept)] = kept
        self._n = len(kept)
        self._refit()

    def step(self, x: float) -> Floats:
        """Take the newest value in; (n_horizons,) float64, what the load ahead stays below in its unit.

        NaN = nothing is known yet.

        x : NaN = no sample; the value before then stands for it
        """
        if math.isnan(x):
            x = float(self._x[self._n - 1]) if self._n else 0.0
        if self._n == len(self._x):
            self.fit(np.append(self._x[: self._n], x))
        else:
            self._x[self._n] = x
            self._n += 1
            if self._n >= self._refit_at:
                self.fit(self._x[: self._n].copy())
            elif self.is_fitted:
                for one in self._horizons:
                    one.advance(self._x, self._n)
        return self.upper()

    def upper(self) -> Floats:
        """As `step` gave it last."""
        if not self.is_fitted:
            return np.full(len(self.aheads_s), math.nan)
        return np.array([max(0.0, one.upper()) for one in self._horizons])

    def expected(self) -> Floats:
        """(n_horizons,) float64, what is expected; NaN = nothing is known yet."""
        if not self.is_fitted:
            return np.full(len(self.aheads_s), math.nan)
        return np.array([max(0.0, one.expected[self._n - 1]) for one in self._horizons])

    def _refit(self) -> None:
        self.is_fitted = self._n * self.tick_s >= MIN_HISTORY_S
        self._refit_at = self._n + self._seconds_to_ticks(REFIT_S if self.is_fitted else MIN_HISTORY_S / 6.0)
        if self.is_fitted:
            self._horizons = [_HorizonForecaster(self.tick_s, ahead_s) for ahead_s in self.aheads_s]
            for one in self._horizons:
                one.fit(self._x, self._n, self.level)

    def _seconds_to_ticks(self, seconds: float) -> int:
        return max(1, round(seconds / self.tick_s))


class _HorizonForecaster:
    """One horizon of it: the fitted weights, and what the walk over the ticks remembers."""

    def __init__(self, tick_s: float, ahead_s: float) -> None:
        self.ahead = max(1, round(ahead_s / tick_s))
        self.day = round(DAY_S / tick_s)
        self.training_stride = max(1, round(TRAINING_SPACING_S / tick_s))
        self.change_lags, self.mean_windows, self.day_half_widths = (
            _to_ticks(s, tick_s) for s in (CHANGE_LAGS_S, MEAN_WINDOWS_S, DAY_HALF_WIDTHS_S)
        )
        self.rates = 1.0 - np.exp(-tick_s / np.array(ERROR_MEMORIES_S))
        self.expected: Floats = np.empty(0)
        self._regression: Floats = np.empty(0)
        self._error_sums: Floats = np.empty(0)
        self._load_sums: Floats = np.empty(0)
        self._recent_errors: Floats = np.zeros(6)
        self._n_done = 0
        self._weights: Floats = np.empty(0)
        self._spread_weights: Floats = np.zeros(N_SPREAD_FEATURES)
        self._latest_spreads: Floats = np.zeros((1, N_SPREAD_FEATURES))

    def fit(self, x: Floats, n: int, level: float) -> None:
        """Learn from the first n of x, and walk over them."""
        self._load_sums = np.zeros(len(x) + 1)
        np.cumsum(x[:n], out=self._load_sums[1 : n + 1])
        self._regression, self.expected, self._error_sums = (
            np.empty(len(x)),
            np.empty(len(x)),
            np.zeros(len(x) + 1),
        )
        first = self.day if n > 2 * self.day else n // 4
        rows = np.arange(first, n - self.ahead, self.training_stride)
        shapes = shape_features(
            x,
            self._load_sums,
            rows,
            self.ahead,
            self.day,
            self.change_lags,
            self.mean_windows,
            self.day_half_widths,
        )
        moved = x[rows + self.ahead] - x[rows]
        self._weights = ridge_weights(shapes, moved)
        spreads = np.empty((n, N_SPREAD_FEATURES))
        self._walk_forward(x, 0, n, spreads)
        misses = x[rows + self.ahead] - self.expected[rows]
        usual = spreads[rows, 3]
        self._spread_weights = quantile_weights(spreads[rows], misses, usual, level)
        self._latest_spreads[0] = spreads[-1]

    def advance(self, x: Floats, n: int) -> None:
        """Go on until the first n of x are taken in."""
        for i in range(self._n_done, n):
            self._load_sums[i + 1] = self._load_sums[i] + x[i]
            self._walk_forward(x, i, i + 1, self._latest_spreads)

    def upper(self) -> float:
        """For the tick taken in last."""
        return float(self.expected[self._n_done - 1] + self._spread_weights @ self._latest_spreads[0])

    def _walk_forward(self, x: Floats, first: int, last: int, spreads: Floats) -> None:
        walk_forward(
            x, self._load_sums, first, last, self.ahead, self.day, self.change_lags, self.mean_windows, self.day_half_widths, self.rates,
            self._weights, self._regression, self.expected, self._error_sums, self._recent_errors, spreads,
        )  # fmt: skip
        self._n_done = last


def fill_gaps(values: Floats) -> Floats:
    """Values without holes: straight over those inside, the nearest one at the ends; empty where all is NaN.

    >>> fill_gaps(np.array([np.nan, 1.0, np.nan, 3.0])).tolist()
    [1.0, 1.0, 2.0, 3.0]
    """
    there = np.flatnonzero(np.isfinite(values))
    if not len(there):
        return np.empty(0)
    return np.interp(np.arange(len(values)), there, values[there])


def _to_ticks(seconds: Sequence[float], tick_s: float) -> Ints:
    return np.maximum(1, np.round(np.array(seconds) / tick_s)).astype(np.int64)
