"""The newest rows of those series that play a part: values with what was expected of them, in a ring."""

import numpy as np
import numpy.typing as npt

from trimtab.engine.types import Floats, Ints

FIELDS = 4
"""Value, expected, lower, upper."""


class Ring:
    """The last rows of n columns. A row is overwritten until its time is up, so it always holds the newest.

    rows   : at most so many are kept
    step_s : time that a row covers, seconds
    """

    def __init__(self, rows: int, step_s: float) -> None:
        self.rows = rows
        self.step_ns = round(step_s * 1e9)
        self.times: Ints = np.zeros(rows, np.int64)
        self.data: npt.NDArray[np.float32] = np.full((rows, FIELDS, 0), np.nan, np.float32)
        self.filled = 0
        self.head = -1
        """Index of the newest row."""

    def refit(self, columns: Ints) -> None:
        """Let column i go on with what column `columns[i]` held before; -1 = it is new."""
        kept = columns >= 0
        data = np.full((self.rows, FIELDS, len(columns)), np.nan, np.float32)
        data[:, :, kept] = self.data[:, :, columns[kept]]
        self.data = data

    def put(self, time: int, row: Floats) -> None:
        """Take in a tick, (4, n); rows after it, or too old beside it, are forgotten."""
        newest = int(self.times[self.head]) if self.filled else 0
        if self.filled and (time < newest or time - newest > self.rows * self.step_ns):
            self.filled, self.head = 0, -1
        if not self.filled or time - newest >= self.step_ns:
            self.head = (self.head + 1) % self.rows
            self.filled = min(self.filled + 1, self.rows)
            self.times[self.head] = time
        self.data[self.head] = row

    def order(self) -> Ints:
        """Indices of the rows, oldest first."""
        return (self.head + 1 - self.filled + np.arange(self.filled)) % self.rows

    def read(self, columns: Ints) -> tuple[Ints, Floats]:
        """Times (rows,) and a block (rows, 4, n), oldest first."""
        order = self.order()
        return self.times[order], self.data[order][:, :, columns].astype(np.float64)

    def newest(self) -> npt.NDArray[np.float32]:
        """Values of the newest row, (n,)."""
        values: npt.NDArray[np.float32] = self.data[self.head, 0]
        return values
