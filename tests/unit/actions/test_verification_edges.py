"""The edges of the watch over a change, each from both sides: what counts, from when, and how far."""

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
"""Ten checks of 10 s; the time before it begins at 0 s."""
SWAYS = [(k * 10, 9.0 + 2 * (k % 2)) for k in range(10)]
"""Before: a median of 10, a spread of 1.4826."""
NAN = math.nan


def rows(samples, low=NAN, high=NAN):
    """Samples as (seconds, value), all with one expected band."""
    times, values = zip(*sorted(samples), strict=True)
    n = len(times)
    unknown = np.full(n, NAN)
    return ScoreRows(
        (np.array(times) * SECOND).astype(np.int64), np.array(values, np.float64), unknown, unknown,
        np.full(n, low), np.full(n, high),
    )  # fmt: skip


def first_look(samples, low=NAN, high=NAN, better=None):
    """What the first check comes to, 110 s to 120 s."""
    (look,) = verify([VerificationSeries("x", rows(samples, low, high), better)], WATCH, 120 * SECOND).checks
    return look


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("before", "band", "good", "bad"),
    [
        (SWAYS, (NAN, NAN), 10 + 4.44, 10 + 4.46),  # 3 spreads
        (SWAYS, (9.0, 15.0), 15.0, 15.01),  # what is expected
        (SWAYS, (-50.0, 50.0), 10 + 11.86, 10 + 11.87),  # no more than 8 spreads of it
        (SWAYS, (9.0, 11.0), 10 + 4.44, 10 + 4.46),  # the wider of both
        ([(k, 100.0) for k in range(5)], (NAN, NAN), 105.99, 106.01),  # 2 % of the level, if it stands still
        ([(k, 100.0) for k in range(5)], (0.0, 200.0), 115.99, 116.01),
        ([(k, 0.0) for k in range(5)], (-1.0, 7.0), 7.0, 7.01),  # still at 0: what is expected alone
        ([(k, 0.0) for k in range(5)], (NAN, NAN), 0.0, 1e-6),
        ([(k, 100.0) for k in range(4)], (90.0, 120.0), 120.0, 120.01),  # too few before: likewise
        ([], (1.0, 2.0), 2.0, 2.01),
    ],
)
def test_how_far_a_figure_may_move(sign, before, band, good, bad):
    """Up to the edge it is good, beyond it bad, unless more is better; below it is the same turned round."""
    turned = [(time, sign * value) for time, value in before]
    low, high = band if sign == 1 else (-band[1], -band[0])
    worse, better = sign == -1, sign == 1
    for value, look in ((good, CheckResult.GOOD), (bad, CheckResult.BAD)):
        samples = [*turned, (110, sign * value)]
        assert first_look(samples, low, high, better=worse) is look
        assert first_look(samples, low, high) is look
        assert first_look(samples, low, high, better=better) is CheckResult.GOOD


@pytest.mark.parametrize(
    ("samples", "look"),
    [
        ([*SWAYS, (110, 99.0)], CheckResult.BAD),
        ([*SWAYS, (119.9, 99.0)], CheckResult.BAD),
        ([*SWAYS, (109.9, 99.0)], CheckResult.NO_DATA),
        ([*SWAYS, (120, 99.0)], CheckResult.NO_DATA),
        ([*SWAYS, (110, NAN)], CheckResult.NO_DATA),
        ([*SWAYS, (110, NAN), (111, 10.0)], CheckResult.GOOD),
        ([*SWAYS, (110, 99.0), (111, 10.0), (112, 10.0)], CheckResult.GOOD),  # the median of the check
        ([*SWAYS, (110, 99.0), (111, 99.0), (112, 10.0)], CheckResult.BAD),
        ([*[(k, 10.0) for k in range(4)], (110, 99.0)], CheckResult.NO_DATA),  # too few before
        ([*[(k, 10.0) for k in range(5)], (110, 99.0)], CheckResult.BAD),
        ([*[(k, 10.0) for k in range(4)], (-0.1, 10.0), (110, 99.0)], CheckResult.NO_DATA),  # before that
        ([*[(k, 10.0) for k in range(1, 5)], (0, 10.0), (110, 99.0)], CheckResult.BAD),
        ([*[(k, 10.0) for k in range(4)], (100, 10.0), (110, 99.0)], CheckResult.NO_DATA),  # after the change
        ([*[(k, 10.0) for k in range(4)], (99.9, 10.0), (110, 99.0)], CheckResult.BAD),
        ([*[(k, 10.0) for k in range(4)], (50, NAN), (110, 99.0)], CheckResult.NO_DATA),
    ],
)
def test_which_samples_count(samples, look):
    """Of the check itself, and of as long before the change as the watch lasts; five of them at least."""
    assert first_look(samples) is look


@pytest.mark.parametrize(("low", "high"), [(NAN, 20.0), (0.0, NAN)])
def test_half_a_band_is_none(low, high):
    """Without one of its edges nothing is known of what is expected."""
    assert first_look([(110, 10.0)], low, high) is CheckResult.NO_DATA


VALUES = {"g": 10.0, "b": 0.0, "n": NAN}


def seen(looks):
    """A series of which each check comes to the next letter: good, bad, no data."""
    return rows([*SWAYS, *((110 + 10 * k, VALUES[letter]) for k, letter in enumerate(looks))])


