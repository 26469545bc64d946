"""Parity of the exact forms with river: 50 series of 2,000 points, to 1e-12."""

import math

import numpy as np
import pytest
from river import anomaly, preprocessing, stats

from trimtab.models.catalogue import detector

N, TICKS = 50, 2_000
TIMES = np.arange(TICKS, dtype=np.int64)


@pytest.fixture(scope="module")
def values():
    """Return (TICKS, N), ten series each: normal, skewed, heavy-tailed, counts, seasonal; mostly in 0..1."""
    rng = np.random.default_rng(26)
    k = np.arange(TICKS)[:, None]
    kinds = [
        rng.normal(0.5, 0.1, (TICKS, 10)),
        rng.lognormal(-2, 0.7, (TICKS, 10)),
        0.5 + 0.02 * rng.standard_t(2, (TICKS, 10)),
        rng.poisson(4, (TICKS, 10)) / 16,
        0.5 + 0.3 * np.sin(k * 2 * np.pi / 288) + rng.normal(0, 0.03, (TICKS, 10)),
    ]
    return np.concatenate(kinds, axis=1)


def test_ew_zscore_equals_river(values):
    """The exact form equals (x - EWMean) / sqrt(EWVar) of river.stats; NaN where the variance is 0."""
    got = detector("ew_zscore", N, fading_factor=0.03, exact=True).run(values, TIMES)
    want = np.full_like(values, np.nan)
    for i in range(N):
        mean, variance = stats.EWMean(0.03), stats.EWVar(0.03)
        for k, x in enumerate(values[:, i].tolist()):
            if variance.get() > 0:
                want[k, i] = (x - mean.get()) / math.sqrt(variance.get())
            mean.update(x)
            variance.update(x)
    assert np.isfinite(want).mean() > 0.99
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got, want)


def river_scores(make, column):
    """Return the scores of one river object over one series, scoring before learning."""
    model, out = make(), []
    for x in column.tolist():
        out.append(model.score_one({"x": x}))
        model.learn_one({"x": x})
    return out


def test_half_space_trees_equal_river(values):
    """The exact form equals river.anomaly.HalfSpaceTrees with the same seed, including the first zeros."""
    got = detector("half_space_trees", N, seed=7, exact=True).run(values, TIMES)
    want = np.array([river_scores(lambda: anomaly.HalfSpaceTrees(seed=7), c) for c in values.T]).T
    assert len(np.unique(want)) > 500
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"n_trees": 5, "height": 3, "window_size": 30, "seed": 1}, None),
        ({"n_trees": 1, "height": 10, "window_size": 300, "seed": 2}, (-1.0, 2.0)),  # counts beyond a byte
        ({"n_trees": 25, "height": 6, "window_size": 255, "seed": 3}, (0.2, 0.8)),  # values beyond the limits
    ],
)
def test_half_space_trees_equal_river_with_other_parameters(values, given, limits):
    """Trees, height, window, limits and seed have the same meaning as in river."""
    few = values[:900, ::10]
    got = detector("half_space_trees", few.shape[1], exact=True, limits=limits, **given).run(few, TIMES[:900])

    def make():
        return anomaly.HalfSpaceTrees(**given, limits=None if limits is None else {"x": limits})

    np.testing.assert_array_equal(got, np.array([river_scores(make, c) for c in few.T]).T)


@pytest.mark.parametrize(
    ("given", "make"),
    [
        ({"model": "LODA", "seed": 5}, lambda: anomaly.LODA(seed=5)),
        ({"model": "anomaly.OneClassSVM"}, anomaly.OneClassSVM),
        (
            {"scale": True, "n_trees": 4, "height": 5, "window_size": 50, "seed": 5},
            lambda: preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(4, 5, 50, seed=5),
        ),
        ({"model": anomaly.LocalOutlierFactor(n_neighbors=5)}, lambda: anomaly.LocalOutlierFactor(5)),
    ],
)
def test_river_object_in_a_bank_scores_the_same(values, given, make):
    """A river object in a bank gives the same scores as alone."""
    few = values[:150, ::25]
    got = detector("river", few.shape[1], warm_up=0, **given).run(few, TIMES[:150])
    want = np.array([river_scores(make, c) for c in few.T]).T
    np.testing.assert_array_equal(got[1:], want[1:])
    assert np.isnan(got[0]).all(), "nothing was learnt yet"
