"""The scorer keeps its false-alarm budget on healthy series and still detects faults."""

import numpy as np
import pytest

from tests.simulations.healthy_series import KINDS, measure_detection

BUDGET = 1.0
"""Anomaly intervals per series and week, the default."""


MIN_FOUND = 0.9
"""Minimum share of spikes, and of shifts, found for each kind."""
SAMPLING_ERROR = 2 * (MIN_FOUND * (1 - MIN_FOUND) / 48) ** 0.5
"""Two standard errors of that share with 48 faults."""


def _assert_budget_and_detection(reports, min_found=MIN_FOUND):
    report = "\n".join(str(kind_report) for kind_report in reports)
    print(report)
    overall = float(np.mean([kind_report.false_alarms for kind_report in reports]))
    assert 0.3 * BUDGET <= overall <= 2 * BUDGET, report
    for kind_report in reports:
        assert kind_report.false_alarms <= 4 * BUDGET, report
        assert not kind_report.spikes_found < min_found, report
        assert not kind_report.shifts_found < min_found, report


@pytest.mark.slow
def test_budget_and_detection_short():
    """The scorer keeps the budget over 112 series of seven kinds in four weeks and finds the faults."""
    _assert_budget_and_detection(
        [measure_detection(kind, 16, seed=1) for kind in KINDS], min_found=MIN_FOUND - SAMPLING_ERROR
    )


@pytest.mark.trials
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_budget_and_detection_full(seed):
    """The scorer keeps the budget over 406 series and finds the faults."""
    _assert_budget_and_detection([measure_detection(kind, 58, seed=seed) for kind in KINDS])
