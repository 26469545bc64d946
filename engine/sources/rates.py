"""Counters to rates, and units from names: what every source needs.

A counter only grows, so a value below the one before means that it started again. How much was counted
around a restart is not known: the growth before it is lost, and a value that merely slipped back by a
rounding error would count as growth by its whole size. So the interval over a reset is unknown (NaN),
and a reset is never an anomaly by itself; the next interval is exact again.
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
    """Increase per second of counters between two looks at them, elementwise.

    before, after : counts, NaN = not known
    elapsed_s     : seconds between the two
    NaN where a count is not known, over a reset, over a gap longer than max_gap_s, and where no time passed.

    >>> rate_between(np.array([10.0, 10.0]), np.array([40.0, 3.0]), 15.0, 60.0).tolist()
    [2.0, nan]
    """
    with np.errstate(invalid="ignore"):
        grown = after - before
    known = (grown >= 0) & np.isfinite(grown) & (elapsed_s > 0) & (elapsed_s <= max_gap_s)
    out: Floats = np.divide(grown, elapsed_s, out=np.full(np.shape(grown), np.nan), where=known)
    return out


class CounterRates:
    """Counts of now against those of the look before, as rates per second."""

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._keys: tuple[SeriesKey, ...] = ()
        self._counts: Floats = np.empty(0)
        self._at_s = 0.0

    def update(self, counts: list[tuple[SeriesKey, float]], now_s: float) -> list[tuple[SeriesKey, float]]:
        """A rate for each count; NaN for a new one, over a reset and over a long gap."""
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
    """Rates of evenly spaced counts, (n_ticks, n_series); row i is the rate since row i - 1.

    A row before a gap is NaN as well: what stands there may be an older value that was carried on.

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
    """The rate at the end of each run of samples, (n_runs,): the samples of one series, oldest first.

    values, times : (n_samples,) all runs one behind the other; times int64 ns
    starts        : (n_runs,) where each run begins; no run is empty
    span_s        : how far back from the newest sample growth is counted, seconds, (n_runs,) or one number
    max_gap_s     : growth over a longer gap is not known, (n_runs,) or one number

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
    """Samples of many series on a common grid: the newest value and the rate in each cell.

    values, times, series : (n_samples,) by series, oldest first; series is the column
    shape : (n_ticks, n_series); row i covers start + i * step_s up to the next
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
    """Growth and seconds between neighbours; both 0 where nothing is known."""
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
    """Whether a metric only grows: by its type where that is known, else by its name.

    >>> is_counter("http_requests_total"), is_counter("jobs_total", "gauge"), is_counter("ticks", "counter")
    (True, False, True)
    """
    if metric_type in _GAUGE_TYPES:
        return False
    return metric_type in _COUNTER_TYPES or _COUNTER_NAME.search(name) is not None


def unit_of(name: str, *, rate: bool = False, metadata_unit: str = "") -> str:
    """Unit of a metric, "" where nothing is known; with `rate` that of its increase per second.

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
