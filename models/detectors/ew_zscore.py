"""Exponentially weighted z-score: distance of a value from the recent mean in standard deviations."""

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from trimtab.models.bank import Bank, StateField
from trimtab.models.contracts import Floats
from trimtab.models.errors import ModelError

TILE_SERIES = 16_384
"""Number of series processed together, so that their state stays in the processor's cache during a run."""
VARIANCE_FLOOR = 1e-60
"""Smallest variance; smaller values would be subnormal numbers, which are slow."""
RELATIVE_STD_FLOOR = 1e-12
"""Smallest standard deviation, relative to the mean."""
MAX_COUNT = 1 << 30


@njit(cache=True, error_model="numpy")
def ew_zscore_score(i, x, t, mean, spread, count, fading_factor, min_samples, exact):
    """Return the signed z of one value.

    nan for a non-finite value, while warming up, and in exact form if there is no variance.
    """
    m, v, n = mean[i], spread[i], count[i]  # loads inside a branch prevent vectorisation
    low = RELATIVE_STD_FLOOR * m
    if exact:
        variance = v - m * m
        known = (n > 0) & (variance > 0.0)
    else:
        variance = max(v, low * low)
        known = n >= min_samples
    z = (x - m) / math.sqrt(variance)
    return z if known & (abs(x) < math.inf) else math.nan


@njit(cache=True, error_model="numpy")
def _updated_moments(x, mean, spread, count, fading_factor, exact):
    """Return (mean, spread) after one more value; the first samples have equal weight unless exact."""
    if exact:
        rate = fading_factor if count > 0 else 1.0
        return rate * x + (1.0 - rate) * mean, rate * (x * x) + (1.0 - rate) * spread
    rate = max(fading_factor, 1.0 / (count + 1.0))
    gap = x - mean
    change = rate * gap
    return mean + change, max((1.0 - rate) * (spread + gap * change), VARIANCE_FLOOR)


@njit(cache=True, error_model="numpy")
def ew_zscore_learn(i, x, t, mean, spread, count, fading_factor, min_samples, exact):
    """Update one series with one value; a non-finite value changes nothing."""
    if math.isfinite(x):
        mean[i], spread[i] = _updated_moments(x, mean[i], spread[i], count[i], fading_factor, exact)
        count[i] = min(count[i] + 1, MAX_COUNT)


@njit(cache=True, error_model="numpy")
def _learn_tile(x, t, where, gate, out, mean, spread, count, fading_factor, min_samples, exact):
    """Run `ew_zscore_score` and `ew_zscore_learn` for one tick and tile, branchless to be vectorised."""
    for i in range(x.shape[0]):
        value, m, v, n = x[i], mean[i], spread[i], count[i]
        s = ew_zscore_score(i, value, t, mean, spread, count, fading_factor, min_samples, exact)
        out[i] = s
        new_m, new_v = _updated_moments(value, m, v, n, fading_factor, exact)
        learns = where[i] & (abs(value) < math.inf) & (not abs(s) > gate[i])  # isfinite would branch
        mean[i] = new_m if learns else m
        spread[i] = new_v if learns else v
        count[i] = min(n + 1, MAX_COUNT) if learns else n


@njit(cache=True, error_model="numpy")
def ew_zscore_run(x, t, where, gate, learning, out, mean, spread, count, fading_factor, min_samples, exact):
    """Kernel of the bank; see `trimtab.models.bank.Bank`."""
    for a in range(0, x.shape[1], TILE_SERIES):
        b = min(a + TILE_SERIES, x.shape[1])
        for k in range(x.shape[0]):
            if learning:
                _learn_tile(
                    x[k, a:b], t[k], where[k, a:b], gate[a:b], out[k, a:b],
                    mean[a:b], spread[a:b], count[a:b], fading_factor, min_samples, exact,
                )  # fmt: skip
                continue
            for i in range(a, b):
                out[k, i] = ew_zscore_score(
                    i, x[k, i], t[k], mean, spread, count, fading_factor, min_samples, exact
                )


class EwZscore(Bank):
    """Signed z-score (x - EWMean) / sqrt(EWVar); NaN before `min_samples` samples are learnt.

    The variance is updated incrementally (Finch, 2009, "Incremental calculation of weighted mean and
    variance"), which stays accurate at large offsets. The first samples have equal weight.
    `VARIANCE_FLOOR` and `RELATIVE_STD_FLOOR` keep the statistic of a constant series finite.

    fading_factor : weight of the newest sample, 0 < fading_factor <= 1; named as in river
    exact         : use river's arithmetic, the EW mean of x and of x * x as in river.stats.EWMean and EWVar,
                    from the first sample on; NaN if that variance is not positive
    min_samples   : samples to learn before the first statistic (not used if exact)
    n_std         : half width of the expected band in standard deviations

    Raises ModelError for a fading factor or a number of samples out of range.

    >>> import numpy as np
    >>> bank = EwZscore(n_series=1, fading_factor=0.1)
    >>> x = np.r_[np.tile([1.0, 3.0], 100), 12.0][:, None]
    >>> bool(bank.run(x, np.arange(201))[-1, 0] > 9)
    True
    """

    def __init__(
        self,
        n_series: int,
        fading_factor: float = 0.02,
        *,
        exact: bool = False,
        min_samples: int = 30,
        n_std: float = 3.0,
    ) -> None:
        if not 0.0 < fading_factor <= 1.0:
            raise ModelError(f"ew_zscore: fading_factor is {fading_factor}; must be above 0 and at most 1")
        if min_samples < 1:
            raise ModelError(f"ew_zscore: min_samples is {min_samples}; must be at least 1")
        self.fading_factor = fading_factor
        self.exact = exact
        self.min_samples = min_samples
        self.n_std = n_std
        super().__init__(n_series)

    def fields(self) -> dict[str, StateField]:
        """Return the state fields.

        mean   : in the series' unit
        spread : variance, or mean square if exact
        count  : number of samples
        """
        return {
            "mean": StateField(np.float64),
            "spread": StateField(np.float64, 0.0 if self.exact else VARIANCE_FLOOR),
            "count": StateField(np.int32),
        }

    def kernel(self) -> Callable[..., None]:
        """Return the compiled kernel."""
        kernel: Callable[..., None] = ew_zscore_run
        return kernel

    def parameters(self) -> tuple[float, int, bool]:
        """Return the fading factor, the warm-up in samples and whether to use river's arithmetic."""
        return (float(self.fading_factor), int(self.min_samples), bool(self.exact))

    def expected(self, t: int) -> tuple[Floats, Floats, Floats]:  # noqa: ARG002 - does not depend on time
        """Return the mean and a band of `n_std` standard deviations on either side."""
        v = self.arrays.values
        mean, spread, is_warm = v["mean"], v["spread"], v["count"] >= (1 if self.exact else self.min_samples)
        variance = spread - mean * mean if self.exact else spread
        yhat = np.where(is_warm, mean, np.nan)
        half_width = self.n_std * np.sqrt(np.maximum(variance, 0.0))
        return yhat, yhat - half_width, yhat + half_width
