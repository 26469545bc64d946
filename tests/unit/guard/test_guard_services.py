"""Services that flap, answer late, the wrong way round or not at all: the guard lets them be."""

import pytest

from tests.simulations.guard_services import KINDS, ServiceSimulation, max_in_window, reversal_hours


def judge(kind, runs):
    """The worst number of reversals, and of changes of direction with rollbacks, in any six hours."""
    days = [ServiceSimulation(kind, seed).run() for seed in range(runs)]
    reversals, every = (
        max(max_in_window(reversal_hours(changes, rollbacks), 6.0) for changes in days)
        for rollbacks in (False, True)
    )
    acted = sum(bool(changes) for changes in days)
    undone = sum(any(c.undo for c in changes) for changes in days)
    print(f"{kind}: {acted} of {runs} acted, {undone} took back; in 6 h {reversals} reversals, {every} turns")
    return acted, undone, reversals, every


def check(kind, runs):
    acted, undone, reversals, every = judge(kind, runs)
    assert acted > runs / 2
    assert reversals <= 1
    assert every <= 2
    if kind == "inverted":
        assert undone == acted
    if kind == "helpful":
        assert undone == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_is_not_turned_to_and_fro(kind):
    """A day of four services of each kind: at most one reversal in any six hours."""
    check(kind, 4)


@pytest.mark.trials
@pytest.mark.parametrize("kind", KINDS)
def test_a_service_is_not_turned_to_and_fro_in_full(kind):
    """A day of forty services of each kind."""
    check(kind, 40)
