"""Verification: checks whether an action did harm, from series before and after it.

A before/after comparison does not prove an effect, so the outcome reads "no harm seen", never "helped". Pure
functions: the same samples give the same result, also after a restart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from trimtab.engine.types import Effect, Floats, ScoreRows

_SIGMAS = 3.0
_MAX_SIGMAS = 8.0
"""Maximum distance in spreads from the level before the change that the expected band may excuse: a band
learned during an incident, or one that adapted to the harm, may contain anything. In simulations of seven
kinds of healthy series, 6 spreads gave at most 2 % false alarms per kind, 10 spreads 1 %."""
_MIN_SPREAD_RATIO = 0.02
"""Minimum spread as a ratio of the level, for nearly constant series."""
_ZERO_SPREAD = 1e-12
"""Spread of a series that was constantly 0, where the spread is meaningless."""
_MIN_SAMPLES_BEFORE = 5
_MAX_EXTENSION = 3
"""Maximum duration, in multiples of the planned length, if samples are missing or the last checks are bad."""
_STUDENT_T_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""95 % quantile of Student's t by degrees of freedom, from 1."""


class CheckResult(StrEnum):
    """Result of one check."""

    GOOD = "good"
    BAD = "bad"
    NO_DATA = "no data"


class VerificationVerdict(StrEnum):
    """What to do with a running action."""

    WATCH = "watch"
    HOLD = "hold"
    """No samples: continue verifying, and notify an operator."""
    KEEP = "keep"
    ROLL_BACK = "roll back"
    GIVE_UP = "give up"
    """Too few samples: end the action as inconclusive."""


@dataclass(frozen=True, slots=True)
class VerificationSeries:
    """A series that shows whether the change does harm.

    name           : display name
    rows           : samples with their expected band, from before the change until now
    more_is_better : None = a deviation in either direction is harm
    """

    name: str
    rows: ScoreRows
    more_is_better: bool | None = None


@dataclass(frozen=True, slots=True)
class VerificationPlan:
    """Schedule of the verification; int64 ns.

    changed    : time of the change, UTC
    start      : end of the knob's warm-up, UTC
    length     : duration of the verification, split into `checks` checks
    bad_checks : number of bad checks that triggers a rollback
    lag        : delay until all samples of a check are available
    """

    changed: int
    start: int
    length: int
    checks: int = 10
    bad_checks: int = 3
    lag: int = 0

    @property
    def period(self) -> int:
        """Duration of one check, ns."""
        return max(self.length // self.checks, 1)


@dataclass(frozen=True, slots=True)
class Verification:
    """State of a verification: verdict, reason for operators, result of each check so far."""

    verdict: VerificationVerdict
    reason: str
    checks: tuple[CheckResult, ...] = ()


def verify(series: Sequence[VerificationSeries], plan: VerificationPlan, now: int) -> Verification:
    """Return what to do with a running action; `series` starts with the action's own metric."""
    done = (now - plan.lag - plan.start) // plan.period
    results = [_check(series, plan, k) for k in range(min(max(done, 0), _MAX_EXTENSION * plan.checks))]
    checks = tuple(check for check, _ in results)
    bad = [reason for check, reason in results if check is CheckResult.BAD]
    if len(bad) >= plan.bad_checks:
        return Verification(
            VerificationVerdict.ROLL_BACK, f"{len(bad)} bad checks of {len(checks)}: {bad[-1]}", checks
        )
    known = [check for check in checks if check is not CheckResult.NO_DATA]
    if (
        len(known) >= plan.checks
        and checks[-1] is not CheckResult.NO_DATA
        and CheckResult.BAD not in known[-2:]
    ):
        return Verification(VerificationVerdict.KEEP, "no harm seen", checks)
    if not series and done >= plan.checks:
        return Verification(VerificationVerdict.GIVE_UP, "no series shows its effect", checks)
    if done >= _MAX_EXTENSION * plan.checks:
        return Verification(
            VerificationVerdict.GIVE_UP, f"only {len(known)} of {len(checks)} checks had samples", checks
        )
    if checks[-2:] == (CheckResult.NO_DATA, CheckResult.NO_DATA) and series:
        return Verification(
            VerificationVerdict.HOLD, f"no samples of {series[0].name}: check it manually", checks
        )
    return Verification(
        VerificationVerdict.WATCH, f"{len(checks)} of {plan.checks} checks, {len(bad)} bad", checks
    )


def measure_effect(
    series: VerificationSeries, effect: Effect, plan: VerificationPlan, now: int
) -> Effect | None:
    """Return the metric before the change and its mean since with a 90 % interval; None = too few samples.

    Student's t interval over the means of the checks (method of batch means: nearly independent although the
    samples are autocorrelated); it includes the uncertainty of both periods. An interval that contains
    `before` shows no effect.
    """
    before = _batch_means(series.rows, plan.changed - plan.length, plan.changed, plan.period)
    after = _batch_means(series.rows, plan.start, now, plan.period)
    freedom = min(len(before), len(after)) - 1
    if freedom < 1:
        return None
    error = math.sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after))
    mean, half = float(after.mean()), _STUDENT_T_95[min(freedom, len(_STUDENT_T_95)) - 1] * error
    return Effect(
        effect.series_id, effect.figure, effect.unit, float(before.mean()), mean, mean - half, mean + half,
        effect.more_is_better,
    )  # fmt: skip


