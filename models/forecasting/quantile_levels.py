"""Quantiles asked for from quantiles known, without crossing."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from trimtab.models.contracts import Floats
from trimtab.models.errors import ModelError

QUANTILE_LEVELS = (0.05, 0.5, 0.9, 0.95, 0.99)
"""What is learnt; others lie between."""


def check_quantiles(quantiles: Sequence[float]) -> tuple[float, ...]:
    """The quantiles, rising and within 0.05 .. 0.99. Raises ModelError otherwise.

    >>> check_quantiles([0.05, 0.5])
    (0.05, 0.5)
    """
    given = tuple(float(q) for q in quantiles)
    if (
        not given
        or list(given) != sorted(set(given))
        or not QUANTILE_LEVELS[0] <= given[0] <= given[-1] <= QUANTILE_LEVELS[-1]
    ):
        raise ModelError(
            f"quantiles {given}: wanted rising numbers from {QUANTILE_LEVELS[0]} to {QUANTILE_LEVELS[-1]}"
        )
    return given


def interpolate_quantiles(known: Floats, levels: Sequence[float], quantiles: Sequence[float]) -> Floats:
    """(n_quantiles, ...) from (n_levels, ...): sorted, then linear over the normal distribution's scores."""
    rising = np.sort(known, axis=0)
    score = NormalDist().inv_cdf
    have, want = np.array([score(q) for q in levels]), np.array([score(q) for q in quantiles])
    low = np.clip(np.searchsorted(have, want, side="right") - 1, 0, len(have) - 2)
    share = (want - have[low]) / (have[low + 1] - have[low])
    share = share.reshape(-1, *[1] * (known.ndim - 1))
    out: Floats = rising[low] + share * (rising[low + 1] - rising[low])
    return out


def nan_median(each: Floats) -> Floats:
    """Median over the first axis of what is known; NaN where nothing is.

    >>> nan_median(np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    known = np.isfinite(each).sum(axis=0)
    ordered = np.sort(each, axis=0)  # NaN last
    low, high = np.maximum(known - 1, 0) // 2, known // 2
    high = np.minimum(high, np.maximum(known - 1, 0))
    pick = [np.take_along_axis(ordered, at[None], axis=0)[0] for at in (low, high)]
    return np.where(known > 0, 0.5 * (pick[0] + pick[1]), np.nan)
