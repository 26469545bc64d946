"""Faults of simulated services, in varying strength, and normal behaviour of healthy ones."""

import numpy as np

from tests.recordings.scenarios import BACKLOG, BURST, LEAK, POOL, SATURATED, SHIFT, SURGE, THRASH
from tests.recordings.simulated import FLAVOURS, SimulatedService


def thrash(w):
    """The cache is full and its keys are replaced constantly."""
    fall = w.rise(w.rng.choice([1, 10, 30]))
    low = w.rng.uniform(0.3, 0.6)
    w.hit_ratio = w.base["hit_ratio"] + (low - w.base["hit_ratio"]) * fall
    w.fill = np.where(w.is_faulty, w.rng.uniform(0.975, 1.0), np.minimum(w.fill, 0.96))
    w.factors["p99"] = 1 + w.rng.uniform(0.0, 2.0) * fall


def leak(w):
    """Memory is never released."""
    w.additions["memory"] = w.rng.uniform(0.12, 0.8) * np.maximum(w.t - w.onset, 0) / (w.ticks - w.onset)


def saturated(w):
    """Load, or work per request, exceeds the CPU."""
    more = w.rng.uniform(0.95, 1.05) / w.base["cpu"]
    by_load = min(more, w.rng.uniform(1.2, 2.2))
    rise = w.rise(w.rng.choice([1, 10, 40]))
    w.season = 1 + (w.season - 1) * 0.3
    w.factors["load"] = 1 + (by_load - 1) * rise
    w.factors["cpu"] = 1 + (more / by_load - 1) * rise
    w.factors["p99"] = 1 + w.rng.uniform(1.5, 6.0) * rise**2


def surge(w):
    """Far more requests, within capacity."""
    w.base["cpu"] = min(w.base["cpu"], 0.2)
    w.factors["load"] = 1 + w.rng.uniform(1.0, 2.5) * w.rise(w.rng.choice([1, 10, 30]))
    w.factors["cpu"] = w.factors["load"] ** -0.3
    w.factors["p99"] = 1 + w.rng.uniform(0.0, 0.15) * w.is_faulty


def burst(w):
    """A dependency fails, and most failures reach the user."""
    w.additions["call_errors"] = w.rng.uniform(0.06, 0.8) * w.rise(w.rng.choice([1, 5]))
    w.factors["p99"] = 1 + w.rng.uniform(0.0, 2.0) * w.is_faulty


def exhausted(w):
    """All connections are in use, and requests wait."""
    rise = w.rise(w.rng.choice([1, 10, 30]))
    w.pool_use = w.pool_use + (1.4 - w.pool_use) * rise
    w.additions["waiting"] = w.rng.uniform(3, 40) * np.maximum(rise - 0.7, 0) / 0.3
    w.factors["p99"] = 1 + w.rng.uniform(1.0, 5.0) * rise**2


def backlog(w):
    """Jobs arrive faster than the workers finish them."""
    grown = w.rng.uniform(1.0, 20.0) * np.maximum(w.t - w.onset, 0)
    w.additions["queue"] = np.minimum(grown, w.rng.choice([100, 300, 1e6]))


def shifted(w):
    """A deploy degrades a metric."""
    name, factor = [
        ("p99", w.rng.uniform(1.8, 3.5)), ("cpu", w.rng.uniform(1.7, 2.2)),
        ("memory", w.rng.uniform(1.5, 1.7)),
        ("errors", w.rng.uniform(15, 60)),
    ][w.rng.integers(4)]  # fmt: skip
    w.base["errors"] = max(w.base["errors"], 0.002)
    w.base["cpu"] = min(w.base["cpu"], 0.35)
    w.sawtooth = min(w.sawtooth, 0.05)
    w.season = 1 + (w.season - 1) * 0.3
    w.factors[name] = np.where(w.is_faulty, factor, 1.0)
    w.deploy(w.onset, titled=bool(w.rng.random() < 0.7))


