"""Streaming forecast of an upper quantile of one load, some minutes ahead, for predictive scaling."""

import math
from collections.abc import Sequence

import numpy as np

from trimtab.models.contracts import Floats, Ints
from trimtab.models.scaling.load_kernel import N_SPREAD_FEATURES, shape_features, walk_forward
from trimtab.models.scaling.regression import quantile_weights, ridge_weights

DAY_S, MAX_HISTORY_DAYS = 86_400.0, 14
MIN_HISTORY_S = 6 * 3600.0
"""With less history nothing is forecast."""
REFIT_S = DAY_S
CHANGE_LAGS_S = (60.0, 120.0, 300.0, 600.0)
MEAN_WINDOWS_S = (300.0, 900.0, 3600.0, 10_800.0)
DAY_HALF_WIDTHS_S = (600.0, 150.0)
ERROR_MEMORIES_S = (10_800.0, 600.0, 3600.0, 21_600.0, DAY_S)
"""Time constants of running means in seconds: the first for the choice between two forecasts, the others for
errors.
"""
TRAINING_SPACING_S = 60.0


class LoadAhead:
    """A streaming forecaster of one load for short horizons.

    A ridge regression on recent changes and on the usual course of the day gives the expected load. A linear
    quantile regression on its recent errors gives the distance of the upper quantile. Both are fitted to the
    history of this load only and refitted every day. A forecast uses only values up to its tick.

    tick_s   : seconds between values
    aheads_s : (n_horizons,) horizons in seconds after the newest value
    level    : probability 0..1 that the load stays below the forecast of `step`

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

    def fit(self, values: Floats) -> None:
        """Fit to the history, (n,) float64 by tick with the newest value last; gaps (NaN) are filled."""
        history = fill_gaps(values[-self._seconds_to_ticks(MAX_HISTORY_DAYS * DAY_S) :])
        self._x = np.empty(len(history) + self._seconds_to_ticks(REFIT_S) + 1)
        self._x[: len(history)] = history
        self._n = len(history)
        self._refit()

    def step(self, x: float) -> Floats:
        """Add the newest value; return the upper quantiles of the load, (n_horizons,) float64 in its unit.

        x : NaN = no sample, replaced by the previous value

        NaN = too little history.
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
                for horizon in self._horizons:
                    horizon.advance(self._x, self._n)
        return self.upper()

    def upper(self) -> Floats:
        """Return the upper quantiles that `step` returned last."""
        if not self.is_fitted:
            return np.full(len(self.aheads_s), math.nan)
        return np.array([max(0.0, horizon.upper()) for horizon in self._horizons])

    def expected(self) -> Floats:
        """Return the expected loads, (n_horizons,) float64; NaN = too little history."""
        if not self.is_fitted:
            return np.full(len(self.aheads_s), math.nan)
        return np.array([max(0.0, horizon.expected[self._n - 1]) for horizon in self._horizons])

    def _refit(self) -> None:
        self.is_fitted = self._n * self.tick_s >= MIN_HISTORY_S
        self._refit_at = self._n + self._seconds_to_ticks(REFIT_S if self.is_fitted else MIN_HISTORY_S / 6.0)
        if self.is_fitted:
            self._horizons = [_HorizonForecaster(self.tick_s, ahead_s) for ahead_s in self.aheads_s]
            for horizon in self._horizons:
                horizon.fit(self._x, self._n, self.level)

    def _seconds_to_ticks(self, seconds: float) -> int:
        return max(1, round(seconds / self.tick_s))


class _HorizonForecaster:
    """Forecast of one horizon: fitted weights and the state of the walk over the ticks."""

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
        """Fit to the first n values of x and forecast at each of them."""
        self._load_sums = np.zeros(len(x) + 1)
        np.cumsum(x[:n], out=self._load_sums[1 : n + 1])
        self._regression, self.expected, self._error_sums = (
            np.empty(len(x)),
            np.empty(len(x)),
            np.zeros(len(x) + 1),
        )
        first = self.day if n > 2 * self.day else n // 4
        rows = np.arange(first, n - self.ahead, self.training_stride)
        features = shape_features(
            x,
            self._load_sums,
            rows,
            self.ahead,
            self.day,
            self.change_lags,
            self.mean_windows,
            self.day_half_widths,
        )
        changes = x[rows + self.ahead] - x[rows]
        self._weights = ridge_weights(features, changes)
        spreads = np.empty((n, N_SPREAD_FEATURES))
        self._walk_forward(x, 0, n, spreads)
        errors = x[rows + self.ahead] - self.expected[rows]
        usual_errors = spreads[rows, 3]
        self._spread_weights = quantile_weights(spreads[rows], errors, usual_errors, level)
        self._latest_spreads[0] = spreads[-1]

    def advance(self, x: Floats, n: int) -> None:
        """Process the values up to the n-th value of x."""
        for i in range(self._n_done, n):
            self._load_sums[i + 1] = self._load_sums[i] + x[i]
            self._walk_forward(x, i, i + 1, self._latest_spreads)

    def upper(self) -> float:
        """Return the upper quantile forecast at the last processed tick."""
        return float(self.expected[self._n_done - 1] + self._spread_weights @ self._latest_spreads[0])

    def _walk_forward(self, x: Floats, first: int, last: int, spreads: Floats) -> None:
        walk_forward(
            x, self._load_sums, first, last, self.ahead, self.day, self.change_lags, self.mean_windows,
            self.day_half_widths, self.rates,
            self._weights, self._regression, self.expected, self._error_sums, self._recent_errors, spreads,
        )  # fmt: skip
        self._n_done = last


def fill_gaps(values: Floats) -> Floats:
    """Return values without gaps: linear between samples, constant at the ends; empty if all are NaN.

    >>> fill_gaps(np.array([np.nan, 1.0, np.nan, 3.0])).tolist()
    [1.0, 1.0, 2.0, 3.0]
    """
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.empty(0)
    return np.interp(np.arange(len(values)), known, values[known])


def _to_ticks(seconds: Sequence[float], tick_s: float) -> Ints:
    return np.maximum(1, np.round(np.array(seconds) / tick_s)).astype(np.int64)
