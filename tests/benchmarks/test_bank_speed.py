"""Speed of banks against river objects on one core: `make bench`. Only these tests assert speed ratios."""

import math
import time
import tracemalloc

import numpy as np
import pytest
from river import anomaly, stats

from trimtab.models.catalogue import detector

N_SERIES = 100_000


def make_values(ticks, n):
    """Return (ticks, n) float64 values and (ticks,) int64 ns times."""
    x = np.random.default_rng(0).normal(10, 1, (ticks, n))
    return x, np.arange(ticks, dtype=np.int64) * 15 * 10**9


def best_time_s(work, rounds=1):
    """Return the shortest time of several rounds in seconds."""
    times_s = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - start)
    return min(times_s)


def report_ratio(benchmark, points, bank_s, river_s, river_points):
    """Store and print the points/s of both and return their ratio."""
    bank, river = points / bank_s, river_points / river_s
    benchmark.extra_info.update(
        bank_points_s=round(bank), river_points_s=round(river), ratio=round(bank / river, 1)
    )
    print(f"\nbank {bank / 1e6:.1f} M points/s, river {river / 1e6:.3f} M points/s, ratio {bank / river:.0f}")
    return bank / river


@pytest.mark.parametrize("exact", [False, True], ids=["stable", "exact"])
def test_ew_zscore(benchmark, exact):
    """The EW z-score bank is at least 100 times as fast as river objects for 100,000 series."""
    x, t = make_values(40, N_SERIES)
    bank = detector("ew_zscore", N_SERIES, exact=exact)
    bank.run(x, t)  # compile, and load the state into memory
    means = [stats.EWMean(0.02) for _ in range(N_SERIES)]
    variances = [stats.EWVar(0.02) for _ in range(N_SERIES)]
    rows = [row.tolist() for row in x[:4]]

    def by_objects():
        for row in rows:
            for mean, variance, value in zip(means, variances, row, strict=True):
                spread = variance.get()
                _ = (value - mean.get()) / math.sqrt(spread) if spread > 0 else math.nan
                mean.update(value)
                variance.update(value)

    river_s = best_time_s(by_objects, rounds=2)
    benchmark.pedantic(bank.run, (x, t), rounds=7, warmup_rounds=1)
    ratio = report_ratio(benchmark, x.size, benchmark.stats.stats.min, river_s, len(rows) * N_SERIES)
    assert ratio >= 100


def test_ew_zscore_tick_by_tick(benchmark):
    """Speed of one call per tick, as in live scoring, for 100,000 series."""
    x, _ = make_values(1, N_SERIES)
    bank = detector("ew_zscore", N_SERIES)
    benchmark.pedantic(bank.step, (x[0], 0), rounds=30, warmup_rounds=3)
    benchmark.extra_info["points_s"] = round(N_SERIES / benchmark.stats.stats.median)
    print(f"\n{N_SERIES / benchmark.stats.stats.median / 1e6:.0f} M points/s, one tick a call")


@pytest.mark.parametrize("exact", [False, True], ids=["default", "exact"])
def test_half_space_trees(benchmark, exact):
    """The half-space trees bank is at least 50 times as fast as river objects; prints the memory of both."""
    n, ticks = 2_000, 300
    x, t = make_values(ticks, n)
    bank = detector("half_space_trees", n, exact=exact, limits=(5.0, 15.0) if exact else None)
    bank.run(x, t)
    model = anomaly.HalfSpaceTrees(limits={"x": (5.0, 15.0)}, seed=42)
    column = [{"x": float(v)} for v in x[:, :10].T.ravel()]
    tracemalloc.start()
    for row in column[:260]:
        model.learn_one(row)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    def by_object():
        for row in column:
            model.score_one(row)
            model.learn_one(row)

    river_s = best_time_s(by_object)
    benchmark.pedantic(bank.run, (x, t), rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(bank_bytes=bank.bytes_per_series(), river_bytes=size)
    print(f"\n{bank.bytes_per_series()} bytes a series, river {size}")
    ratio = report_ratio(benchmark, x.size, benchmark.stats.stats.min, river_s, len(column))
    assert ratio >= 50