FAULTS = {
    THRASH: (thrash, (), ()),
    LEAK: (leak, (), ()),
    SATURATED: (saturated, (SURGE,), ("p99", "cpu_max")),
    SURGE: (surge, (), ()),
    BURST: (burst, (), ("calls",)),
    POOL: (exhausted, (), ()),
    BACKLOG: (backlog, (), ("queue",)),
    SHIFT: (shifted, (), ("p99", "cpu_max")),
}
"""Pattern -> fault, other patterns that also match, metrics that the recording must have."""


def teeth(w):
    """Garbage collection of some size."""
    w.sawtooth = w.rng.uniform(0.1, 0.5)


def batches(w):
    """A periodic job: load for a few minutes, then none."""
    every, length = w.rng.choice([40, 60, 90]), w.rng.integers(2, 6)
    busy = (w.t % every) < length
    w.factors["load"] = 1 + w.rng.uniform(0.2, 0.6) * busy
    w.factors["cpu"] = 1 + w.rng.uniform(0.3, 1.0) * busy
    w.additions["queue"] = np.maximum(200 * w.rng.uniform(0.1, 1.0) * (1 - (w.t % every) / 8.0), 0)


def harmless_deploys(w):
    """Deploys with a short warm-up, after which metrics are equal or better."""
    w.sawtooth = min(w.sawtooth, 0.1)
    better = w.rng.uniform(0.7, 1.0)
    for at in w.rng.choice(np.arange(80, w.ticks - 40), 2, replace=False):
        since = w.t - at
        warm = np.where((since >= 0) & (since < 3), 1.0, 0.0)
        w.factors["p99"] = (
            w.factors["p99"] * (1 + w.rng.uniform(0.5, 3.0) * warm) * np.where(since >= 0, better, 1)
        )
        w.factors["memory"] = np.where(
            since >= 0, 1 - 0.3 * np.exp(-np.maximum(since, 0) / 8), w.factors["memory"]
        )
        w.deploy(at, titled=bool(w.rng.random() < 0.7))


def full_cache(w):
    """A full cache that evicts, with a good hit ratio."""
    w.hit_ratio[:] = w.rng.uniform(0.86, 0.97)
    w.fill[:] = 0.99


def warming_up(w):
    """Memory grows fast after a start, then levels off."""
    w.factors["memory"] = 1 - 0.35 * np.exp(-w.t / w.rng.uniform(15, 40))


def spikes(w):
    """Single outlier samples."""
    for name in ("load", "p99", "errors"):
        at = w.rng.choice(w.ticks, 3, replace=False)
        w.factors[name][at] = w.rng.uniform(2, 6)


def calm(w):
    """Only seasons and noise."""


HEALTHY = (calm, teeth, batches, harmless_deploys, full_cache, warming_up, spikes)


def troubled(pattern, seeds, part="development"):
    """Yield simulated recordings that show a pattern."""
    fault, may, keep = FAULTS[pattern]
    names = list(FLAVOURS)
    for seed in seeds:
        service = SimulatedService([seed, list(FAULTS).index(pattern)])
        fault(service)
        flavour = names[seed % len(names)]
        yield service.recording(f"{pattern}-{flavour}-{seed}", flavour, (pattern,), may, part, keep)


def healthy(seeds, part="development"):
    """Yield simulated recordings of healthy services, with one or two normal behaviours each."""
    names = list(FLAVOURS)
    for seed in seeds:
        service = SimulatedService([seed, 99])
        HEALTHY[seed % len(HEALTHY)](service)
        if seed % 3 == 0:
            HEALTHY[(seed // 3) % len(HEALTHY)](service)
        flavour = names[seed % len(names)]
        habit = HEALTHY[seed % len(HEALTHY)].__name__
        yield service.recording(f"healthy-{habit}-{flavour}-{seed}", flavour, part=part)
