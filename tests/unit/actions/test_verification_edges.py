"""Limits of a verification check from both sides: samples that count, tolerated moves, verdicts."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from tests.builders.actions import EFFECT
from tests.builders.series import SECOND
from trimtab.engine.actions.verification import (
    CheckResult,
    VerificationPlan,
    VerificationSeries,
    VerificationVerdict,
    measure_effect,
    verify,
)
from trimtab.engine.types import ScoreRows

WATCH = VerificationPlan(changed=100 * SECOND, start=110 * SECOND, length=100 * SECOND)
"""Ten checks of 10 s; the reference before the change starts at 0 s."""
REFERENCE = [(k * 10, 9.0 + 2 * (k % 2)) for k in range(10)]
"""Samples before the change: median 10, spread 1.4826."""
NAN = math.nan


def make_rows(samples, low=NAN, high=NAN):
    """Return samples given as (seconds, value) with one expected band."""
    times, values = zip(*sorted(samples), strict=True)
    n = len(times)
    unknown = np.full(n, NAN)
    return ScoreRows(
        (np.array(times) * SECOND).astype(np.int64), np.array(values, np.float64), unknown, unknown,
        np.full(n, low), np.full(n, high),
    )  # fmt: skip


def first_check(samples, low=NAN, high=NAN, better=None):
    """Return the result of the first check, 110 s to 120 s."""
    (result,) = verify(
        [VerificationSeries("x", make_rows(samples, low, high), better)], WATCH, 120 * SECOND
    ).checks
    return result


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("before", "band", "good", "bad"),
    [
        (REFERENCE, (NAN, NAN), 10 + 4.44, 10 + 4.46),  # 3 spreads
        (REFERENCE, (9.0, 15.0), 15.0, 15.01),  # the expected band
        (REFERENCE, (-50.0, 50.0), 10 + 11.86, 10 + 11.87),  # no more than 8 spreads of it
        (REFERENCE, (9.0, 11.0), 10 + 4.44, 10 + 4.46),  # the wider of both
        ([(k, 100.0) for k in range(5)], (NAN, NAN), 105.99, 106.01),  # 2 % of the level, if it is constant
        ([(k, 100.0) for k in range(5)], (0.0, 200.0), 115.99, 116.01),
        ([(k, 0.0) for k in range(5)], (-1.0, 7.0), 7.0, 7.01),  # constantly 0: the expected band alone
        ([(k, 0.0) for k in range(5)], (NAN, NAN), 0.0, 1e-6),
        ([(k, 100.0) for k in range(4)], (90.0, 120.0), 120.0, 120.01),  # too few samples before: likewise
        ([], (1.0, 2.0), 2.0, 2.01),
    ],
)
def test_tolerated_move(sign, before, band, good, bad):
    """A move up to the limit is good and beyond it bad, in both directions, unless it is an improvement."""
    signed_reference = [(time, sign * value) for time, value in before]
    low, high = band if sign == 1 else (-band[1], -band[0])
    worse, better = sign == -1, sign == 1
    for value, result in ((good, CheckResult.GOOD), (bad, CheckResult.BAD)):
        samples = [*signed_reference, (110, sign * value)]
        assert first_check(samples, low, high, better=worse) is result
        assert first_check(samples, low, high) is result
        assert first_check(samples, low, high, better=better) is CheckResult.GOOD


@pytest.mark.parametrize(
    ("samples", "result"),
    [
        ([*REFERENCE, (110, 99.0)], CheckResult.BAD),
        ([*REFERENCE, (119.9, 99.0)], CheckResult.BAD),
        ([*REFERENCE, (109.9, 99.0)], CheckResult.NO_DATA),
        ([*REFERENCE, (120, 99.0)], CheckResult.NO_DATA),
        ([*REFERENCE, (110, NAN)], CheckResult.NO_DATA),
        ([*REFERENCE, (110, NAN), (111, 10.0)], CheckResult.GOOD),
        ([*REFERENCE, (110, 99.0), (111, 10.0), (112, 10.0)], CheckResult.GOOD),  # the median of the check
        ([*REFERENCE, (110, 99.0), (111, 99.0), (112, 10.0)], CheckResult.BAD),
        ([*[(k, 10.0) for k in range(4)], (110, 99.0)], CheckResult.NO_DATA),  # too few before
        ([*[(k, 10.0) for k in range(5)], (110, 99.0)], CheckResult.BAD),
        ([*[(k, 10.0) for k in range(4)], (-0.1, 10.0), (110, 99.0)], CheckResult.NO_DATA),  # before that
        ([*[(k, 10.0) for k in range(1, 5)], (0, 10.0), (110, 99.0)], CheckResult.BAD),
        ([*[(k, 10.0) for k in range(4)], (100, 10.0), (110, 99.0)], CheckResult.NO_DATA),  # after the change
        ([*[(k, 10.0) for k in range(4)], (99.9, 10.0), (110, 99.0)], CheckResult.BAD),
        ([*[(k, 10.0) for k in range(4)], (50, NAN), (110, 99.0)], CheckResult.NO_DATA),
    ],
)
def test_which_samples_count(samples, result):
    """Samples of the check and of an equal time before the change count; at least five are needed before."""
    assert first_check(samples) is result


@pytest.mark.parametrize(("low", "high"), [(NAN, 20.0), (0.0, NAN)])
def test_half_a_band_counts_as_none(low, high):
    """A band with one missing edge counts as no band."""
    assert first_check([(110, 10.0)], low, high) is CheckResult.NO_DATA


VALUES = {"g": 10.0, "b": 0.0, "n": NAN}


def series_of_checks(results):
    """Return a series whose checks give these letters: g good, b bad, n no data."""
    return make_rows([*REFERENCE, *((110 + 10 * k, VALUES[letter]) for k, letter in enumerate(results))])


@pytest.mark.parametrize(
    ("results", "verdict", "words"),
    [
        ("", VerificationVerdict.WATCH, "0 of 10 checks, 0 bad"),
        ("ggb", VerificationVerdict.WATCH, "3 of 10 checks, 1 bad"),
        ("g" * 9, VerificationVerdict.WATCH, "9 of 10 checks, 0 bad"),
        ("g" * 10, VerificationVerdict.KEEP, "no harm seen"),
        ("bb" + "g" * 7, VerificationVerdict.WATCH, "9 of 10 checks, 2 bad"),
        ("bb" + "g" * 8, VerificationVerdict.KEEP, "no harm seen"),
        ("g" * 8 + "bg", VerificationVerdict.WATCH, "10 of 10 checks, 1 bad"),  # the last checks must be good
        ("g" * 9 + "b", VerificationVerdict.WATCH, "10 of 10 checks, 1 bad"),
        ("g" * 8 + "bgg", VerificationVerdict.KEEP, "no harm seen"),
        ("bgbgb", VerificationVerdict.ROLL_BACK, "3 bad checks of 5: x is 0, expected 5.552 to 14.45"),
        ("g" * 10 + "n", VerificationVerdict.WATCH, "11 of 10 checks, 0 bad"),
        ("n", VerificationVerdict.WATCH, "1 of 10 checks, 0 bad"),
        ("gn", VerificationVerdict.WATCH, "2 of 10 checks, 0 bad"),
        ("gnn", VerificationVerdict.HOLD, "no samples of x: check it manually"),
        ("nng", VerificationVerdict.WATCH, "3 of 10 checks, 0 bad"),
        ("ng" * 9, VerificationVerdict.WATCH, "18 of 10 checks, 0 bad"),
        ("ng" * 10, VerificationVerdict.KEEP, "no harm seen"),
        ("n" * 29, VerificationVerdict.HOLD, "no samples of x: check it manually"),
        ("n" * 30, VerificationVerdict.GIVE_UP, "only 0 of 30 checks had samples"),
        ("n" * 21 + "g" * 9, VerificationVerdict.GIVE_UP, "only 9 of 30 checks had samples"),
        ("n" * 20 + "g" * 10, VerificationVerdict.KEEP, "no harm seen"),
        ("n" * 40, VerificationVerdict.GIVE_UP, "only 0 of 30 checks had samples"),
    ],
)
def test_verdict_of_checks(results, verdict, words):
    """Three bad checks roll back, ten known checks with a good end keep, thirty checks give up."""
    watched = VerificationSeries("x", series_of_checks(results), more_is_better=True)
    for late in (0, 10 * SECOND - 1):
        verification = verify([watched], WATCH, WATCH.start + 10 * SECOND * len(results) + late)
        assert (verification.verdict, verification.reason, len(verification.checks)) == (
            verdict,
            words,
            min(len(results), 30),
        )
    lagging = VerificationPlan(WATCH.changed, WATCH.start, WATCH.length, lag=5 * SECOND)
    assert verify([watched], lagging, WATCH.start + 10 * SECOND * len(results) + 5 * SECOND) == verification


def test_no_check_before_the_start():
    """No check is made before the start, while the knob warms up."""
    verification = verify(
        [VerificationSeries("x", series_of_checks("bbb"), more_is_better=True)], WATCH, WATCH.changed
    )
    assert (verification.verdict, verification.checks) == (VerificationVerdict.WATCH, ())


@pytest.mark.parametrize(
    ("own", "other", "results"),
    [("ggg", "gbg", "gbg"), ("gnn", "ggb", "gnb"), ("nnn", "ggg", "nnn"), ("bgg", "ggg", "bgg")],
)
def test_guarded_series_count_when_bad_only(own, other, results):
    """A bad guarded series makes a check bad; missing samples count for the action's own series only."""
    watched = [
        VerificationSeries(name, series_of_checks(one), more_is_better=True)
        for name, one in (("x", own), ("y", other))
    ]
    letters = {CheckResult.GOOD: "g", CheckResult.BAD: "b", CheckResult.NO_DATA: "n"}
    verification = verify(watched, WATCH, WATCH.start + 30 * SECOND)
    assert "".join(letters[result] for result in verification.checks) == results


