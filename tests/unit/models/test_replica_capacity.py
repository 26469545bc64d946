"""What one replica serves and how long one takes to start, learnt from what was recorded, or not known."""

import numpy as np
import pytest

from trimtab.models.scaling.replica_capacity import replica_capacity, startup_time_s

RNG = np.random.default_rng(4)
LOAD = 300.0 + 200.0 * np.sin(np.arange(2000) / 60.0)
REPLICAS = np.full(2000, 5.0)
UTILISATION = LOAD / 5.0 / 150.0 * RNG.lognormal(0.0, 0.1, 2000)


def test_one_is_found_through_noise_and_faults():
    """The interval holds the truth through noise; gaps and a tenth of absurd samples move it by little."""
    _, low, high = replica_capacity(LOAD, REPLICAS, UTILISATION)
    assert low <= 150.0 <= high
    busy = UTILISATION.copy()
    busy[::10] = RNG.uniform(0.2, 5.0, 200)
    busy[5::50] = np.nan
    value, low, high = replica_capacity(LOAD, REPLICAS, busy)
    assert value == pytest.approx(150.0, rel=0.05)
    assert high / low < 1.2


@pytest.mark.parametrize(
    ("load", "busy"),
    [
        (LOAD[:50], UTILISATION[:50]),  # too short
        (LOAD, np.full(2000, 0.05)),  # idle
        (LOAD, np.full(2000, np.nan)),  # not measured
        (LOAD, np.repeat([0.2, 0.9], 1000)),  # utilisation does not follow the load
    ],
    ids=["short", "idle", "missing", "changed"],
)
def test_what_cannot_be_known_is_not_said(load, busy):
    """Unknown instead of a guess."""
    assert replica_capacity(load, REPLICAS[: len(load)], busy) is None


def test_starts_are_timed_one_by_one():
    """Slow and quick starts: the value is late in their range; those that overlap others are left out."""
    total, ready = np.full(400, 2.0), np.full(400, 2.0)
    for begin, took in ((20, 8), (100, 12), (200, 10), (300, 12)):
        total[begin : begin + 40] = 4.0
        ready[begin + took : begin + 40] = 4.0
    total[305:340] = 6.0
    value, low, high = startup_time_s(total, ready, 15.0)
    assert (low, high) == (120.0, 180.0)
    assert 150.0 <= value <= 180.0


def test_too_few_starts_say_nothing():
    """Two starts are an accident; a start that was called off is none."""
    total = np.array([2.0, 2, 4, 4, 4, 2, 2, 4, 4, 4, 2, 5, 5, 2])
    ready = np.array([2.0, 2, 2, 4, 4, 2, 2, 2, 4, 4, 2, 2, 2, 2])
    assert startup_time_s(total, ready, 15.0) is None
