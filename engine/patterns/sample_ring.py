"""Ring buffer of the newest samples of series with a role, and the usual level of each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.engine.types import Floats, Ints
from trimtab.models.contracts import Bools, State

USUAL_ROWS = 80.0
"""The usual level is a running mean over about this many rows."""
YOUNG_ROWS = 40
"""A series learns at full speed for its first rows, even during trouble."""
SLOW_FACTOR = 0.1
"""Learning speed during trouble, and for values far from usual, relative to normal."""
FAR_DEVIATIONS = 4.0
"""In usual deviations."""


def learn_usual(values: Floats, usual: Floats, distance: Floats, seen: Floats, healthy: Bools) -> None:
    """Update mean and mean absolute deviation of all series by one row, in place.

    values  : (n,) float64, NaN = unknown, not learned; seen : (n,) rows so far
    healthy : (n,) bool; elsewhere learning is slow
    """
    known = ~np.isnan(values)
    first = known & (seen == 0)
    rate = np.maximum(1.0 / USUAL_ROWS, 1.0 / (seen + 1.0)) * np.where(
        healthy | (seen < YOUNG_ROWS), 1.0, SLOW_FACTOR
    )
    deviation = np.where(known & ~first, values - usual, 0.0)
    far = (np.abs(deviation) > np.maximum(FAR_DEVIATIONS * distance, 0.25 * np.abs(usual))) & (
        seen >= YOUNG_ROWS
    )
    rate[far & healthy] *= SLOW_FACTOR
    usual += rate * deviation
    distance += rate * (np.abs(deviation) - distance) * (known & ~first)
    usual[first] = values[first]
    seen += known


class SampleRing:
    """The last rows of n columns. The newest row is overwritten until its time is up.

    rows   : maximum number of rows
    step_s : seconds that a row covers
    data   : (rows, n) float64, NaN = unknown
    usual, distance : (n,) running mean, and mean absolute deviation from it
    """

    def __init__(self, rows: int, step_s: float) -> None:
        self.rows = rows
        self.step_ns = round(step_s * 1e9)
        self.times: Ints = np.zeros(rows, np.int64)
        self.data: Floats = np.full((rows, 0), np.nan)
        self.usual, self.distance, self.seen = (np.zeros(0) for _ in range(3))
        self.filled = 0
        self.head = -1
        """Index of the newest row."""

    def remap_columns(self, columns: Ints) -> None:
        """Let column i continue with the data of column `columns[i]`; -1 = new."""
        kept = columns >= 0
        data = np.full((self.rows, len(columns)), np.nan)
        data[:, kept] = self.data[:, columns[kept]]
        self.data = data
        self.usual, self.distance, self.seen = (
            _remap(old, columns, kept) for old in (self.usual, self.distance, self.seen)
        )

    def append(self, time: int, row: Floats, healthy: Bools) -> bool:
        """Add a tick, (n,); return whether it began a new row. After a long gap all rows are dropped.

        healthy : (n,) bool, series of healthy entities
        """
        newest = int(self.times[self.head]) if self.filled else 0
        if self.filled and (time < newest or time - newest > self.rows * self.step_ns):
            self.filled, self.head = 0, -1
        begins = not self.filled or time - newest >= self.step_ns
        if begins:
            self.head = (self.head + 1) % self.rows
            self.filled = min(self.filled + 1, self.rows)
            self.times[self.head] = time
            learn_usual(row, self.usual, self.distance, self.seen, healthy)
        self.data[self.head] = row
        return begins

    def state(self) -> State:
        """Return the arrays of the ring."""
        return {
            "times": self.times, "data": self.data, "usual": self.usual, "distance": self.distance,
            "seen": self.seen, "place": np.array([self.filled, self.head, self.step_ns]),
        }  # fmt: skip

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore `state`. Raises KeyError or ValueError when it does not fit."""
        filled, head, step_ns = (int(value) for value in state["place"])
        data = state["data"].copy()
        by_column = [state[name].copy() for name in ("usual", "distance", "seen")]
        if step_ns != self.step_ns or any(value.shape != data.shape[1:] for value in by_column):
            raise ValueError(
                f"stored rows of {step_ns} ns and shape {data.shape} do not fit rows of {self.step_ns} ns"
            )
        if data.shape[0] != self.rows or not -1 <= head < self.rows or not 0 <= filled <= self.rows:
            raise ValueError(f"stored state has {data.shape[0]} rows, expected {self.rows}")
        self.times, self.data, self.filled, self.head = state["times"].copy(), data, filled, head
        self.usual, self.distance, self.seen = by_column

    def order(self) -> Ints:
        """Return the indices of the rows, oldest first."""
        return (self.head + 1 - self.filled + np.arange(self.filled)) % self.rows

    def read(self, columns: Ints) -> tuple[Ints, Floats]:
        """Return times (rows,) and values (rows, n) of some columns, oldest first."""
        order = self.order()
        return self.times[order], self.data[order[:, None], columns]

    def recent_mean(self, rows: int) -> Floats:
        """Return the mean of the newest rows, (n,), ignoring NaN; NaN where all are NaN."""
        values = self.data[self.order()[-rows:]]
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        total = np.where(known, values, 0.0).sum(axis=0)
        mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        return mean


def _remap(old: Floats, columns: Ints, kept: npt.NDArray[np.bool_]) -> Floats:
    new = np.zeros(len(columns))
    new[kept] = old[columns[kept]]
    return new
