"""Verification verdicts on simulated services after a change."""

import math

import numpy as np
import pytest

from tests.builders.actions import EFFECT
from tests.builders.series import SECOND, START
from trimtab.engine.actions.verification import (
    CheckResult,
    VerificationPlan,
    VerificationSeries,
    VerificationVerdict,
    measure_effect,
    verify,
)
from trimtab.engine.types import ScoreRows

MINUTE = 60 * SECOND
INTERVAL_NS = 15 * SECOND
WATCH = VerificationPlan(changed=START, start=START + MINUTE, length=10 * MINUTE)
SEEDS = range(40)


def service(shape, seed=0, level=0.5, noise=0.02, band=0.1, until=45 * MINUTE):
    """Return samples every 15 s from 10 min before the change: `level`, noise and `shape(minutes)`."""
    times = np.arange(START - 10 * MINUTE, START + until, INTERVAL_NS, dtype=np.int64)
    added = np.array([shape((t - START) / MINUTE) if t >= START else 0.0 for t in times])
    value = level + noise * np.random.default_rng(seed).standard_normal(len(times)) + added
    expected = np.full(len(times), level)
    return ScoreRows(times, value, np.zeros(len(times)), expected, expected - band, expected + band)


def first_final_verdict(rows, watch=WATCH, more_is_better=True, guarded=()):
    """Return the first verdict other than watch and hold, its minute, and whether one before was hold."""
    held = False
    for minute in np.arange(0, 45, 0.5):
        now = START + int(minute * MINUTE)
        known = [
            rows_until(series, now)
            for series in (VerificationSeries("hit ratio", rows, more_is_better), *guarded)
        ]
        result = verify(known, watch, now)
        held |= result.verdict is VerificationVerdict.HOLD
        if result.verdict not in {VerificationVerdict.WATCH, VerificationVerdict.HOLD}:
            return result, float(minute), held
    raise AssertionError("the watch never ended")


def rows_until(watched, now):
    """Return the watched series with the rows before `now`."""
    rows = watched.rows
    known = rows.times < now
    columns = (rows.times, rows.value, rows.anomaly_score, rows.yhat, rows.yhat_lower, rows.yhat_upper)
    return VerificationSeries(
        watched.name, ScoreRows(*(column[known] for column in columns)), watched.more_is_better
    )


@pytest.mark.parametrize(
    ("name", "shape", "verdict", "latest"),
    [
        ("better", lambda _: 0.3, VerificationVerdict.KEEP, 11),
        ("no effect", lambda _: 0.0, VerificationVerdict.KEEP, 11),
        ("worse at once", lambda _: -0.3, VerificationVerdict.ROLL_BACK, 4),
        ("worse after five minutes", lambda t: -0.3 * (t > 5), VerificationVerdict.ROLL_BACK, 9),  # delayed
        ("worse in the last minutes", lambda t: -0.3 * (t > 9.5), VerificationVerdict.ROLL_BACK, 14),
        (
            "better, then worse than ever",
            lambda t: 0.3 if t < 3 else -0.3,
            VerificationVerdict.ROLL_BACK,
            7,
        ),  # inverted
        (
            "worse every other minute",
            lambda t: -0.3 * (int(t) % 2),
            VerificationVerdict.ROLL_BACK,
            8,
        ),  # flapping
        ("a dip while it warms up", lambda t: -0.3 * (t < 1), VerificationVerdict.KEEP, 11),
        ("one bad minute", lambda t: -0.3 * (3 < t < 4), VerificationVerdict.KEEP, 12),
        ("a drift within the band", lambda t: -0.005 * t, VerificationVerdict.KEEP, 11),
    ],
)
def test_verdict_for_each_kind_of_service(name, shape, verdict, latest):
    """Each of 40 simulated services of a kind gets the expected verdict in time."""
    for seed in SEEDS:
        result, minute, _ = first_final_verdict(service(shape, seed))
        assert result.verdict is verdict, (name, seed, result)
        assert minute <= latest, (name, seed, result)
        assert result.reason == "no harm seen" or "hit ratio is" in result.reason


@pytest.mark.parametrize(
    ("more_is_better", "added", "verdict"),
    [
        (True, -0.3, VerificationVerdict.ROLL_BACK),
        (True, 0.3, VerificationVerdict.KEEP),
        (False, -0.3, VerificationVerdict.KEEP),
        (False, 0.3, VerificationVerdict.ROLL_BACK),
        (None, -0.3, VerificationVerdict.ROLL_BACK),
        (None, 0.3, VerificationVerdict.ROLL_BACK),
    ],
)
def test_direction_of_harm(more_is_better, added, verdict):
    """Only a move in the bad direction of a metric is harm; the same holds for guarded series."""
    rows = service(lambda _: added)
    assert first_final_verdict(rows, more_is_better=more_is_better)[0].verdict is verdict
    guarded = [VerificationSeries("latency", rows, more_is_better)]
    result = first_final_verdict(service(lambda _: 0.0), guarded=guarded)[0]
    assert result.verdict is verdict
    assert ("latency is" in result.reason) == (verdict is VerificationVerdict.ROLL_BACK)


def test_a_metric_outside_its_band_before_is_no_harm():
    """A metric that was outside its band before the change and does not get worse is kept."""
    below = service(lambda _: 0.0)
    low = ScoreRows(below.times, below.value, below.anomaly_score, below.yhat, below.yhat + 1, below.yhat + 2)
    assert first_final_verdict(low)[0].verdict is VerificationVerdict.KEEP


