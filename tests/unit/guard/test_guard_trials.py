"""With a fault in the figures nothing is done; the same trials without it act."""

from collections import Counter

import pytest

from tests.simulations.guard_trials import FAULTS, GuardTrial

ROWS = {
    "unit change": {"unit change"},
    "all zero": {"sudden zero"},
    "empty selector": {"freshness"},
    "source down": {"freshness"},
    "mass anomaly": {"mass breaker"},
}


def judge(fault, trials):
    """How many of the trials did something, with the fault and without, and which rows stopped it."""
    with_fault = [GuardTrial(seed, fault).run() for seed in range(trials)]
    without = sum(GuardTrial(seed).run()[0] for seed in range(trials))
    rows = Counter(row for _, row in with_fault)
    done = sum(acted for acted, _ in with_fault)
    print(f"{fault}: {done} of {trials} acted, without it {without}; {dict(rows)}")
    return done, without, set(rows)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_everything(fault):
    """20 trials of each: none acts with the fault, nearly all do without."""
    done, without, rows = judge(fault, 20)
    assert done == 0
    assert without >= 19
    assert rows == ROWS[fault]


@pytest.mark.trials
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_everything_in_full(fault):
    """100 trials of each: none acts with the fault, at least 95 do without."""
    done, without, rows = judge(fault, 100)
    assert done == 0
    assert without >= 95
    assert rows == ROWS[fault]
