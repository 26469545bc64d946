"""Scores -> anomaly intervals: one alarm an event.

An alarm opens at the first score above `OPEN` and closes after `QUIET_TICKS` scored ticks in a row at or below
`CLOSE`. A NaN score is unknown: it neither opens nor closes.
"""

import numpy as np
from numba import njit

from trimtab.models.bank import Arrays, Field
from trimtab.models.calibration import QUIET_TICKS
from trimtab.models.contracts import Bools, Floats, Ints, State

OPEN = 1.0
CLOSE = 0.9


@njit(cache=True)
def alarm_step(score, opened, closed, is_open, quiet):
    """One tick: marks in opened and closed what changed."""
    for i in range(score.shape[0]):
        s = score[i]
        opened[i] = not is_open[i] and s > OPEN
        if opened[i]:
            is_open[i] = True
            quiet[i] = 0
        elif is_open[i] and s > CLOSE:
            quiet[i] = 0
        elif is_open[i] and s <= CLOSE:
            quiet[i] += 1
            closed[i] = quiet[i] >= QUIET_TICKS
            is_open[i] = not closed[i]


class Alarms:
    """Open alarms of n series.

    >>> alarms = Alarms(n_series=1)
    >>> opened, closed = alarms.step(np.array([2.0]), 0)
    >>> opened.tolist(), closed.tolist(), alarms.open.tolist()
    ([0], [], [True])
    """

    def __init__(self, n_series: int) -> None:
        self._arrays = Arrays({"open": Field(np.bool_), "quiet": Field(np.int32)}, n_series)

    @property
    def n_series(self) -> int:
        """Series that there is room for."""
        return self._arrays.n_series

    @property
    def open(self) -> Bools:
        """(n_series,) whether an alarm is open."""
        is_open: Bools = self._arrays.values["open"]
        return is_open

    def step(self, score: Floats, t: int) -> tuple[Ints, Ints]:  # noqa: ARG002 - counted in ticks, not in time
        """Slots whose alarm opened and slots whose alarm closed at this tick, ascending.

        score : (n_series,) anomaly_score, NaN = unknown
        """
        opened, closed = np.zeros(self.n_series, np.bool_), np.zeros(self.n_series, np.bool_)
        values = self._arrays.values
        alarm_step(np.require(score, np.float64, ["C", "W"]), opened, closed, values["open"], values["quiet"])
        return np.flatnonzero(opened), np.flatnonzero(closed)

    def close(self, slots: Ints) -> None:
        """End these alarms without waiting, as after a declared level shift."""
        self._arrays.reset(slots)

    def grow(self, n: int) -> None:
        """Make room for n series in all."""
        self._arrays.grow(n)

    def take(self, slots: Ints) -> State:
        """A copy of the state of these slots."""
        return self._arrays.take(slots)

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots with what `take` gave."""
        self._arrays.put(slots, state)

    def reset(self, slots: Ints) -> None:
        """Forget these slots."""
        self._arrays.reset(slots)

    def state(self) -> State:
        """A copy of everything."""
        return self._arrays.state()

    def restore(self, state: State) -> None:
        """Go on where `state` was taken."""
        self._arrays.restore(state)


def intervals(score: Floats, t: Ints) -> list[tuple[int, int, int, float]]:
    """(slot, start, end, peak score) of every alarm in a run, by start; the last ones may still be open.

    score : (n_ticks, n_series);  t : (n_ticks,) int64 ns;  end is the last tick above `OPEN`
    """
    alarms = Alarms(score.shape[1])
    found: list[tuple[int, int, int, float]] = []
    current: dict[int, tuple[int, int, float]] = {}
    for k in range(len(score)):
        opened, closed = alarms.step(score[k], int(t[k]))
        for i in opened.tolist():
            current[i] = (int(t[k]), int(t[k]), float(score[k, i]))
        for i in np.flatnonzero(alarms.open & (score[k] > OPEN)).tolist():
            start, _, peak = current[i]
            current[i] = (start, int(t[k]), max(peak, float(score[k, i])))
        found += [(i, *current.pop(i)) for i in closed.tolist()]
    found += [(i, *rest) for i, rest in current.items()]
    return sorted(found, key=lambda alarm: (alarm[1], alarm[0]))
