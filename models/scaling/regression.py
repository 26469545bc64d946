"""Least-squares and quantile regression for the short load forecast."""

import numpy as np

from trimtab.models.contracts import Floats
from trimtab.models.scaling.load_kernel import nonnegative_quadratic_minimum

RIDGE_PENALTY, QUANTILE_RIDGE_PENALTY = 1e-2, 1e-3
MAX_ROUNDS, RELATIVE_TOLERANCE = 40, 2e-3
_MIN_ERROR_RATIO = 0.05
"""Errors below this share of the usual error count as this, so that the weights stay finite."""


def ridge_weights(rows: Floats, target: Floats) -> Floats:
    """Return ridge regression weights of the columns of `rows` for `target`.

    rows   : (n, k) float64
    target : (n,) float64, any unit

    >>> ridge_weights(np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 6.0])).round(1).tolist()
    [2.0]
    """
    size = np.abs(rows).mean(0)
    size[size <= 0.0] = 1.0
    scaled = rows / size
    gram = scaled.T @ scaled + RIDGE_PENALTY * len(rows) * np.eye(rows.shape[1])
    weights: Floats = np.linalg.solve(gram, scaled.T @ target) / size
    return weights


def quantile_weights(spreads: Floats, errors: Floats, usual: Floats, level: float) -> Floats:
    """Return weights >= 0 such that errors stay below `spreads @ weights` with probability `level`.

    Linear quantile regression (Koenker and Bassett, 1978) by iteratively reweighted least squares.

    spreads : (n, k) float64, not negative
    errors  : (n,) float64, signed
    usual   : (n,) float64, usual error of each row, so that quiet and busy hours have equal weight
    level   : 0..1

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
    target = np.abs(errors) / (usual + floor)
    weights = _weighted_nonnegative_fit(scaled, target, np.ones(len(target)))
    usual = scaled @ weights * (usual + floor) + floor
    scaled, target = spreads / size / usual[:, None], errors / usual
    sample_weights = np.ones(len(target))
    for _ in range(MAX_ROUNDS):
        before, weights = weights, _weighted_nonnegative_fit(scaled, target, sample_weights)
        if np.abs(weights - before).max() <= RELATIVE_TOLERANCE * np.abs(weights).max():
            break
        residual = target - scaled @ weights
        sample_weights = np.where(residual > 0.0, level, 1.0 - level) / np.maximum(
            np.abs(residual), _MIN_ERROR_RATIO
        )
    unscaled: Floats = weights / size
    return unscaled


def _weighted_nonnegative_fit(rows: Floats, target: Floats, sample_weights: Floats) -> Floats:
    weighted = rows * sample_weights[:, None]
    gram = weighted.T @ rows
    gram += (QUANTILE_RIDGE_PENALTY * np.trace(gram) / len(gram) + 1e-30) * np.eye(len(gram))
    weights: Floats = nonnegative_quadratic_minimum(gram, weighted.T @ target)
    return weights
