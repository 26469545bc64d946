"""What is said of a running action, from simulated services that behave and that do not."""

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
EVERY = 15 * SECOND
WATCH = VerificationPlan(changed=START, start=START + MINUTE, length=10 * MINUTE)
SEEDS = range(40)


def service(shape, seed=0, level=0.5, noise=0.02, band=0.1, until=45 * MINUTE):
    """Samples every 15 s from 10 min before the change: `level` and noise, plus what `shape(t)` adds.

    t is in minutes since the change; NaN = no sample. The expected band stays where the series was.
    """
    times = np.arange(START - 10 * MINUTE, START + until, EVERY, dtype=np.int64)
    added = np.array([shape((t - START) / MINUTE) if t >= START else 0.0 for t in times])
    value = level + noise * np.random.default_rng(seed).standard_normal(len(times)) + added
    expected = np.full(len(times), level)
    return ScoreRows(times, value, np.zeros(len(times)), expected, expected - band, expected + band)


def played(rows, watch=WATCH, more_is_better=True, guarded=()):
    """The first judgement that is more than watching or holding, and its minute; told = it held before."""
    held = False
    for minute in np.arange(0, 45, 0.5):
        now = START + int(minute * MINUTE)
        seen = [upto(one, now) for one in (VerificationSeries("hit ratio", rows, more_is_better), *guarded)]
        said = verify(seen, watch, now)
        held |= said.verdict is VerificationVerdict.HOLD
        if said.verdict not in {VerificationVerdict.WATCH, VerificationVerdict.HOLD}:
            return said, float(minute), held
    raise AssertionError("the watch never ended")