@pytest.mark.parametrize(
    ("looks", "verdict", "words"),
    [
        ("", VerificationVerdict.WATCH, "0 of 10 checks, 0 bad"),
        ("ggb", VerificationVerdict.WATCH, "3 of 10 checks, 1 bad"),
        ("g" * 9, VerificationVerdict.WATCH, "9 of 10 checks, 0 bad"),
        ("g" * 10, VerificationVerdict.KEEP, "no harm seen"),
        ("bb" + "g" * 7, VerificationVerdict.WATCH, "9 of 10 checks, 2 bad"),
        ("bb" + "g" * 8, VerificationVerdict.KEEP, "no harm seen"),
        ("g" * 8 + "bg", VerificationVerdict.WATCH, "10 of 10 checks, 1 bad"),  # the end has to be good
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
def test_what_the_checks_come_to(looks, verdict, words):
    """Three bad ones roll back, ten known ones with a good end keep, thirty in all are enough."""
    watched = VerificationSeries("x", seen(looks), more_is_better=True)
    for late in (0, 10 * SECOND - 1):
        said = verify([watched], WATCH, WATCH.start + 10 * SECOND * len(looks) + late)
        assert (said.verdict, said.reason, len(said.checks)) == (verdict, words, min(len(looks), 30))
    lagging = VerificationPlan(WATCH.changed, WATCH.start, WATCH.length, lag=5 * SECOND)
    assert verify([watched], lagging, WATCH.start + 10 * SECOND * len(looks) + 5 * SECOND) == said


def test_before_its_start_nothing_was_looked_at():
    """The knob still warms up."""
    said = verify([VerificationSeries("x", seen("bbb"), more_is_better=True)], WATCH, WATCH.changed)
    assert (said.verdict, said.checks) == (VerificationVerdict.WATCH, ())


@pytest.mark.parametrize(
    ("own", "other", "looks"),
    [("ggg", "gbg", "gbg"), ("gnn", "ggb", "gnb"), ("nnn", "ggg", "nnn"), ("bgg", "ggg", "bgg")],
)
def test_any_series_may_be_bad_but_only_the_own_is_missed(own, other, looks):
    """A guarded series that is silent holds nothing up, and a good one stands in for nobody."""
    watched = [
        VerificationSeries(name, seen(one), more_is_better=True) for name, one in (("x", own), ("y", other))
    ]
    letters = {CheckResult.GOOD: "g", CheckResult.BAD: "b", CheckResult.NO_DATA: "n"}
    said = verify(watched, WATCH, WATCH.start + 30 * SECOND)
    assert "".join(letters[look] for look in said.checks) == looks


@pytest.mark.parametrize(
    ("checks", "verdict"), [(9, VerificationVerdict.WATCH), (10, VerificationVerdict.GIVE_UP)]
)
def test_where_nothing_is_watched_it_ends_with_the_watch(checks, verdict):
    """No series shows what it does."""
    assert verify([], WATCH, WATCH.start + checks * 10 * SECOND).verdict is verdict


def test_a_check_lasts_a_nanosecond_at_least():
    """However short a trial's watch is."""
    assert [VerificationPlan(0, 0, length).period for length in (0, 9, 19, 20)] == [1, 1, 1, 2]


@pytest.mark.parametrize("freedom", range(1, 15))
def test_the_interval_is_students(freedom):
    """By the fewer batches of before and after, of ten degrees of freedom at most."""
    watch = VerificationPlan(changed=200 * SECOND, start=210 * SECOND, length=200 * SECOND, checks=20)
    before = [(k * 10, 9.0 + 2 * (k % 2)) for k in range(20)]
    after = [(210 + 10 * k, 20.0 + k) for k in range(freedom + 1)]
    there = rows([(-10, 5.0), *before, (200, 7.0), *after, (211, NAN)])
    now = (210 + 10 * (freedom + 1)) * SECOND
    effect = measure_effect(VerificationSeries("x", there), EFFECT, watch, now)
    of_after = np.array([value for _, value in after])
    error = math.sqrt(np.var([9, 11] * 10, ddof=1) / 20 + of_after.var(ddof=1) / (freedom + 1))
    half = student.ppf(0.95, min(freedom, 10)) * error
    assert (effect.before, effect.expected) == (10.0, of_after.mean())
    assert (effect.low, effect.high) == pytest.approx((of_after.mean() - half, of_after.mean() + half), 1e-3)
    assert (effect.figure, effect.more_is_better) == (EFFECT.figure, EFFECT.more_is_better)


def test_a_batch_is_the_mean_of_its_samples():
    """However many there are in a check, it counts once; one batch alone measures nothing."""
    after = [(110, 20.0), (111, 22.0), (119, 24.0), (125, 30.0)]
    watched = VerificationSeries("x", rows([*SWAYS, *after, (130, 99.0)]))
    assert measure_effect(watched, EFFECT, WATCH, 130 * SECOND).expected == 26.0
    assert measure_effect(watched, EFFECT, WATCH, 120 * SECOND) is None
    assert (
        measure_effect(VerificationSeries("x", rows([(0, 1.0), *after])), EFFECT, WATCH, 130 * SECOND) is None
    )
