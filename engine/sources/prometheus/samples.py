"""Samples of a Prometheus answer as arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from trimtab.engine.types import Floats, Ints

_MS = 1_000_000
_time, _value = itemgetter(0), itemgetter(1)


@dataclass(frozen=True, slots=True)
class SampleRuns:
    """Raw samples of many series: one run per series, concatenated, oldest first within a run.

    slots  : (n_runs,) raw slot of each series
    starts : (n_runs,) index of each run's first sample
    values : (n_samples,) float64
    times  : (n_samples,) int64 ns
    """

    slots: Ints
    starts: Ints
    values: Floats
    times: Ints

    @property
    def last_indices(self) -> Ints:
        """Index of the newest sample of each series, (n_runs,)."""
        return np.append(self.starts, len(self.values))[1:] - 1

    @property
    def slot_of_sample(self) -> Ints:
        """Raw slot of each sample, (n_samples,)."""
        return np.repeat(self.slots, np.diff(np.append(self.starts, len(self.values))))


def parse_matrix(
    rows: Iterable[Mapping[str, Any]], slot_of: Callable[[Mapping[str, str]], int]
) -> SampleRuns:
    """Parse the rows of a matrix; series with a negative slot and native histograms are left out.

    >>> rows = [{"metric": {"__name__": "up"}, "values": [[1.5, "1"], [2.5, "0"]]}]
    >>> parse_matrix(rows, lambda metric: 7).values.tolist()
    [1.0, 0.0]
    """
    slots: list[int] = []
    starts: list[int] = []
    times: list[float] = []
    values: list[float] = []
    for row in rows:
        points = row.get("values")
        slot = slot_of(row["metric"]) if points else -1
        if slot < 0 or not points:
            continue
        slots.append(slot)
        starts.append(len(values))
        times.extend(map(_time, points))
        values.extend(map(float, map(_value, points)))
    return SampleRuns(
        np.array(slots, np.int64),
        np.array(starts, np.int64),
        np.array(values, np.float64),
        seconds_to_ns(times),
    )


def concatenate(parts: Sequence[SampleRuns]) -> SampleRuns:
    """Concatenate the samples of several answers."""
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(len(part.values) for part in parts)])
    return SampleRuns(
        np.concatenate([np.empty(0, np.int64), *(part.slots for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(p.starts + n for p, n in zip(parts, before, strict=False))]),
        np.concatenate([np.empty(0), *(part.values for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.times for part in parts)]),
    )


def seconds_to_ns(times_s: Iterable[float]) -> Ints:
    """Convert Prometheus timestamps in seconds to int64 ns, exact to the millisecond."""
    out: Ints = np.rint(np.array(times_s, np.float64) * 1000).astype(np.int64) * _MS
    return out