def upto(watched, now):
    """What was known at that time."""
    rows = watched.rows
    seen = rows.times < now
    columns = (rows.times, rows.value, rows.anomaly_score, rows.yhat, rows.yhat_lower, rows.yhat_upper)
    return VerificationSeries(
        watched.name, ScoreRows(*(column[seen] for column in columns)), watched.more_is_better
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
def test_a_service_is_judged_by_what_it_does(name, shape, verdict, latest):
    """40 simulated services of each kind: what is said, and how soon."""
    for seed in SEEDS:
        said, minute, _ = played(service(shape, seed))
        assert said.verdict is verdict, (name, seed, said)
        assert minute <= latest, (name, seed, said)
        assert said.reason == "no harm seen" or "hit ratio is" in said.reason


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
def test_only_the_bad_side_is_bad(more_is_better, added, verdict):
    """Of a figure that is better high, better low, or best where it was; the same for guarded series."""
    rows = service(lambda _: added)
    assert played(rows, more_is_better=more_is_better)[0].verdict is verdict
    guarded = [VerificationSeries("latency", rows, more_is_better)]
    said = played(service(lambda _: 0.0), guarded=guarded)[0]
    assert said.verdict is verdict
    assert ("latency is" in said.reason) == (verdict is VerificationVerdict.ROLL_BACK)


def test_what_was_bad_before_is_no_harm_of_the_change():
    """An incident is why we act: only what is worse than before counts, and better than before never does."""
    below = service(lambda _: 0.0)
    low = ScoreRows(below.times, below.value, below.anomaly_score, below.yhat, below.yhat + 1, below.yhat + 2)
    assert played(low)[0].verdict is VerificationVerdict.KEEP


@pytest.mark.parametrize("width", [0.1, 10.0], ids=["narrow", "wide"])
@pytest.mark.parametrize("follows", [False, True])
def test_a_band_excuses_only_so_much(width, follows):
    """One that was learnt in an incident, or has followed the harm, hides no far move; a near one it does."""
    for added, verdict in ((-0.3, VerificationVerdict.ROLL_BACK), (-0.09, VerificationVerdict.KEEP)):
        rows = service(lambda _: added, band=width)  # noqa: B023 - called at once
        moved = np.where(rows.times >= START, added, 0.0) if follows else 0.0
        columns = (rows.yhat + moved, rows.yhat_lower + moved, rows.yhat_upper + moved)
        said, _, _ = played(ScoreRows(rows.times, rows.value, rows.anomaly_score, *columns))
        assert said.verdict is verdict, (width, follows, added, said)


@pytest.mark.parametrize(
    ("upper", "verdict"), [(2.0, VerificationVerdict.KEEP), (0.5, VerificationVerdict.ROLL_BACK)]
)
def test_of_a_series_that_stood_at_zero_only_the_band_says_how_far_it_moves(upper, verdict):
    """A few errors after ten minutes without one are no harm where such errors are usual."""
    rows = service(lambda _: 1.0, level=0.0, noise=0.0)
    seen = ScoreRows(
        rows.times,
        rows.value,
        rows.anomaly_score,
        rows.yhat,
        rows.yhat_lower,
        np.full(len(rows.times), upper),
    )
    assert played(seen, more_is_better=False)[0].verdict is verdict


def test_without_samples_it_holds_and_tells_and_gives_up_in_the_end():
    """Nothing is concluded from nothing: neither kept nor rolled back."""
    said, minute, held = played(service(lambda _: math.nan))
    assert (said.verdict, held) == (VerificationVerdict.GIVE_UP, True)
    assert minute == 31
    assert said.reason == "only 0 of 30 checks had samples"


def test_a_gap_makes_the_watch_longer():
    """Ten checks with samples are wanted, whatever lies between."""
    said, minute, held = played(service(lambda t: math.nan if 3 <= t < 8 else 0.0))
    assert (said.verdict, held) == (VerificationVerdict.KEEP, True)
    assert minute == 16


def test_nothing_to_watch_is_inconclusive():
    """An action that no series shows."""
    assert verify([], WATCH, START + 5 * MINUTE).verdict is VerificationVerdict.WATCH
    said = verify([], WATCH, START + 11 * MINUTE)
    assert (said.verdict, said.reason) == (VerificationVerdict.GIVE_UP, "no series shows its effect")


def test_a_series_without_past_or_band_is_unknown():
    """A new one has neither: no data; with one of them it can be judged."""
    rows = service(lambda _: -0.3)
    nothing = np.full(len(rows.times), math.nan)
    new = rows.times >= START
    unknown = ScoreRows(rows.times, rows.value, nothing, nothing, nothing, nothing)
    assert played(unknown)[0].verdict is VerificationVerdict.ROLL_BACK
    columns = [column[new] for column in (rows.times, rows.value, nothing, nothing, nothing, nothing)]
    said = verify([VerificationSeries("x", ScoreRows(*columns))], WATCH, START + 4 * MINUTE)
    assert said.checks == (CheckResult.NO_DATA,) * 3


def test_late_samples_are_waited_for():
    """A check is made once its samples can be there."""
    late = VerificationPlan(changed=START, start=START + MINUTE, length=10 * MINUTE, lag=MINUTE)
    assert played(service(lambda _: -0.3), watch=late)[1] == 5


def test_a_shorter_watch_for_trials():
    """Half a minute in all where the guardrails' times are scaled."""
    quick = VerificationPlan(changed=START, start=START + SECOND, length=30 * SECOND, checks=10)
    times = np.arange(START - 60 * SECOND, START + 60 * SECOND, SECOND, dtype=np.int64)
    flat = np.full(len(times), 0.5)
    rows = ScoreRows(times, flat, flat * 0, flat, flat - 0.1, flat + 0.1)
    assert (
        verify([VerificationSeries("x", rows, True)], quick, START + 31 * SECOND).verdict
        is VerificationVerdict.KEEP
    )


@pytest.mark.parametrize(("added", "shows"), [(0.3, True), (0.0, False)])
def test_the_effect_is_measured_with_its_interval(added, shows):
    """A real one lies outside of `before` nearly always, none at all nearly never (90 % interval)."""
    outside, near = 0, 0
    for seed in range(200):
        rows = service(lambda _: added, seed, noise=0.05)
        effect = measure_effect(VerificationSeries("x", rows, True), EFFECT, WATCH, START + 11 * MINUTE)
        outside += not effect.low <= effect.before <= effect.high
        near += effect.low <= 0.5 + added <= effect.high
    assert (outside >= 195) if shows else (outside <= 28)
    assert near >= 170


def test_too_few_samples_measure_nothing():
    """One batch has no spread."""
    rows = service(lambda _: 0.0)
    assert measure_effect(VerificationSeries("x", rows, True), EFFECT, WATCH, START + MINUTE + 1) is None
