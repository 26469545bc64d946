"""Speed of the forecasters against LightGBM and scikit-learn: `make bench`."""

import time

import numpy as np
import pytest

from trimtab.models.catalogue import forecaster
from trimtab.models.contracts import Panel
from trimtab.models.forecasting import quantile_trees
from trimtab.models.forecasting.linear_pool import change_scale, fit_pool, fit_series, sample_origins
from trimtab.models.forecasting.panel_features import build_history

STEPS_PER_DAY = 288


def make_panel(n, days=21):
    """Return a panel of n series of 5 minutes with daily seasons of different phase."""
    rng = np.random.default_rng(0)
    k = np.arange(days * STEPS_PER_DAY)[:, None]
    y = (
        20
        + 9 * np.sin((k + rng.integers(0, STEPS_PER_DAY, n)) * 2 * np.pi / STEPS_PER_DAY)
        + rng.normal(0, 2, (len(k), n))
    )
    return Panel(y, np.full(n, 10**18), 300.0, np.ones(n, bool))


def best_time_s(work):
    """Return the shortest of three times in seconds."""
    times_s = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - start)
    return min(times_s)


def test_trees_against_lightgbm(benchmark):
    """The tree kernel takes at most twice as long as LightGBM's predict."""
    import lightgbm

    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (50_000, 30))
    y = x[:, 0] + rng.normal(0, 1, len(x))
    trees = quantile_trees.train(x, y, (0.9,), 50)
    rows = lightgbm.Dataset(x, y, params={"verbose": -1})
    booster = lightgbm.train({**quantile_trees.PARAMETERS, "max_bin": 255, "alpha": 0.9}, rows, 50)
    quantile_trees.predict(trees, x)
    lightgbm_s = best_time_s(lambda: booster.predict(x))
    benchmark.pedantic(quantile_trees.predict, (trees, x), rounds=5, warmup_rounds=1)
    ratio = lightgbm_s / benchmark.stats.stats.min
    benchmark.extra_info.update(ratio=round(ratio, 2))
    print(f"\nkernel {benchmark.stats.stats.min:.3f} s, LightGBM {lightgbm_s:.3f} s, ratio {ratio:.2f}")
    assert ratio >= 0.5


def test_ridge_against_scikit_learn(benchmark):
    """Fitting all series of a bucket at once is faster than scikit-learn's Ridge series by series."""
    from sklearn.linear_model import Ridge

    p = make_panel(64)
    history = build_history(p.y, p.end, p.step_s)
    rows = sample_origins(history, change_scale(history), (12, 20), 400, STEPS_PER_DAY, 21 * STEPS_PER_DAY)
    shared, spread = fit_pool(rows)

    def by_series():
        for x, y in zip(rows.regressors, rows.target, strict=True):
            for _ in range(5):
                Ridge(1.0).fit(x, y)

    sklearn_s = best_time_s(by_series)
    benchmark.pedantic(fit_series, (rows, shared, spread), rounds=5, warmup_rounds=1)
    ratio = sklearn_s / benchmark.stats.stats.min
    benchmark.extra_info.update(ratio=round(ratio, 2))
    print(
        f"\n{benchmark.stats.stats.min * 1e3:.0f} ms, scikit-learn {sklearn_s * 1e3:.0f} ms, "
        f"ratio {ratio:.1f}"
    )
    assert ratio >= 1.0


@pytest.mark.parametrize("n", [32, 128])
def test_load_forecaster(benchmark, n):
    """Fit and predict of a day take at most half a second of CPU per series."""
    p = make_panel(n)
    model = forecaster("load")
    times_s = []

    def work():
        marks = [time.process_time()]
        model.fit(p)
        marks.append(time.process_time())
        model.predict(p, STEPS_PER_DAY, (0.05, 0.5, 0.9, 0.95, 0.99))
        times_s.append(np.diff([*marks, time.process_time()]) / n)

    benchmark.pedantic(work, rounds=1, warmup_rounds=1)
    fit, predict = np.min(times_s, axis=0).tolist()
    benchmark.extra_info.update(fit_s_a_series=round(fit, 4), predict_s_a_series=round(predict, 4))
    print(f"\n{n} series: {fit:.3f} s of CPU a series to fit, {predict:.3f} s to predict")
    assert fit + predict <= 0.5
