"""A quantile of a load some minutes ahead, tick by tick: what scaling ahead of it needs."""

import math
from collections.abc import Sequence

import numpy as np

from trimtab.models.contracts import Floats, Ints
from trimtab.models.scaling.load_kernel import SPREADS, shape_rows, walk
from trimtab.models.scaling.regression import ridge, spread_weights

DAY_S, KEPT_DAYS = 86_400.0, 14
LEAST_S = 6 * 3600.0
"""A shorter past says nothing about the next minutes."""
REFIT_S = DAY_S
MOVES_S = (60.0, 120.0, 300.0, 600.0)
MEANS_S = (300.0, 900.0, 3600.0, 10_800.0)
WIDTHS_S = (600.0, 150.0)
PACES_S = (10_800.0, 600.0, 3600.0, 21_600.0, DAY_S)
"""Seconds that running means remember: of the choice between two expectations, then of the misses."""
LEARN_EVERY_S = 60.0


class LoadAhead:
    """A streaming forecaster of one load for short horizons.

    A ridge regression on recent moves and on what the day usually does says what is likely; a linear
    quantile regression on its own recent misses says how much more it may be. Both are fitted to the past
    of this load alone, again each day. What it says at a tick depends on that tick and earlier ones only.

    tick_s   : seconds from value to value
    aheads_s : (k,) horizons in seconds from the newest value on
    level    : probability 0..1 that the load stays below what `step` says

    >>> load = LoadAhead(60.0, (180.0,), 0.9)
    >>> load.begin(100.0 + 10.0 * np.sin(np.arange(2 * 1440) / 200.0))
    >>> bool(90.0 < load.step(109.0)[0] < 125.0)
    True
    """

    def __init__(self, tick_s: float, aheads_s: Sequence[float], level: float) -> None:
        self.tick_s = tick_s
        self.aheads_s = tuple(aheads_s)
        self.level = level
        self.fitted = False
        self._x: Floats = np.empty(0)
        self._n = 0
        self._due = 0
        self._walks: list[_Walk] = []

    def begin(self, past: Floats) -> None:
        """Start from the past: (n,) float64 by tick, newest last; NaN in it is bridged."""
        kept = bridged(past[-self._ticks(KEPT_DAYS * DAY_S) :])
        self._x = np.empty(len(kept) + self._ticks(REFIT_S) + 1)
        self._x[: len(kept)] = kept
        self._n = len(kept)
        self._fit()

    def step(self, x: float) -> Floats:
        """Take the newest value in; (n_horizons,) float64, what the load ahead stays below in its unit.

        NaN = nothing is known yet.

        x : NaN = no sample; the value before then stands for it
        """
        if math.isnan(x):
            x = float(self._x[self._n - 1]) if self._n else 0.0
        if self._n == len(self._x):
            self.begin(np.append(self._x[: self._n], x))
        else:
            self._x[self._n] = x
            self._n += 1
            if self._n >= self._due:
                self.begin(self._x[: self._n].copy())
            elif self.fitted:
                for one in self._walks:
                    one.to(self._x, self._n)
        return self.high()

    def high(self) -> Floats:
        """As `step` gave it last."""
        if not self.fitted:
            return np.full(len(self.aheads_s), math.nan)
        return np.array([max(0.0, one.high()) for one in self._walks])

    def likely(self) -> Floats:
        """(n_horizons,) float64, what is expected; NaN = nothing is known yet."""
        if not self.fitted:
            return np.full(len(self.aheads_s), math.nan)
        return np.array([max(0.0, one.likely[self._n - 1]) for one in self._walks])

    def _fit(self) -> None:
        self.fitted = self._n * self.tick_s >= LEAST_S
        self._due = self._n + self._ticks(REFIT_S if self.fitted else LEAST_S / 6.0)
        if self.fitted:
            self._walks = [_Walk(self.tick_s, ahead_s) for ahead_s in self.aheads_s]
            for one in self._walks:
                one.fit(self._x, self._n, self.level)

    def _ticks(self, seconds: float) -> int:
        return max(1, round(seconds / self.tick_s))


class _Walk:
    """One horizon of it: the fitted weights, and what the walk over the ticks remembers."""

    def __init__(self, tick_s: float, ahead_s: float) -> None:
        self.ahead = max(1, round(ahead_s / tick_s))
        self.day = round(DAY_S / tick_s)
        self.every = max(1, round(LEARN_EVERY_S / tick_s))
        self.moves, self.means, self.widths = (_ticks(s, tick_s) for s in (MOVES_S, MEANS_S, WIDTHS_S))
        self.paces = 1.0 - np.exp(-tick_s / np.array(PACES_S))
        self.likely: Floats = np.empty(0)
        self._drawn: Floats = np.empty(0)
        self._misses: Floats = np.empty(0)
        self._sums: Floats = np.empty(0)
        self._recent: Floats = np.zeros(6)
        self._done = 0
        self._weights: Floats = np.empty(0)
        self._spread_weights: Floats = np.zeros(SPREADS)
        self._newest: Floats = np.zeros((1, SPREADS))

    def fit(self, x: Floats, n: int, level: float) -> None:
        """Learn from the first n of x, and walk over them."""
        self._sums = np.zeros(len(x) + 1)
        np.cumsum(x[:n], out=self._sums[1 : n + 1])
        self._drawn, self.likely, self._misses = np.empty(len(x)), np.empty(len(x)), np.zeros(len(x) + 1)
        first = self.day if n > 2 * self.day else n // 4
        rows = np.arange(first, n - self.ahead, self.every)
        shapes = shape_rows(x, self._sums, rows, self.ahead, self.day, self.moves, self.means, self.widths)
        moved = x[rows + self.ahead] - x[rows]
        self._weights = ridge(shapes, moved)
        spreads = np.empty((n, SPREADS))
        self._walk(x, 0, n, spreads)
        misses = x[rows + self.ahead] - self.likely[rows]
        usual = spreads[rows, 3]
        self._spread_weights = spread_weights(spreads[rows], misses, usual, level)
        self._newest[0] = spreads[-1]

    def to(self, x: Floats, n: int) -> None:
        """Go on until the first n of x are taken in."""
        for i in range(self._done, n):
            self._sums[i + 1] = self._sums[i] + x[i]
            self._walk(x, i, i + 1, self._newest)

    def high(self) -> float:
        """For the tick taken in last."""
        return float(self.likely[self._done - 1] + self._spread_weights @ self._newest[0])

    def _walk(self, x: Floats, first: int, last: int, spreads: Floats) -> None:
        walk(
            x, self._sums, first, last, self.ahead, self.day, self.moves, self.means, self.widths, self.paces,
            self._weights, self._drawn, self.likely, self._misses, self._recent, spreads,
        )  # fmt: skip
        self._done = last


def bridged(values: Floats) -> Floats:
    """Values without holes: straight over those inside, the nearest one at the ends; empty where all is NaN.

    >>> bridged(np.array([np.nan, 1.0, np.nan, 3.0])).tolist()
    [1.0, 1.0, 2.0, 3.0]
    """
    there = np.flatnonzero(np.isfinite(values))
    if not len(there):
        return np.empty(0)
    return np.interp(np.arange(len(values)), there, values[there])


def _ticks(seconds: Sequence[float], tick_s: float) -> Ints:
    return np.maximum(1, np.round(np.array(seconds) / tick_s)).astype(np.int64)
