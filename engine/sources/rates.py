"""Counters to rates, and units from metric names; shared by all sources.

A counter only increases, so a decrease means a reset. The increase around a reset is unknown: what was
counted before it is lost, and a tiny decrease by rounding would count as an increase by the full value. So
the interval of a reset is unknown (NaN), the next one is exact again, and a reset is never an anomaly.
"""

import math
import re

import numpy as np

from trimtab.engine.types import Floats, Ints, SeriesKey
from trimtab.models.contracts import Bools

NS = 1_000_000_000

_SUFFIXES = {
    "seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns", "minutes": "min",
    "hours": "h", "days": "d", "bytes": "B", "kilobytes": "kB", "megabytes": "MB", "bits": "bit",
    "ratio": "ratio", "percent": "%", "celsius": "°C", "volts": "V", "amperes": "A", "joules": "J",
    "watts": "W", "hertz": "Hz", "meters": "m", "grams": "g", "pascals": "Pa", "rpm": "1/min",
}  # fmt: skip
_COUNTER_NAME = re.compile(r"_(total|count|sum|bucket)$")
_COUNTER_TYPES = frozenset({"counter", "histogram", "summary"})
_GAUGE_TYPES = frozenset({"gauge", "info", "stateset"})
_PER_SECOND = {"s": "ratio", "J": "W"}


def rate_between(before: Floats, after: Floats, elapsed_s: Floats | float, max_gap_s: float) -> Floats:
    """Return the increase per second between two readings of counters, elementwise.

    before, after : counts, NaN = unknown
    elapsed_s     : seconds between the readings
    max_gap_s     : a longer interval gives NaN, seconds

    NaN when a count is unknown, over a reset, over a longer gap, and when no time passed.

    >>> rate_between(np.array([10.0, 10.0]), np.array([40.0, 3.0]), 15.0, 60.0).tolist()
    [2.0, nan]
    """
    with np.errstate(invalid="ignore"):
        increase = after - before
    known = (increase >= 0) & np.isfinite(increase) & (elapsed_s > 0) & (elapsed_s <= max_gap_s)
    out: Floats = np.divide(increase, elapsed_s, out=np.full(np.shape(increase), np.nan), where=known)
    return out


class CounterRates:
    """Rates per second between successive readings of counters. max_gap_s : longer gaps give NaN."""

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._keys: tuple[SeriesKey, ...] = ()
        self._counts: Floats = np.empty(0)
        self._at_s = 0.0

    def update(self, counts: list[tuple[SeriesKey, float]], now_s: float) -> list[tuple[SeriesKey, float]]:
        """Return a rate for each count; NaN for a new series, over a reset and over a long gap."""
        keys = tuple(key for key, _ in counts)
        after = np.array([value for _, value in counts], np.float64)
        before = self._counts
        if keys != self._keys:
            known = dict(zip(self._keys, self._counts, strict=True))
            before = np.array([known.get(key, math.nan) for key in keys], np.float64)
        rates = rate_between(before, after, now_s - self._at_s, self._max_gap_s)
        self._keys, self._counts, self._at_s = keys, after, now_s
        return list(zip(keys, rates.tolist(), strict=True))


def rates_of_rows(counts: Floats, step_s: float) -> Floats:
    """Return the rates of evenly spaced counts, (n_ticks, n_series); row i is the rate since row i - 1.

    The row before a gap is NaN as well, because Prometheus may have repeated an older value there.

    >>> rates_of_rows(np.array([[0.0], [30.0], [60.0], [np.nan]]), 15.0).ravel().tolist()
    [nan, 2.0, nan, nan]
    """
    rates = np.full(counts.shape, np.nan)
    if len(counts) < 2:
        return rates
    rates[1:] = rate_between(counts[:-1], counts[1:], step_s, step_s)
    rates[:-1][np.isnan(counts[1:])] = np.nan
    return rates