@pytest.mark.parametrize(
    ("checks", "verdict"), [(9, VerificationVerdict.WATCH), (10, VerificationVerdict.GIVE_UP)]
)
def test_without_series_it_gives_up_at_the_end(checks, verdict):
    """Without a series the verdict is watch until the end and then give up."""
    assert verify([], WATCH, WATCH.start + checks * 10 * SECOND).verdict is verdict


def test_check_period_is_at_least_one_nanosecond():
    """The period of a check is at least 1 ns, however short the verification."""
    assert [VerificationPlan(0, 0, length).period for length in (0, 9, 19, 20)] == [1, 1, 1, 2]


@pytest.mark.parametrize("freedom", range(1, 15))
def test_interval_is_students_t(freedom):
    """The interval is Student's t with the smaller number of batches, at most ten degrees of freedom."""
    watch = VerificationPlan(changed=200 * SECOND, start=210 * SECOND, length=200 * SECOND, checks=20)
    before = [(k * 10, 9.0 + 2 * (k % 2)) for k in range(20)]
    after = [(210 + 10 * k, 20.0 + k) for k in range(freedom + 1)]
    samples = make_rows([(-10, 5.0), *before, (200, 7.0), *after, (211, NAN)])
    now = (210 + 10 * (freedom + 1)) * SECOND
    effect = measure_effect(VerificationSeries("x", samples), EFFECT, watch, now)
    of_after = np.array([value for _, value in after])
    error = math.sqrt(np.var([9, 11] * 10, ddof=1) / 20 + of_after.var(ddof=1) / (freedom + 1))
    half = student.ppf(0.95, min(freedom, 10)) * error
    assert (effect.before, effect.expected) == (10.0, of_after.mean())
    assert (effect.low, effect.high) == pytest.approx((of_after.mean() - half, of_after.mean() + half), 1e-3)
    assert (effect.figure, effect.more_is_better) == (EFFECT.figure, EFFECT.more_is_better)


def test_a_batch_is_the_mean_of_its_samples():
    """Each check is one batch, the mean of its samples; one batch alone gives no effect."""
    after = [(110, 20.0), (111, 22.0), (119, 24.0), (125, 30.0)]
    watched = VerificationSeries("x", make_rows([*REFERENCE, *after, (130, 99.0)]))
    assert measure_effect(watched, EFFECT, WATCH, 130 * SECOND).expected == 26.0
    assert measure_effect(watched, EFFECT, WATCH, 120 * SECOND) is None
    assert (
        measure_effect(VerificationSeries("x", make_rows([(0, 1.0), *after])), EFFECT, WATCH, 130 * SECOND)
        is None
    )
