"""Did a change do harm? Judged from samples of its figure and of guarded series, before and after.

Before and after is no proof of an effect: so it is called "no harm seen", never "helped". Pure: times and
samples are arguments, and the same samples give the same judgement, also after a restart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from trimtab.engine.types import Effect, Floats, ScoreRows

_SIGMAS = 3.0
_EXCUSED_SIGMAS = 8.0
"""Further than that from where it was nothing is excused by what was expected: a band that was learnt in an
incident, or has followed the harm meanwhile, holds anything. Of simulated healthy series of seven kinds at
most 2 in 100 of a kind were called harmed with 6 spreads, 1 with 10."""
_LEAST_SPREAD = 0.02
"""Of the level: what a series that stands still may move by before that counts."""
_STILL = 1e-12
"""The spread of a series that stood at 0, which says nothing of how far it moves."""
_LEAST_BEFORE = 5
_LONGEST = 3
"""A watch lasts so many times its length where samples are missing or the end is bad."""
_STUDENT = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""95 % quantile of Student's t by degrees of freedom, from 1."""


class Look(StrEnum):
    """What one check came to."""

    GOOD = "good"
    BAD = "bad"
    NO_DATA = "no data"


class Verdict(StrEnum):
    """What is to be done with a running action."""

    WATCH = "watch"
    HOLD = "hold"
    """Nothing is known of it: go on watching, and tell a person."""
    KEEP = "keep"
    ROLL_BACK = "roll back"
    GIVE_UP = "give up"
    """It was never known enough: inconclusive."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A series that shows whether the change does harm.

    name           : in words
    rows           : its samples with their expected band, from before the change until now
    more_is_better : None = away from what is expected is bad on either side
    """

    name: str
    rows: ScoreRows
    more_is_better: bool | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """When to look. Times in int64 ns.

    changed : the change took effect
    start   : from then its effect can be judged (the knob's warm-up is over)
    length  : of the watch; it is cut into `checks`
    lag     : so much later than they were taken are all samples there
    """

    changed: int
    start: int
    length: int
    checks: int = 10
    bad: int = 3
    lag: int = 0

    @property
    def period(self) -> int:
        """Of one check."""
        return max(self.length // self.checks, 1)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a watch says now; `words` is for people, `looks` is each check so far."""

    verdict: Verdict
    words: str
    looks: tuple[Look, ...] = ()


def judge(watched: Sequence[Watched], watch: Watch, now: int) -> Judgement:
    """What is to be done with an action that runs; `watched` begins with its own figure."""
    done = (now - watch.lag - watch.start) // watch.period
    said = [_check(watched, watch, k) for k in range(min(max(done, 0), _LONGEST * watch.checks))]
    looks = tuple(look for look, _ in said)
    bad = [words for look, words in said if look is Look.BAD]
    if len(bad) >= watch.bad:
        return Judgement(Verdict.ROLL_BACK, f"{len(bad)} bad checks of {len(looks)}: {bad[-1]}", looks)
    known = [look for look in looks if look is not Look.NO_DATA]
    if len(known) >= watch.checks and looks[-1] is not Look.NO_DATA and Look.BAD not in known[-2:]:
        return Judgement(Verdict.KEEP, "no harm seen", looks)
    if not watched and done >= watch.checks:
        return Judgement(Verdict.GIVE_UP, "no series shows what it does", looks)
    if done >= _LONGEST * watch.checks:
        return Judgement(Verdict.GIVE_UP, f"only {len(known)} of {len(looks)} checks had samples", looks)
    if looks[-2:] == (Look.NO_DATA, Look.NO_DATA) and watched:
        return Judgement(Verdict.HOLD, f"no samples of {watched[0].name}: look at it yourself", looks)
    return Judgement(Verdict.WATCH, f"{len(looks)} of {watch.checks} checks, {len(bad)} bad", looks)


def measured(watched: Watched, effect: Effect, watch: Watch, now: int) -> Effect | None:
    """The figure before, and its mean since with a 90 % interval; None = too few samples.

    The interval is Student's over means of the checks, which are nearly independent where samples are
    not (batch means), and holds the uncertainty of before and after. An interval that holds `before`
    shows no effect.
    """
    before = _batches(watched.rows, watch.changed - watch.length, watch.changed, watch.period)
    after = _batches(watched.rows, watch.start, now, watch.period)
    freedom = min(len(before), len(after)) - 1
    if freedom < 1:
        return None
    error = math.sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after))
    mean, half = float(after.mean()), _STUDENT[min(freedom, len(_STUDENT)) - 1] * error
    return Effect(
        effect.series_id, effect.figure, effect.unit, float(before.mean()), mean, mean - half, mean + half,
        effect.more_is_better,
    )  # fmt: skip


def _check(watched: Sequence[Watched], watch: Watch, number: int) -> tuple[Look, str]:
    """The number-th check: bad where any series is, no data where the first has none."""
    start = watch.start + number * watch.period
    said = [_look(one, watch, start, start + watch.period) for one in watched]
    bad = next((one for one in said if one[0] is Look.BAD), None)
    return bad or (said[0] if said else (Look.NO_DATA, ""))


def _look(watched: Watched, watch: Watch, start: int, end: int) -> tuple[Look, str]:
    rows = watched.rows
    here = (rows.times >= start) & (rows.times < end)
    values = _finite(rows.value[here])
    low, high = _allowed(rows, watch, here)
    if not len(values) or low > high:
        return Look.NO_DATA, ""
    level = float(np.median(values))
    down, up = level < low, level > high
    if (down and watched.more_is_better is not False) or (up and watched.more_is_better is not True):
        return Look.BAD, f"{watched.name} is {level:.4g}, {low:.4g} to {high:.4g} was expected"
    return Look.GOOD, ""


def _allowed(
    rows: ScoreRows, watch: Watch, here: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[float, float]:
    """From where to where it is no harm: where it was, or is expected to be; (inf, -inf) = unknown."""
    lower, upper = _band(rows, here)
    level, spread = _usual(rows, watch)
    if math.isnan(level):
        return lower, upper
    most = _EXCUSED_SIGMAS * spread if spread > _STILL else math.inf
    low, high = max(lower, level - most), min(upper, level + most)
    return min(low, level - _SIGMAS * spread), max(high, level + _SIGMAS * spread)


def _usual(rows: ScoreRows, watch: Watch) -> tuple[float, float]:
    """Level and spread of the series before the change; NaN = unknown."""
    there = (rows.times >= watch.changed - watch.length) & (rows.times < watch.changed)
    values = _finite(rows.value[there])
    if len(values) < _LEAST_BEFORE:
        return math.nan, math.nan
    level = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - level)))
    return level, max(spread, _LEAST_SPREAD * abs(level), _STILL)


def _band(rows: ScoreRows, here: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[float, float]:
    """What is expected of it by its own past; (inf, -inf) = unknown."""
    lower, upper = _finite(rows.yhat_lower[here]), _finite(rows.yhat_upper[here])
    if not len(lower) or not len(upper):
        return math.inf, -math.inf
    return float(np.median(lower)), float(np.median(upper))


def _batches(rows: ScoreRows, start: int, end: int, period: int) -> Floats:
    """Means of the samples of each period that has any."""
    inside = (rows.times >= start) & (rows.times < end) & np.isfinite(rows.value)
    numbers = (rows.times[inside] - start) // period
    values = rows.value[inside]
    return np.array([values[numbers == number].mean() for number in np.unique(numbers)], np.float64)


def _finite(values: Floats) -> Floats:
    finite: Floats = values[np.isfinite(values)]
    return finite
