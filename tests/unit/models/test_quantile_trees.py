"""Boosted trees as arrays: equal to LightGBM, and validated before use."""

import builtins

import numpy as np
import pytest

from trimtab.models.errors import ModelError, StateError
from trimtab.models.forecasting import quantile_trees
from trimtab.models.forecasting.linear_pool import bucket_edges

QUANTILES = (0.1, 0.9)


def make_data(n=4000):
    """Return (n, 4) features, one of them with gaps, and a target whose spread depends on a feature."""
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (n, 4))
    x[rng.random(n) < 0.2, 1] = np.nan
    y = np.nan_to_num(x[:, 1]) + 2 * x[:, 0] + (1 + (x[:, 2] > 0)) * rng.normal(0, 0.5, n)
    return x, y


@pytest.fixture(scope="module")
def trees():
    """Return a small ensemble."""
    return quantile_trees.train(*make_data(), QUANTILES, 12)


def test_predictions_equal_lightgbm(trees):
    """The kernel equals LightGBM's predict, also for NaN in columns trained with and without NaN."""
    import lightgbm

    x, y = make_data()
    queries = x[:500].copy()
    queries[::7, 0] = np.nan
    rows = lightgbm.Dataset(x, y, params={"max_bin": quantile_trees.PARAMETERS["max_bin"], "verbose": -1})
    for k, q in enumerate(QUANTILES):
        booster = lightgbm.train({**quantile_trees.PARAMETERS, "alpha": q}, rows, 12)
        want = booster.predict(queries)
        np.testing.assert_allclose(quantile_trees.predict(trees, queries)[k], want, rtol=1e-9, atol=1e-9)


def test_share_below_a_quantile_matches_its_level():
    """The share of values below a quantile is close to its level."""
    x, y = make_data()
    more = quantile_trees.train(x, y, QUANTILES, 60)
    below = (y < quantile_trees.predict(more, x)).mean(axis=1)
    assert below[0] == pytest.approx(0.1, abs=0.03)
    assert below[1] == pytest.approx(0.9, abs=0.03)


INVALID_CHANGES = {
    "a loop": lambda s: s | {"left": np.zeros_like(s["left"])},
    "a child beyond the end": lambda s: s | {"right": s["right"] + 10**6},
    "a feature that is not there": lambda s: s | {"feature": s["feature"] + 4},
    "not finite": lambda s: s | {"threshold": s["threshold"] * np.inf},
    "roots beyond the end": lambda s: s | {"roots": s["roots"] + 10**6},
    "another type": lambda s: s | {"feature": s["feature"].astype(np.float64)},
    "an array missing": lambda s: {k: v for k, v in s.items() if k != "nan_left"},
    "lengths that differ": lambda s: s | {"left": s["left"][:-1]},
    "one quantile too few": lambda s: s | {"roots": s["roots"][:1]},
}


@pytest.mark.parametrize("change", INVALID_CHANGES.values(), ids=INVALID_CHANGES)
def test_invalid_trees_are_refused(trees, change):
    """Arrays with loops, invalid indices, types or shapes raise StateError."""
    quantile_trees.check_trees(trees, 2, 4)
    with pytest.raises(StateError), np.errstate(invalid="ignore"):
        quantile_trees.check_trees(change(trees), 2, 4)


def test_buckets_cover_every_horizon_once():
    """Bucket edges increase up to the longest horizon."""
    for longest in (1, 2, 7, 288, 1440):
        edges = bucket_edges(longest)
        assert edges[0] == 0
        assert edges[-1] == max(longest, 1)
        assert (np.diff(edges) > 0).all()


def test_missing_openmp_is_named(monkeypatch):
    """If LightGBM's library cannot be loaded, the error names the package to install."""

    def missing(name, *_):
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return real(name, *_)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModelError, match=r"libgomp\.so\.1.*libgomp1"):
        quantile_trees.train(np.zeros((4, 1)), np.zeros(4), [0.5], 1)
