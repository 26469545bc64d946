"""P12: no interleaving, restart or clock jump passes a guardrail."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulations.guard_machine import OUTCOME_COUNTS, GuardMachine

RULES = {
    "allow ", "refuse pause", "refuse targets", "refuse plan", "refuse freshness", "refuse mass breaker",
    "refuse start-up", "refuse reducing", "refuse cooldown", "refuse rate", "refuse lock",
}  # fmt: skip


def run(examples):
    """So many histories of 50 steps each; what was seen in them."""
    OUTCOME_COUNTS.clear()
    how = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(GuardMachine, settings=how)
    print(dict(OUTCOME_COUNTS))
    return OUTCOME_COUNTS


def test_no_history_passes_a_limit():
    """Over 2,000 steps of proposals, operators, faults, restarts and clock jumps exceed no limit."""
    seen = run(60)
    assert seen["steps"] >= 2000
    assert seen["started"] >= 20


@pytest.mark.trials
def test_no_history_passes_a_limit_in_full():
    """Over 20,000 steps exceed no limit, and every guard rule decides at least once."""
    seen = run(500)
    assert seen["steps"] >= 20_000
    assert seen["started"] >= 100
    assert RULES - set(seen) == set()