@pytest.mark.parametrize("width", [0.1, 10.0], ids=["narrow", "wide"])
@pytest.mark.parametrize("follows", [False, True])
def test_a_wide_band_does_not_hide_a_large_move(width, follows):
    """A band that is wide or follows the change excuses a small move, not a large one."""
    for added, verdict in ((-0.3, VerificationVerdict.ROLL_BACK), (-0.09, VerificationVerdict.KEEP)):
        rows = service(lambda _: added, band=width)  # noqa: B023 - called at once
        moved = np.where(rows.times >= START, added, 0.0) if follows else 0.0
        columns = (rows.yhat + moved, rows.yhat_lower + moved, rows.yhat_upper + moved)
        result, _, _ = first_final_verdict(ScoreRows(rows.times, rows.value, rows.anomaly_score, *columns))
        assert result.verdict is verdict, (width, follows, added, result)


@pytest.mark.parametrize(
    ("upper", "verdict"), [(2.0, VerificationVerdict.KEEP), (0.5, VerificationVerdict.ROLL_BACK)]
)
def test_the_band_limits_a_series_that_was_zero(upper, verdict):
    """For a series that was constantly zero the expected band alone limits the move."""
    rows = service(lambda _: 1.0, level=0.0, noise=0.0)
    known = ScoreRows(
        rows.times,
        rows.value,
        rows.anomaly_score,
        rows.yhat,
        rows.yhat_lower,
        np.full(len(rows.times), upper),
    )
    assert first_final_verdict(known, more_is_better=False)[0].verdict is verdict


def test_without_samples_verification_gives_up():
    """Without samples the verdict is hold and after 30 checks give up."""
    result, minute, held = first_final_verdict(service(lambda _: math.nan))
    assert (result.verdict, held) == (VerificationVerdict.GIVE_UP, True)
    assert minute == 31
    assert result.reason == "only 0 of 30 checks had samples"


def test_a_gap_extends_the_verification():
    """Ten checks with samples are needed, so a gap extends the verification."""
    result, minute, held = first_final_verdict(service(lambda t: math.nan if 3 <= t < 8 else 0.0))
    assert (result.verdict, held) == (VerificationVerdict.KEEP, True)
    assert minute == 16


def test_without_series_the_verdict_is_give_up():
    """An action without a series ends with give up."""
    assert verify([], WATCH, START + 5 * MINUTE).verdict is VerificationVerdict.WATCH
    result = verify([], WATCH, START + 11 * MINUTE)
    assert (result.verdict, result.reason) == (VerificationVerdict.GIVE_UP, "no series shows its effect")


def test_a_series_without_history_and_band_has_no_data():
    """A series without history and band has no data; history alone is enough for a verdict."""
    rows = service(lambda _: -0.3)
    nothing = np.full(len(rows.times), math.nan)
    new = rows.times >= START
    unknown = ScoreRows(rows.times, rows.value, nothing, nothing, nothing, nothing)
    assert first_final_verdict(unknown)[0].verdict is VerificationVerdict.ROLL_BACK
    columns = [column[new] for column in (rows.times, rows.value, nothing, nothing, nothing, nothing)]
    result = verify([VerificationSeries("x", ScoreRows(*columns))], WATCH, START + 4 * MINUTE)
    assert result.checks == (CheckResult.NO_DATA,) * 3


def test_checks_wait_for_the_lag():
    """A check is made after the lag, when its samples can have arrived."""
    late = VerificationPlan(changed=START, start=START + MINUTE, length=10 * MINUTE, lag=MINUTE)
    assert first_final_verdict(service(lambda _: -0.3), watch=late)[1] == 5


def test_a_short_verification_for_trials():
    """A verification scaled to half a minute keeps a change without harm."""
    quick = VerificationPlan(changed=START, start=START + SECOND, length=30 * SECOND, checks=10)
    times = np.arange(START - 60 * SECOND, START + 60 * SECOND, SECOND, dtype=np.int64)
    flat = np.full(len(times), 0.5)
    rows = ScoreRows(times, flat, flat * 0, flat, flat - 0.1, flat + 0.1)
    assert (
        verify([VerificationSeries("x", rows, True)], quick, START + 31 * SECOND).verdict
        is VerificationVerdict.KEEP
    )


@pytest.mark.parametrize(("added", "shows"), [(0.3, True), (0.0, False)])
def test_effect_has_a_90_percent_interval(added, shows):
    """The interval of a real effect nearly always excludes the value before; that of none rarely does."""
    outside, near = 0, 0
    for seed in range(200):
        rows = service(lambda _: added, seed, noise=0.05)
        effect = measure_effect(VerificationSeries("x", rows, True), EFFECT, WATCH, START + 11 * MINUTE)
        outside += not effect.low <= effect.before <= effect.high
        near += effect.low <= 0.5 + added <= effect.high
    assert (outside >= 195) if shows else (outside <= 28)
    assert near >= 170


def test_one_batch_measures_no_effect():
    """One batch has no spread, so the effect is None."""
    rows = service(lambda _: 0.0)
    assert measure_effect(VerificationSeries("x", rows, True), EFFECT, WATCH, START + MINUTE + 1) is None
