"""Range exceedance: distance of a value from where its series usually runs, in spreads."""

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from trimtab.models.bank import Bank, StateField
from trimtab.models.contracts import Floats

HUBER_CLIP = 3.0
"""A sample moves the centre at most as if it were this many spreads away (Huber, 1964)."""
SPREAD_RATE_RATIO = 0.1
"""Learning rate of the spread relative to that of the centre; slow, to remember rare events."""
RELATIVE_TOLERANCE = 1e-12
"""Relative distance up to which two values count as equal."""


@njit(cache=True)
def range_score(i, x, centre, spread, seen):
    """Return the signed distance from the centre in spreads.

    Infinite for a deviation from a constant series; nan before the second sample.
    """
    if seen[i] < 2.0 or not math.isfinite(x):
        return math.nan
    gap = x - centre[i]
    if abs(gap) <= RELATIVE_TOLERANCE * abs(centre[i]):
        return 0.0
    return gap / spread[i] if spread[i] > 0.0 else math.copysign(math.inf, gap)


@njit(cache=True)
def range_learn(i, x, alpha, centre, spread, seen):
    """Move centre and spread towards x; the first samples have equal weight."""
    if not math.isfinite(x):
        return
    if seen[i] == 0.0:
        centre[i] = x
        spread[i] = 0.0
        seen[i] = 1.0
        return
    seen[i] += 1.0
    rate = max(alpha, 1.0 / seen[i])
    gap = x - centre[i]
    max_gap = HUBER_CLIP * spread[i] if seen[i] > 8.0 and spread[i] > 0.0 else math.inf
    centre[i] += rate * min(max(gap, -max_gap), max_gap)
    spread[i] += max(SPREAD_RATE_RATIO * alpha, 1.0 / seen[i]) * (abs(gap) - spread[i])


@njit(cache=True)
def range_recentre(i, x, centre):
    """Restart from x after a declared level shift."""
    centre[i] = x


@njit(cache=True)
def range_run(x, t, where, gate, learning, out, centre, spread, seen, alpha):
    """Kernel of the bank; see `trimtab.models.bank.Bank`."""
    for k in range(x.shape[0]):
        for i in range(x.shape[1]):
            s = range_score(i, x[k, i], centre, spread, seen)
            out[k, i] = s
            if learning and where[k, i] and not abs(s) > gate[i]:
                range_learn(i, x[k, i], alpha, centre, spread, seen)


class RangeExceedance(Bank):
    """Distance of a value from a robust running centre, in spreads.

    alpha : learning rate of centre and spread per tick; the memory is 1/alpha ticks

    >>> import numpy as np
    >>> bank = RangeExceedance(n_series=1, alpha=0.01)
    >>> x = np.r_[np.tile([1.0, 2.0, 3.0], 100), 50.0][:, None]
    >>> bool(abs(bank.run(x, np.arange(301))[-1, 0]) > 20)
    True
    """

    def __init__(self, n_series: int, alpha: float = 0.001) -> None:
        self.alpha = alpha
        super().__init__(n_series)

    def fields(self) -> dict[str, StateField]:
        """Return the state fields: centre and spread in the series' unit; seen, the number of samples."""
        return {
            "centre": StateField(np.float64),
            "spread": StateField(np.float64),
            "seen": StateField(np.float64),
        }

    def kernel(self) -> Callable[..., None]:
        """Return the compiled kernel."""
        run: Callable[..., None] = range_run
        return run

    def parameters(self) -> tuple[float]:
        """Return the learning rate."""
        return (self.alpha,)

    def expected(self, t: int) -> tuple[Floats, Floats, Floats]:  # noqa: ARG002 - does not depend on time
        """Return the centre and a band of four spreads on either side."""
        v = self.arrays.values
        is_warm = v["seen"] >= 2
        yhat = np.where(is_warm, v["centre"], np.nan)
        half_width = 4.0 * np.where(is_warm, v["spread"], np.nan)
        return yhat, yhat - half_width, yhat + half_width
