"""A healthy fleet causes few notices; outages are notified at once with the right suspect."""

import pytest

from tests.simulations.fleet import TICKS, Fleet, collect_alarms
from tests.simulations.fleet_trial import run_trial

WITHIN_S = 15.0
"""Three intervals."""
AT_MOST = 5
"""Maximum notices per week unrelated to an outage."""


def _outages(fleet, n, first=0, ticks=TICKS):
    for k in range(n):
        fleet.add_outage(first + int((k + 0.5) * ticks / n), dependents=k % 3)


def _check(report, suspects=0.8):
    print(report)
    assert report.unrelated_notices <= AT_MOST, report
    assert all(one.notices == 1 for one in report.outages), report
    assert report.median_delay_s() <= WITHIN_S, report
    assert all(one.incidents == 1 for one in report.outages), report
    assert report.share("service") >= suspects, report


@pytest.fixture(scope="module")
def harvested():
    """Alarms of one service of 20 metrics, after a week of learning."""
    return collect_alarms(seed=5, services=1, metrics=20, weeks=2)


def test_outages_of_a_small_fleet(harvested):
    """A day of 1,600 series with six outages: each is one incident and one notice, with the right suspect."""
    fleet = Fleet(harvested, services=40, seed=6, metrics=20)
    fleet.add_healthy_weeks(weeks=1)
    _outages(fleet, 6, ticks=TICKS // 7)
    report = run_trial(fleet, TICKS // 7)
    _check(report)
    assert report.tick_ms[2] < 50.0, report


def test_small_healthy_fleet(harvested):
    """Two days of 4,000 healthy series cause at most five notices."""
    fleet = Fleet(harvested, services=100, seed=7, metrics=20)
    fleet.add_healthy_weeks(weeks=1)
    report = run_trial(fleet, 2 * TICKS // 7)
    print(report)
    assert report.anomalies > 500
    assert report.unrelated_notices <= AT_MOST, report


@pytest.mark.trials
@pytest.mark.parametrize("seed", [31, 32])
def test_a_week_of_20_000_series(seed):
    """At most five notices in a healthy week; ten outages are notified once each, within three intervals."""
    harvested = collect_alarms(seed)
    healthy = Fleet(harvested, services=250, seed=seed + 100)
    healthy.add_healthy_weeks()
    calm = run_trial(healthy, TICKS)
    print(calm)
    assert calm.unrelated_notices <= AT_MOST, calm
    fleet = Fleet(harvested, services=250, seed=seed + 200)
    fleet.add_healthy_weeks()
    _outages(fleet, 10)
    report = run_trial(fleet, TICKS + 400)
    _check(report)
    assert max(calm.tick_ms[2], report.tick_ms[2]) < 50.0
