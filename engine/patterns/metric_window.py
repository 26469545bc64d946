"""One metric over the newest ticks, with its usual level: the input of the pattern rules."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from trimtab.engine.types import Floats, Ints

RECENT_ROWS = 4
"""Rows that count as current."""
LASTING_ROWS = 8
"""Rows over which a deviation must show to count as lasting."""
_AGGREGATIONS: dict[str, Callable[..., Any]] = {
    "sum": np.sum, "percent": np.sum, "max": np.max, "min": np.min, "mean": np.mean,
}  # fmt: skip
FAR_DEVIATIONS = 2.0
"""A value this many usual deviations from its usual level is far outside."""


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high` on, linear between; low > high reverses it; NaN stays NaN.

    >>> ramp(0.9, 0.8, 1.0), ramp(0.5, 0.8, 0.6)
    (0.5, 1.0)
    """
    if math.isnan(value):
        return math.nan
    return min(max((value - low) / (high - low), 0.0), 1.0)


def known_max(values: Sequence[float]) -> float:
    """Return the largest known value; NaN where all are NaN.

    >>> known_max([math.nan, 0.2, 0.1])
    0.2
    """
    return max((value for value in values if not math.isnan(value)), default=math.nan)


@dataclass(frozen=True)
class MetricWindow:
    """A metric by row, oldest first.

    times           : (rows,) int64 ns; values : (rows,) float64, NaN = unknown
    usual           : level while healthy; NaN = unknown
    usual_deviation : mean absolute deviation from it while healthy; NaN = unknown
    series_ids      : ids of the series that it combines
    metric          : name of the metric
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
        """Current value relative to its usual level; infinite where that is 0, NaN where unknown."""
        now, usual = self.current, self.usual
        if math.isnan(now) or math.isnan(usual):
            return math.nan
        if usual <= 0.0:
            return math.inf if now > 0.0 else 1.0
        return now / usual

    def ratio_outside(self, side: int) -> float:
        """Return the ratio of the last rows far above (+1) or below (-1) the usual level; NaN = unknown."""
        last = _drop_nan(self.values[-LASTING_ROWS:])
        if len(last) < LASTING_ROWS // 2 or math.isnan(self.usual) or math.isnan(self.usual_deviation):
            return math.nan
        return float(np.mean(side * (last - self.usual) > FAR_DEVIATIONS * self.usual_deviation))

    def elevation(self, low: float, high: float) -> float:
        """Return how clearly it is above usual, 0..1.

        It must be far outside; the strength rises from `low` to `high` times the usual level.
        """
        return ramp(self.ratio_to_usual, low, high) * ramp(self.ratio_outside(+1), 0.3, 0.8)

    def plus(self, other: "MetricWindow") -> "MetricWindow":
        """Return the sum, row by row."""
        return MetricWindow(
            self.times,
            self.values + other.values,
            self.usual + other.usual,
            self.usual_deviation + other.usual_deviation,
            self.series_ids + other.series_ids,
            self.metric,
        )

    def minus(self, other: "MetricWindow") -> "MetricWindow":
        """Return the difference, row by row."""
        return MetricWindow(
            self.times,
            self.values - other.values,
            self.usual - other.usual,
            self.usual_deviation + other.usual_deviation,
            self.series_ids + other.series_ids,
            self.metric,
        )

    def divided_by(self, divisor: "MetricWindow") -> "MetricWindow":
        """Return the quotient, row by row; NaN where the divisor is not positive."""
        usual = self.usual / divisor.usual if divisor.usual > 0 else math.nan
        value = np.divide(
            self.values, divisor.values, out=np.full(self.values.shape, np.nan), where=divisor.values > 0
        )
        ids = self.series_ids + divisor.series_ids
        return MetricWindow(self.times, value, usual, math.nan, ids, self.metric)


def aggregate(values: Floats, aggregation: str) -> Floats:
    """Combine several series into one metric, (rows,).

    values      : (rows, n_series)
    aggregation : sum, max, min, mean, or percent (a sum in percent)
    A row is NaN where a series is unknown that usually is known: a missing part is not zero.
    """
    if values.shape[1] == 1:
        alone: Floats = values[:, 0]
        return alone / 100.0 if aggregation == "percent" else alone
    usually = np.mean(~np.isnan(values), axis=0) >= 0.5
    usually_known = values[:, usually] if usually.any() else values[:, :1]
    if usually_known.shape[1] == 1:
        combined: Floats = usually_known[:, 0]
    else:
        combined = _AGGREGATIONS[aggregation](usually_known, axis=1)
    return combined / 100.0 if aggregation == "percent" else combined


def aggregate_usual(usual: Floats, deviation: Floats, aggregation: str) -> tuple[float, float]:
    """Combine usual levels and usual deviations of several series."""
    if aggregation in {"sum", "percent"}:
        scale = 0.01 if aggregation == "percent" else 1.0
        return scale * float(usual.sum()), scale * float(np.sqrt(np.sum(deviation**2)))
    return float(_AGGREGATIONS[aggregation](usual)), float(deviation.max())


@lru_cache(maxsize=16)
def index_pairs(n: int) -> tuple[Ints, Ints]:
    """Return the indices of all pairs of n, the earlier one first.

    >>> [index.tolist() for index in index_pairs(3)]
    [[0, 0, 1], [1, 2, 2]]
    """
    i, j = np.triu_indices(n, 1)
    return i, j


def theil_sen(x: Floats, y: Floats) -> float:
    """Return the median slope between all pairs, which is robust to outliers (Sen 1968).

    >>> theil_sen(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 2.0, 4.0, 99.0]))
    2.0
    """
    i, j = index_pairs(len(x))
    rises = (y[j] - y[i]) / (x[j] - x[i])
    rises.sort()
    return float(rises[(len(rises) - 1) // 2])


def _drop_nan(values: Floats) -> Floats:
    known: Floats = values[~np.isnan(values)]
    return known
