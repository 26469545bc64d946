"""Incidents of a simulated fleet: few notices when healthy, prompt notices of outages."""

import pytest

from tests.simulations.fleet import TICKS, Fleet, collect_alarms
from tests.simulations.fleet_trial import run_trial

MAX_DELAY_S = 15.0
"""Maximum median delay of a notice, in seconds (three scrape intervals)."""
MAX_UNRELATED_NOTICES = 5
"""Maximum notices per week unrelated to an outage."""


def _outages(fleet, n, first=0, ticks=TICKS):
    for k in range(n):
        fleet.add_outage(first + int((k + 0.5) * ticks / n), dependents=k % 3)


def _check(report, suspects=0.8):
    print(report)
    assert report.unrelated_notices <= MAX_UNRELATED_NOTICES, report
    assert all(outage.notices == 1 for outage in report.outages), report
    assert report.median_delay_s() <= MAX_DELAY_S, report
    assert all(outage.incidents == 1 for outage in report.outages), report
    assert report.share("service") >= suspects, report


@pytest.fixture(scope="module")
def alarms():
    """Return the alarms of one service with 20 metrics, after a week of learning."""
    return collect_alarms(seed=5, services=1, metrics=20, weeks=2)


def test_outages_of_a_small_fleet(alarms):
    """Each of six outages in a day of 1,600 series is one incident and one notice with the right suspect."""
    fleet = Fleet(alarms, services=40, seed=6, metrics=20)
    fleet.add_healthy_weeks(weeks=1)
    _outages(fleet, 6, ticks=TICKS // 7)
    report = run_trial(fleet, TICKS // 7)
    _check(report)
    assert report.tick_ms[2] < 50.0, report


def test_small_healthy_fleet(alarms):
    """Two days of 4,000 healthy series cause at most five notices."""
    fleet = Fleet(alarms, services=100, seed=7, metrics=20)
    fleet.add_healthy_weeks(weeks=1)
    report = run_trial(fleet, 2 * TICKS // 7)
    print(report)
    assert report.anomalies > 500
    assert report.unrelated_notices <= MAX_UNRELATED_NOTICES, report


@pytest.mark.trials
@pytest.mark.parametrize("seed", [31, 32])
def test_a_week_of_20_000_series(seed):
    """A healthy week has at most five notices; each of ten outages is notified once, in time."""
    alarms = collect_alarms(seed)
    healthy = Fleet(alarms, services=250, seed=seed + 100)
    healthy.add_healthy_weeks()
    healthy_report = run_trial(healthy, TICKS)
    print(healthy_report)
    assert healthy_report.unrelated_notices <= MAX_UNRELATED_NOTICES, healthy_report
    fleet = Fleet(alarms, services=250, seed=seed + 200)
    fleet.add_healthy_weeks()
    _outages(fleet, 10)
    report = run_trial(fleet, TICKS + 400)
    _check(report)
    assert max(healthy_report.tick_ms[2], report.tick_ms[2]) < 50.0
