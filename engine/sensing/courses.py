"""One figure over the newest ticks, with what was expected of it: what the rules of patterns reason about."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.engine.types import Floats, Ints

RECENT = 4
"""Rows that count as now."""
LASTING = 6
"""Rows over which something must show to be more than a moment."""
_SPREADS = 3.0
_MAD = 1.4826


def ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, straight between; low > high turns it around; NaN stays NaN.

    >>> ramp(0.9, 0.8, 1.0), ramp(0.5, 0.8, 0.6)
    (0.5, 1.0)
    """
    if math.isnan(value):
        return math.nan
    return min(max((value - low) / (high - low), 0.0), 1.0)


def known_max(values: Sequence[float]) -> float:
    """The largest of those that are known; NaN where none is.

    >>> known_max([math.nan, 0.2, 0.1])
    0.2
    """
    return max((value for value in values if not math.isnan(value)), default=math.nan)


@dataclass(frozen=True, slots=True)
class Course:
    """A figure by row, oldest first; every array (rows,) float64, NaN = unknown.

    times      : (rows,) int64 ns
    expected, lower, upper : what the scorer expected, and its band
    series_ids : the series that it was made of
    """

    times: Ints
    value: Floats
    expected: Floats
    lower: Floats
    upper: Floats
    series_ids: tuple[str, ...] = ()
    metric: str = ""

    @property
    def now(self) -> float:
        """Mean of the newest rows; NaN where fewer than two of them are known."""
        return _mean(self.value[-RECENT:], least=2)

    @property
    def usual(self) -> float:
        """What is expected now; before anything is, the median of the older half of the rows."""
        expected = _mean(self.expected[-RECENT:], least=1)
        return self.before if math.isnan(expected) else expected

    @property
    def before(self) -> float:
        """Median of the older half of the rows; NaN where too few are known."""
        old = _known(self.value[: len(self.value) // 2])
        return float(np.median(old)) if len(old) >= LASTING else math.nan

    @property
    def spread(self) -> float:
        """Usual distance from the median in the older half of the rows, as a standard deviation."""
        old = _known(self.value[: len(self.value) // 2])
        if len(old) < LASTING:
            return math.nan
        return float(np.median(np.abs(old - np.median(old)))) * _MAD

    @property
    def times_usual(self) -> float:
        """Now, in multiples of what is usual; infinite where nothing was usual, NaN where either is unknown."""
        now, usual = self.now, self.usual
        if math.isnan(now) or math.isnan(usual):
            return math.nan
        if usual <= 0.0:
            return math.inf if now > 0.0 else 1.0
        return now / usual

    def outside(self, side: int) -> float:
        """Share of the last rows that lie above (+1) or below (-1) what is usual, band and spread."""
        last = slice(-LASTING, None)
        value, band = self.value[last], (self.upper if side > 0 else self.lower)[last]
        known = ~np.isnan(value)
        if np.count_nonzero(known) < LASTING // 2:
            return math.nan
        fallback = self.before + side * _SPREADS * self.spread
        limit = np.where(np.isnan(band), fallback, band)
        return float(np.mean(side * (value[known] - limit[known]) > 0.0))

    def up(self, low: float, high: float) -> float:
        """How clearly it is above usual, 0..1: from `low` to `high` times the usual, and outside the band."""
        return ramp(self.times_usual, low, high) * ramp(self.outside(+1), 0.2, 0.6)

    def scaled(self, factor: float) -> "Course":
        """The same in another unit."""
        parts = (self.value, self.expected, self.lower, self.upper)
        return Course(self.times, *(part * factor for part in parts), self.series_ids, self.metric)

    def plus(self, other: "Course") -> "Course":
        """Their sum, row by row."""
        mine = (self.value, self.expected, self.lower, self.upper)
        theirs = (other.value, other.expected, other.lower, other.upper)
        sums = (a + b for a, b in zip(mine, theirs, strict=True))
        return Course(self.times, *sums, self.series_ids + other.series_ids, self.metric)

    def minus(self, other: "Course") -> "Course":
        """Their difference; the band turns around."""
        return Course(
            self.times, self.value - other.value, self.expected - other.expected, self.lower - other.upper,
            self.upper - other.lower, self.series_ids + other.series_ids, self.metric,
        )  # fmt: skip

    def over(self, whole: "Course") -> "Course":
        """Its share of another figure; unknown where that is 0. Only the middle is expected, not the band."""
        none = np.full(len(self.times), np.nan)
        return Course(
            self.times, _ratio(self.value, whole.value), _ratio(self.expected, whole.expected), none, none,
            self.series_ids + whole.series_ids, self.metric,
        )  # fmt: skip


def together(times: Ints, block: Floats, take: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Value, expected, lower and upper of several series as one figure.

    block : (rows, 4, n_series);  take : sum, max, min, mean, percent
    A row is unknown where one of the series is that usually is known: a missing part is not zero.
    """
    usually = np.mean(~np.isnan(block[:, 0, :]), axis=0) >= 0.5
    part = block[:, :, usually] if usually.any() else block[:, :, :1]
    if part.shape[2] > 1:
        take_of = {"sum": np.sum, "percent": np.sum, "max": np.max, "min": np.min}.get(take, np.mean)
        figure: Floats = take_of(part, axis=2)
    else:
        figure = part[:, :, 0]
    if take == "percent":
        figure = figure / 100.0
    return figure[:, 0], figure[:, 1], figure[:, 2], figure[:, 3]


def theil_sen(x: Floats, y: Floats) -> float:
    """Median of the slopes between all pairs: a line that single outliers do not turn (Sen 1968).

    >>> theil_sen(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 2.0, 4.0, 99.0]))
    2.0
    """
    i, j = np.triu_indices(len(x), 1)
    rises = (y[j] - y[i]) / (x[j] - x[i])
    rises.sort()
    return float(rises[(len(rises) - 1) // 2])


def _known(values: Floats) -> Floats:
    found: Floats = values[~np.isnan(values)]
    return found


def _mean(values: Floats, least: int) -> float:
    known = _known(values)
    return float(known.mean()) if len(known) >= least else math.nan


def _ratio(above: Floats, below: Floats) -> Floats:
    out: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return out
