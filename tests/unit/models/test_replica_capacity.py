"""Replica capacity and startup time from recorded metrics."""

import numpy as np
import pytest

from trimtab.models.scaling.replica_capacity import replica_capacity, startup_time_s

RNG = np.random.default_rng(4)
LOAD = 300.0 + 200.0 * np.sin(np.arange(2000) / 60.0)
REPLICAS = np.full(2000, 5.0)
UTILISATION = LOAD / 5.0 / 150.0 * RNG.lognormal(0.0, 0.1, 2000)


def test_capacity_is_robust_to_noise_and_faults():
    """The interval contains the true capacity; gaps and a tenth of wrong samples change it little."""
    _, low, high = replica_capacity(LOAD, REPLICAS, UTILISATION)
    assert low <= 150.0 <= high
    utilisation = UTILISATION.copy()
    utilisation[::10] = RNG.uniform(0.2, 5.0, 200)
    utilisation[5::50] = np.nan
    value, low, high = replica_capacity(LOAD, REPLICAS, utilisation)
    assert value == pytest.approx(150.0, rel=0.05)
    assert high / low < 1.2


@pytest.mark.parametrize(
    ("load", "utilisation"),
    [
        (LOAD[:50], UTILISATION[:50]),  # too short
        (LOAD, np.full(2000, 0.05)),  # idle
        (LOAD, np.full(2000, np.nan)),  # not measured
        (LOAD, np.repeat([0.2, 0.9], 1000)),  # utilisation does not follow the load
    ],
    ids=["short", "idle", "missing", "changed"],
)
def test_unknown_capacity_is_none(load, utilisation):
    """The capacity is None if the recording is short, idle, missing or inconsistent."""
    assert replica_capacity(load, REPLICAS[: len(load)], utilisation) is None


def test_overlapping_starts_are_ignored():
    """The startup time is in the upper range of the measured starts; overlapping starts are left out."""
    total, ready = np.full(400, 2.0), np.full(400, 2.0)
    for begin, took in ((20, 8), (100, 12), (200, 10), (300, 12)):
        total[begin : begin + 40] = 4.0
        ready[begin + took : begin + 40] = 4.0
    total[305:340] = 6.0
    value, low, high = startup_time_s(total, ready, 15.0)
    assert (low, high) == (120.0, 180.0)
    assert 150.0 <= value <= 180.0


def test_startup_time_needs_three_starts():
    """The startup time is None with two starts; a cancelled start does not count."""
    total = np.array([2.0, 2, 4, 4, 4, 2, 2, 4, 4, 4, 2, 5, 5, 2])
    ready = np.array([2.0, 2, 2, 4, 4, 2, 2, 2, 4, 4, 2, 2, 2, 2])
    assert startup_time_s(total, ready, 15.0) is None
