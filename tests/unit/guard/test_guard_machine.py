"""No interleaving of events, restart or clock jump lets an action exceed a guard limit."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulations.guard_machine import OUTCOME_COUNTS, GuardMachine

RULES = {
    "allow ", "refuse pause", "refuse targets", "refuse plan", "refuse freshness", "refuse mass breaker",
    "refuse start-up", "refuse reducing", "refuse cooldown", "refuse rate", "refuse lock",
}  # fmt: skip


def run(examples):
    """Run the state machine with this many examples of 50 steps each; return the outcome counts."""
    OUTCOME_COUNTS.clear()
    machine_settings = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(GuardMachine, settings=machine_settings)
    print(dict(OUTCOME_COUNTS))
    return OUTCOME_COUNTS


def test_no_history_passes_a_limit():
    """Over 2,000 steps of proposals, operators, faults, restarts and clock jumps exceed no limit."""
    counts = run(60)
    assert counts["steps"] >= 2000
    assert counts["started"] >= 20


@pytest.mark.trials
def test_no_history_passes_a_limit_in_full():
    """Over 20,000 steps exceed no limit, and every guard rule decides at least once."""
    counts = run(500)
    assert counts["steps"] >= 20_000
    assert counts["started"] >= 100
    assert RULES - set(counts) == set()
