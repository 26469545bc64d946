"""The guard prevents oscillation of services that flap, react late, react inversely or not at all."""

import pytest

from tests.simulations.guard_services import KINDS, ServiceSimulation, max_in_window, reversal_hours


def simulate(kind, runs):
    """Return how many days had changes and rollbacks, and the most reversals in any six hours."""
    days = [ServiceSimulation(kind, seed).run() for seed in range(runs)]
    reversals, all_reversals = (
        max(max_in_window(reversal_hours(changes, rollbacks), 6.0) for changes in days)
        for rollbacks in (False, True)
    )
    acted = sum(bool(changes) for changes in days)
    rolled_back = sum(any(c.undo for c in changes) for changes in days)
    print(
        f"{kind}: {acted} of {runs} acted, {rolled_back} rolled back; "
        f"in 6 h {reversals} reversals, {all_reversals} with rollbacks"
    )
    return acted, rolled_back, reversals, all_reversals


def check(kind, runs):
    """Simulate the services of a kind and check the limits on reversals."""
    acted, rolled_back, reversals, all_reversals = simulate(kind, runs)
    assert acted > runs / 2
    assert reversals <= 1
    assert all_reversals <= 2
    if kind == "inverted":
        assert rolled_back == acted
    if kind == "helpful":
        assert rolled_back == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_does_not_oscillate(kind):
    """A day of four services of each kind has at most one reversal in any six hours."""
    check(kind, 4)


@pytest.mark.trials
@pytest.mark.parametrize("kind", KINDS)
def test_a_service_does_not_oscillate_in_full(kind):
    """A day of forty services of each kind has at most one reversal in any six hours."""
    check(kind, 40)
