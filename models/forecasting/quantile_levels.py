"""Interpolation of requested quantiles from learned quantile levels, without crossing."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from trimtab.models.contracts import Floats
from trimtab.models.errors import ModelError

QUANTILE_LEVELS = (0.05, 0.5, 0.9, 0.95, 0.99)
"""Learned levels; other quantiles are interpolated between them."""


def check_quantiles(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Return the quantiles as floats. Raises ModelError unless they increase and lie within 0.05 .. 0.99.

    >>> check_quantiles([0.05, 0.5])
    (0.05, 0.5)
    """
    levels = tuple(float(q) for q in quantiles)
    if (
        not levels
        or list(levels) != sorted(set(levels))
        or not QUANTILE_LEVELS[0] <= levels[0] <= levels[-1] <= QUANTILE_LEVELS[-1]
    ):
        raise ModelError(
            f"quantiles are {levels}; must increase, from {QUANTILE_LEVELS[0]} to {QUANTILE_LEVELS[-1]}"
        )
    return levels


def interpolate_quantiles(known: Floats, levels: Sequence[float], quantiles: Sequence[float]) -> Floats:
    """Return (n_quantiles, ...) from (n_levels, ...) values: sorted, interpolated in normal scores.

    levels, quantiles : probabilities 0..1; quantiles within the range of the levels
    """
    ordered = np.sort(known, axis=0)
    score = NormalDist().inv_cdf
    level_scores, quantile_scores = (
        np.array([score(q) for q in levels]),
        np.array([score(q) for q in quantiles]),
    )
    low = np.clip(np.searchsorted(level_scores, quantile_scores, side="right") - 1, 0, len(level_scores) - 2)
    share = (quantile_scores - level_scores[low]) / (level_scores[low + 1] - level_scores[low])
    share = share.reshape(-1, *[1] * (known.ndim - 1))
    out: Floats = ordered[low] + share * (ordered[low + 1] - ordered[low])
    return out


def nan_median(values: Floats) -> Floats:
    """Return the median of the known values over the first axis; NaN where none is known.

    >>> nan_median(np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    n_known = np.isfinite(values).sum(axis=0)
    ordered = np.sort(values, axis=0)  # NaN last
    low, high = np.maximum(n_known - 1, 0) // 2, n_known // 2
    high = np.minimum(high, np.maximum(n_known - 1, 0))
    pick = [np.take_along_axis(ordered, at[None], axis=0)[0] for at in (low, high)]
    return np.where(n_known > 0, 0.5 * (pick[0] + pick[1]), np.nan)
