"""No action starts while the metrics have a fault; the same trials without the fault act."""

from collections import Counter

import pytest

from tests.simulations.guard_trials import FAULTS, GuardTrial

EXPECTED_RULES = {
    "unit change": {"unit change"},
    "all zero": {"sudden zero"},
    "empty selector": {"freshness"},
    "source down": {"freshness"},
    "mass anomaly": {"mass breaker"},
}


def run_trials(fault, trials):
    """Return how many trials acted with the fault and without it, and the guard rules that objected."""
    with_fault = [GuardTrial(seed, fault).run() for seed in range(trials)]
    without = sum(GuardTrial(seed).run()[0] for seed in range(trials))
    rules = Counter(rule for _, rule in with_fault)
    acted_with_fault = sum(acted for acted, _ in with_fault)
    print(f"{fault}: {acted_with_fault} of {trials} acted, without it {without}; {dict(rules)}")
    return acted_with_fault, without, set(rules)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_prevents_every_action(fault):
    """Of 20 trials of each fault, none acts with the fault and nearly all act without it."""
    acted_with_fault, without, rules = run_trials(fault, 20)
    assert acted_with_fault == 0
    assert without >= 19
    assert rules == EXPECTED_RULES[fault]


@pytest.mark.trials
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_prevents_every_action_in_full(fault):
    """Of 100 trials of each fault, none acts with the fault and at least 95 act without it."""
    acted_with_fault, without, rules = run_trials(fault, 100)
    assert acted_with_fault == 0
    assert without >= 95
    assert rules == EXPECTED_RULES[fault]
