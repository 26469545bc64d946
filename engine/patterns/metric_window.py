"""One figure over the newest ticks, with what was expected of it: what the rules of patterns reason about."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from trimtab.engine.types import Floats, Ints

RECENT_ROWS = 4
"""Rows that count as now."""
LASTING_ROWS = 8
"""Rows over which something must show to be more than a moment."""
_AGGREGATIONS: dict[str, Callable[..., Any]] = {
    "sum": np.sum, "percent": np.sum, "max": np.max, "min": np.min, "mean": np.mean,
}  # fmt: skip
FAR_DEVIATIONS = 2.0
"""In usual distances: a value that is further away is far outside."""


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


@dataclass(frozen=True)
class MetricWindow:
    """A figure by row, oldest first.

    times      : (rows,) int64 ns;  value : (rows,) float64, NaN = unknown
    usual      : what it was while nothing was wrong; NaN = not known yet
    distance   : how far from that it usually is; NaN = not known
    series_ids : the series that it was made of
    """

    times: Ints
    values: Floats
    usual: float
    usual_deviation: float
    series_ids: tuple[str, ...] = ()
    metric: str = ""

    @cached_property
    def current(self) -> float:
        """Mean of the newest rows; NaN where fewer than two of them are known."""
        known = [value for value in self.values[-RECENT_ROWS:].tolist() if not math.isnan(value)]
        return sum(known) / len(known) if len(known) >= 2 else math.nan

    @cached_property
    def ratio_to_usual(self) -> float:
        """Now, in multiples of what is usual; infinite where nothing was, NaN where either is unknown."""
        now, usual = self.current, self.usual
        if math.isnan(now) or math.isnan(usual):
            return math.nan
        if usual <= 0.0:
            return math.inf if now > 0.0 else 1.0
        return now / usual

    def ratio_outside(self, side: int) -> float:
        """Share of the last rows that lie far above (+1) or below (-1) what is usual."""
        last = _drop_nan(self.values[-LASTING_ROWS:])
        if len(last) < LASTING_ROWS // 2 or math.isnan(self.usual) or math.isnan(self.usual_deviation):
            return math.nan
        return float(np.mean(side * (last - self.usual) > FAR_DEVIATIONS * self.usual_deviation))

    def elevation(self, low: float, high: float) -> float:
        """How clearly it is above usual, 0..1: from `low` to `high` times the usual, and far outside."""
        return ramp(self.ratio_to_usual, low, high) * ramp(self.ratio_outside(+1), 0.3, 0.8)

    def plus(self, other: "MetricWindow") -> "MetricWindow":
        """Their sum, row by row."""
        return MetricWindow(
            self.times, self.values + other.values, self.usual + other.usual, self.usual_deviation + other.usual_deviation,
            self.series_ids + other.series_ids, self.metric,
        )  # fmt: skip

    def minus(self, other: "MetricWindow") -> "MetricWindow":
        """Their difference."""
        return MetricWindow(
            self.times, self.values - other.values, self.usual - other.usual, self.usual_deviation + other.usual_deviation,
            self.series_ids + other.series_ids, self.metric,
        )  # fmt: skip

    def divided_by(self, whole: "MetricWindow") -> "MetricWindow":
        """Its share of another figure; unknown where that is 0."""
        usual = self.usual / whole.usual if whole.usual > 0 else math.nan
        value = np.divide(
            self.values, whole.values, out=np.full(self.values.shape, np.nan), where=whole.values > 0
        )
        ids = self.series_ids + whole.series_ids
        return MetricWindow(self.times, value, usual, math.nan, ids, self.metric)


def aggregate(values: Floats, aggregation: str) -> Floats:
    """Several series as one figure, (rows,).

    values : (rows, n_series);  take : sum, max, min, mean, percent
    A row is unknown where one of the series is that usually is known: a missing part is not zero.
    """
    if values.shape[1] == 1:
        alone: Floats = values[:, 0]
        return alone / 100.0 if aggregation == "percent" else alone
    usually = np.mean(~np.isnan(values), axis=0) >= 0.5
    part = values[:, usually] if usually.any() else values[:, :1]
    if part.shape[1] == 1:
        figure: Floats = part[:, 0]
    else:
        figure = _AGGREGATIONS[aggregation](part, axis=1)
    return figure / 100.0 if aggregation == "percent" else figure


def aggregate_usual(usual: Floats, deviation: Floats, aggregation: str) -> tuple[float, float]:
    """What is usual for several series as one figure, and how far from it that usually is."""
    if aggregation in {"sum", "percent"}:
        scale = 0.01 if aggregation == "percent" else 1.0
        return scale * float(usual.sum()), scale * float(np.sqrt(np.sum(deviation**2)))
    return float(_AGGREGATIONS[aggregation](usual)), float(deviation.max())


@lru_cache(maxsize=16)
def index_pairs(n: int) -> tuple[Ints, Ints]:
    """Indices of all pairs of n, the earlier one first.

    >>> [index.tolist() for index in pairs(3)]
    [[0, 0, 1], [1, 2, 2]]
    """
    i, j = np.triu_indices(n, 1)
    return i, j


def theil_sen(x: Floats, y: Floats) -> float:
    """Median of the slopes between all pairs: a line that single outliers do not turn (Sen 1968).

    >>> theil_sen(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 2.0, 4.0, 99.0]))
    2.0
    """
    i, j = index_pairs(len(x))
    rises = (y[j] - y[i]) / (x[j] - x[i])
    rises.sort()
    return float(rises[(len(rises) - 1) // 2])


def _drop_nan(values: Floats) -> Floats:
    found: Floats = values[~np.isnan(values)]
    return found