def _check(
    series: Sequence[VerificationSeries], plan: VerificationPlan, number: int
) -> tuple[CheckResult, str]:
    """Return the result of a check: bad if any series is bad, no data if the first series has none."""
    start = plan.start + number * plan.period
    results = [_check_series(one, plan, start, start + plan.period) for one in series]
    bad = next((one for one in results if one[0] is CheckResult.BAD), None)
    return bad or (results[0] if results else (CheckResult.NO_DATA, ""))


def _check_series(
    series: VerificationSeries, plan: VerificationPlan, start: int, end: int
) -> tuple[CheckResult, str]:
    rows = series.rows
    here = (rows.times >= start) & (rows.times < end)
    values = _finite(rows.value[here])
    low, high = _allowed_range(rows, plan, here)
    if not len(values) or low > high:
        return CheckResult.NO_DATA, ""
    level = float(np.median(values))
    down, up = level < low, level > high
    if (down and series.more_is_better is not False) or (up and series.more_is_better is not True):
        return CheckResult.BAD, f"{series.name} is {level:.4g}, expected {low:.4g} to {high:.4g}"
    return CheckResult.GOOD, ""


def _allowed_range(
    rows: ScoreRows, plan: VerificationPlan, here: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[float, float]:
    """Return the range without harm, from the level before and the expected band; (inf, -inf) = unknown."""
    lower, upper = _expected_band(rows, here)
    level, spread = _level_and_spread_before(rows, plan)
    if math.isnan(level):
        return lower, upper
    most = _MAX_SIGMAS * spread if spread > _ZERO_SPREAD else math.inf
    low, high = max(lower, level - most), min(upper, level + most)
    return min(low, level - _SIGMAS * spread), max(high, level + _SIGMAS * spread)


def _level_and_spread_before(rows: ScoreRows, plan: VerificationPlan) -> tuple[float, float]:
    """Return median and spread (scaled MAD) before the change; NaN = unknown."""
    there = (rows.times >= plan.changed - plan.length) & (rows.times < plan.changed)
    values = _finite(rows.value[there])
    if len(values) < _MIN_SAMPLES_BEFORE:
        return math.nan, math.nan
    level = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - level)))
    return level, max(spread, _MIN_SPREAD_RATIO * abs(level), _ZERO_SPREAD)


def _expected_band(rows: ScoreRows, here: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[float, float]:
    """Return the median expected band; (inf, -inf) = unknown."""
    lower, upper = _finite(rows.yhat_lower[here]), _finite(rows.yhat_upper[here])
    if not len(lower) or not len(upper):
        return math.inf, -math.inf
    return float(np.median(lower)), float(np.median(upper))


def _batch_means(rows: ScoreRows, start: int, end: int, period: int) -> Floats:
    """Return the mean of each period that has samples, (n_periods,)."""
    inside = (rows.times >= start) & (rows.times < end) & np.isfinite(rows.value)
    numbers = (rows.times[inside] - start) // period
    values = rows.value[inside]
    return np.array([values[numbers == number].mean() for number in np.unique(numbers)], np.float64)


def _finite(values: Floats) -> Floats:
    finite: Floats = values[np.isfinite(values)]
    return finite
