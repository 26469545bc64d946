"""Small regressions for a short forecast: least squares, and a quantile of what is left over."""

import numpy as np

from trimtab.models.contracts import Floats
from trimtab.models.scaling.load_kernel import nonnegative_quadratic_minimum

RIDGE_PENALTY, QUANTILE_RIDGE_PENALTY = 1e-2, 1e-3
MAX_ROUNDS, RELATIVE_TOLERANCE = 40, 2e-3
_MIN_ERROR_RATIO = 0.05
"""Misses smaller than this share of the usual one count as this: the weights of a quantile stay finite."""


def ridge_weights(rows: Floats, wanted: Floats) -> Floats:
    """Weights of the columns of `rows` that come nearest to `wanted`, drawn a little towards nothing.

    rows : (n, k) float64;  wanted : (n,) float64, in any unit

    >>> ridge_weights(np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 6.0])).round(1).tolist()
    [2.0]
    """
    size = np.abs(rows).mean(0)
    size[size <= 0.0] = 1.0
    scaled = rows / size
    gram = scaled.T @ scaled + RIDGE_PENALTY * len(rows) * np.eye(rows.shape[1])
    weights: Floats = np.linalg.solve(gram, scaled.T @ wanted) / size
    return weights


def quantile_weights(spreads: Floats, misses: Floats, usual: Floats, level: float) -> Floats:
    """Weights >= 0 so that `misses` stay below `spreads @ weights` with probability `level`.

    Linear quantile regression (Koenker and Bassett, 1978) by reweighted least squares.

    spreads : (n, k) float64, none negative;  misses : (n,) float64, signed;  usual : (n,) float64, how far
    off each row usually is, so that calm and busy hours count alike;  level : 0..1

    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=20_000)
    >>> w = quantile_weights(np.ones((20_000, 1)), noise, np.ones(20_000), 0.95)
    >>> bool(abs(np.mean(noise < w[0]) - 0.95) < 0.01)
    True
    """
    size = spreads.mean(0)
    size[size <= 0.0] = 1.0
    floor = 1e-6 * spreads.mean() + 1e-30
    scaled = spreads / size / (usual + floor)[:, None]
    target = np.abs(misses) / (usual + floor)
    weights = _weighted_nonnegative_fit(scaled, target, np.ones(len(target)))
    usual = scaled @ weights * (usual + floor) + floor
    scaled, target = spreads / size / usual[:, None], misses / usual
    counts = np.ones(len(target))
    for _ in range(MAX_ROUNDS):
        before, weights = weights, _weighted_nonnegative_fit(scaled, target, counts)
        if np.abs(weights - before).max() <= RELATIVE_TOLERANCE * np.abs(weights).max():
            break
        rest = target - scaled @ weights
        counts = np.where(rest > 0.0, level, 1.0 - level) / np.maximum(np.abs(rest), _MIN_ERROR_RATIO)
    found: Floats = weights / size
    return found


def _weighted_nonnegative_fit(rows: Floats, target: Floats, counts: Floats) -> Floats:
    weighed = rows * counts[:, None]
    gram = weighed.T @ rows
    gram += (QUANTILE_RIDGE_PENALTY * np.trace(gram) / len(gram) + 1e-30) * np.eye(len(gram))
    found: Floats = nonnegative_quadratic_minimum(gram, weighed.T @ target)
    return found
