"""Compiled detectors against their plain-Python twins."""

import numpy as np
import pytest

from tests import plain_twins
from trimtab.models.detectors.ew_zscore import EwZscore
from trimtab.models.detectors.half_space_trees import HalfSpaceTrees

N, TICKS = 8, 700


def make_values():
    """Return (TICKS, N) values, one kind of series per column, with gaps."""
    rng = np.random.default_rng(3)
    x = np.stack(
        [
            rng.normal(10, 1, TICKS),
            rng.lognormal(0, 1, TICKS),
            rng.poisson(2, TICKS).astype(float),
            np.full(TICKS, 7.0),  # constant
            np.where(np.arange(TICKS) < 400, 0.0, 5.0),  # constant, then another
            1e9 + rng.normal(0, 1, TICKS),  # large offset
            rng.standard_t(2, TICKS) * 1e-6,  # small and heavy-tailed
            np.sin(np.arange(TICKS) / 20) - 0.5,
        ],
        axis=1,
    )
    x[rng.random(x.shape) < 0.03] = np.nan
    x[50, 0], x[60, 1] = np.inf, -np.inf
    return x


def twin_statistics(make, x):
    """Return the twins' statistics, tick by tick."""
    twins = [make() for _ in range(x.shape[1])]
    out = np.empty_like(x)
    for k, row in enumerate(x.tolist()):
        for i, value in enumerate(row):
            out[k, i] = twins[i].score(value)
            twins[i].learn(value)
    return out


CASES = [
    (EwZscore, plain_twins.EwZscore, {}),
    (EwZscore, plain_twins.EwZscore, {"fading_factor": 0.3, "min_samples": 1}),
    (EwZscore, plain_twins.EwZscore, {"fading_factor": 0.05, "exact": True}),
    (HalfSpaceTrees, plain_twins.HalfSpaceTrees, {"window_size": 100}),
    (HalfSpaceTrees, plain_twins.HalfSpaceTrees, {"n_trees": 3, "height": 5, "window_size": 300, "seed": 1}),
    (HalfSpaceTrees, plain_twins.HalfSpaceTrees, {"window_size": 64, "limits": (-2.0, 12.0)}),
    (HalfSpaceTrees, plain_twins.HalfSpaceTrees, {"window_size": 50, "exact": True}),
]


@pytest.mark.parametrize(("bank", "twin", "parameters"), CASES)
def test_kernel_equals_twin(bank, twin, parameters):
    """The compiled kernel equals its plain twin on every kind of series."""
    x = make_values()
    got = bank(N, **parameters).run(x, np.arange(TICKS))
    want = twin_statistics(lambda: twin(**parameters), x)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_stable_variance_holds_at_large_offsets():
    """At an offset of 1e9 the default form keeps the scale of z; river's form does not."""
    x = 1e9 + np.random.default_rng(0).normal(0, 1, (5000, 1))
    t = np.arange(len(x))
    assert np.nanstd(EwZscore(1, 0.01).run(x, t)[500:]) == pytest.approx(1.0, rel=0.1)
    assert np.nanstd(EwZscore(1, 0.01, exact=True).run(x, t)[500:]) != pytest.approx(1.0, rel=0.1)


def test_infinity_is_no_sample():
    """An infinite value has no statistic and does not change the state."""
    x = np.random.default_rng(0).normal(0, 1, (400, 2))
    x[100] = np.nan
    y = x.copy()
    y[100] = [np.inf, -np.inf]
    for bank in (EwZscore, HalfSpaceTrees):
        np.testing.assert_array_equal(bank(2).run(x, np.arange(400)), bank(2).run(y, np.arange(400)))