def rates_of_runs(
    values: Floats, times: Ints, starts: Ints, span_s: Floats | float, max_gap_s: Floats | float
) -> Floats:
    """Return the rate at the end of each run, (n_runs,). A run is the samples of one series, oldest first.

    values, times : (n_samples,) concatenated runs; times int64 ns
    starts        : (n_runs,) index of each run's first sample; no run is empty
    span_s        : the rate covers this many seconds before the newest sample, (n_runs,) or scalar
    max_gap_s     : the increase over a longer gap is unknown, (n_runs,) or scalar

    >>> t = np.array([0, 15, 30, 0, 15, 30]) * NS
    >>> rates_of_runs(np.array([0.0, 15, 45, 7, 9, 1]), t, np.array([0, 3]), 15, 40).tolist()
    [2.0, nan]
    """
    n = len(starts)
    if n == 0:
        return np.empty(0)
    run = np.repeat(np.arange(n), np.diff(np.append(starts, len(values))))
    newest = times[np.append(starts[1:], len(values)) - 1]
    since = newest - (np.broadcast_to(span_s, n) * NS).astype(np.int64)
    recent = (times[1:] > since[run[1:]]) & (run[1:] == run[:-1])
    grown, elapsed_s = _increments(values, times, np.broadcast_to(max_gap_s, n)[run[1:]], recent)
    return _divide_or_nan(_sum_by_index(run[1:], grown, n), _sum_by_index(run[1:], elapsed_s, n))


def resample_to_grid(
    values: Floats,
    times: Ints,
    series: Ints,
    shape: tuple[int, int],
    start: int,
    step_s: float,
    max_gap_s: float,
) -> tuple[Floats, Floats]:
    """Return the newest value and the rate of each series in each cell of a common grid.

    values, times, series : (n_samples,) grouped by series, oldest first; series is the column
    shape     : (n_ticks, n_series); row i covers start + i * step_s up to the next row
    start     : int64 ns
    max_gap_s : the increase over a longer gap is unknown, seconds

    Returns two (n_ticks, n_series) arrays, NaN = no sample, or no rate.
    """
    n_ticks, n_series = shape
    row = (times - start) // int(step_s * NS)
    inside = (row >= 0) & (row < n_ticks)
    cell = np.where(inside, row * n_series + series, 0)
    level = np.full(n_ticks * n_series, np.nan)
    level[cell[inside]] = values[inside]
    pair = inside[1:] & (series[1:] == series[:-1])
    grown, elapsed_s = _increments(values, times, max_gap_s, pair)
    size = n_ticks * n_series
    rate = _divide_or_nan(_sum_by_index(cell[1:], grown, size), _sum_by_index(cell[1:], elapsed_s, size))
    return level.reshape(shape), rate.reshape(shape)


def _increments(
    values: Floats, times: Ints, max_gap_s: Floats | float, where: Bools
) -> tuple[Floats, Floats]:
    """Return increase and seconds between neighbouring samples; both 0 when unknown."""
    elapsed_s = np.diff(times) / NS
    with np.errstate(invalid="ignore"):
        grown = np.diff(values)
    known = where & (elapsed_s > 0) & (elapsed_s <= max_gap_s) & (grown >= 0) & np.isfinite(grown)
    return np.where(known, grown, 0.0), np.where(known, elapsed_s, 0.0)


def _sum_by_index(index: Ints, weights: Floats, n: int) -> Floats:
    return np.bincount(index, weights, n).astype(np.float64, copy=False)


def _divide_or_nan(above: Floats, below: Floats) -> Floats:
    out: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return out


def is_counter(name: str, metric_type: str = "") -> bool:
    """Return whether a metric is a counter: by its type if known, else by its name.

    >>> is_counter("http_requests_total"), is_counter("jobs_total", "gauge"), is_counter("ticks", "counter")
    (True, False, True)
    """
    if metric_type in _GAUGE_TYPES:
        return False
    return metric_type in _COUNTER_TYPES or _COUNTER_NAME.search(name) is not None


def unit_of(name: str, *, rate: bool = False, metadata_unit: str = "") -> str:
    """Return the unit of a metric, "" when unknown; with `rate`, the unit of its increase per second.

    >>> unit_of("node_network_receive_bytes_total", rate=True), unit_of("room_celsius"), unit_of("queue")
    ('B/s', '°C', '')
    >>> unit_of("node_cpu_seconds_total", rate=True), unit_of("requests_total", rate=True)
    ('ratio', '1/s')
    """
    stem = "" if name.endswith("_count") else metadata_unit or re.sub(r"_(total|sum|bucket)$", "", name)
    unit = _SUFFIXES.get(stem.rpartition("_")[2], metadata_unit)
    if not rate:
        return unit
    return _PER_SECOND.get(unit, f"{unit or 1}/s")
