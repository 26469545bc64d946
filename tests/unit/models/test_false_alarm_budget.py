"""The false-alarm budget is kept on healthy series, and what matters is still found."""

import numpy as np
import pytest

from tests.simulations.healthy_series import KINDS, measure_detection

BUDGET = 1.0
"""Anomaly intervals a series and week: the default."""


MIN_FOUND = 0.9
"""Share of spikes, and of shifts, of each kind that must be found."""
SAMPLING_ERROR = 2 * (MIN_FOUND * (1 - MIN_FOUND) / 48) ** 0.5
"""Two standard errors of that share where only 48 faults are tried."""


def _assert_budget_and_detection(verdicts, found=MIN_FOUND):
    report = "\n".join(str(v) for v in verdicts)
    print(report)
    overall = float(np.mean([v.false_alarms for v in verdicts]))
    assert 0.3 * BUDGET <= overall <= 2 * BUDGET, report
    for v in verdicts:
        assert v.false_alarms <= 4 * BUDGET, report
        assert not v.spikes_found < found, report
        assert not v.shifts_found < found, report


def test_budget_and_detection_short():
    """The budget holds over 112 series of seven kinds in four weeks, and faults are found."""
    _assert_budget_and_detection(
        [measure_detection(kind, 16, seed=1) for kind in KINDS], found=MIN_FOUND - SAMPLING_ERROR
    )


@pytest.mark.trials
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_budget_and_detection_full(seed):
    """The same over 406 series."""
    _assert_budget_and_detection([measure_detection(kind, 58, seed=seed) for kind in KINDS])
