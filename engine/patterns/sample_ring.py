"""The newest rows of those series that play a part, in a ring, and what is usual for each of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.engine.types import Floats, Ints
from trimtab.models.contracts import Bools, State

USUAL_ROWS = 80.0
"""What is usual is a mean that remembers about so many rows."""
YOUNG_ROWS = 40
"""A series is learnt fast at first, whatever else is wrong."""
SLOW_FACTOR = 0.1
"""Where something is wrong, or a value is far from usual, what is usual follows at this share of its pace."""
FAR_DEVIATIONS = 4.0
"""In usual distances."""


def learn_usual(values: Floats, usual: Floats, distance: Floats, seen: Floats, healthy: Bools) -> None:
    """Mean and mean distance from it, one row for all series, updated in place.

    values : (n,) float64, NaN = unknown (left unlearnt);  seen : (n,) rows so far
    calm   : (n,) where nothing is wrong; elsewhere it is learnt hesitantly
    """
    known = ~np.isnan(values)
    first = known & (seen == 0)
    pace = np.maximum(1.0 / USUAL_ROWS, 1.0 / (seen + 1.0)) * np.where(
        healthy | (seen < YOUNG_ROWS), 1.0, SLOW_FACTOR
    )
    off = np.where(known & ~first, values - usual, 0.0)
    far = (np.abs(off) > np.maximum(FAR_DEVIATIONS * distance, 0.25 * np.abs(usual))) & (seen >= YOUNG_ROWS)
    pace[far & healthy] *= SLOW_FACTOR
    usual += pace * off
    distance += pace * (np.abs(off) - distance) * (known & ~first)
    usual[first] = values[first]
    seen += known


class SampleRing:
    """The last rows of n columns. A row is overwritten until its time is up, so it always holds the newest.

    rows   : at most so many are kept
    step_s : time that a row covers, seconds
    data   : (rows, n) float64, NaN = unknown
    usual, distance : (n,) mean of the rows so far, and how far from it they usually are
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
        """Let column i go on with what column `columns[i]` held before; -1 = it is new."""
        kept = columns >= 0
        data = np.full((self.rows, len(columns)), np.nan)
        data[:, kept] = self.data[:, columns[kept]]
        self.data = data
        self.usual, self.distance, self.seen = (
            _remap(old, columns, kept) for old in (self.usual, self.distance, self.seen)
        )

    def append(self, time: int, row: Floats, healthy: Bools) -> bool:
        """Take in a tick, (n,); whether it began a row. After a long gap the rows before are forgotten.

        calm : (n,) series of entities that nothing is wrong with
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
        """What it holds."""
        return {
            "times": self.times, "data": self.data, "usual": self.usual, "distance": self.distance,
            "seen": self.seen, "place": np.array([self.filled, self.head, self.step_ns]),
        }  # fmt: skip

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on where `state` was taken. Raises KeyError or ValueError where it does not fit."""
        filled, head, step_ns = (int(one) for one in state["place"])
        data = state["data"].copy()
        by_column = [state[name].copy() for name in ("usual", "distance", "seen")]
        if step_ns != self.step_ns or any(one.shape != data.shape[1:] for one in by_column):
            raise ValueError(f"rows of {step_ns} ns for {data.shape}: now they are of {self.step_ns} ns")
        if data.shape[0] != self.rows or not -1 <= head < self.rows or not 0 <= filled <= self.rows:
            raise ValueError(f"{data.shape[0]} rows, now there are {self.rows}")
        self.times, self.data, self.filled, self.head = state["times"].copy(), data, filled, head
        self.usual, self.distance, self.seen = by_column

    def order(self) -> Ints:
        """Indices of the rows, oldest first."""
        return (self.head + 1 - self.filled + np.arange(self.filled)) % self.rows

    def read(self, columns: Ints) -> tuple[Ints, Floats]:
        """Times (rows,) and values (rows, n) of some columns, oldest first."""
        order = self.order()
        return self.times[order], self.data[order[:, None], columns]

    def recent_mean(self, rows: int) -> Floats:
        """Mean of the newest rows, (n,), unknown ones left out; NaN where all are."""
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
