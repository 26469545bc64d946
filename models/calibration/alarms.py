"""Scores -> anomaly intervals: one alarm an event.

An alarm opens at the first score above `OPEN` and closes after `QUIET_TICKS` scored ticks in a row at or
below `CLOSE`. A NaN score is unknown: it neither opens nor closes.
"""

import numpy as np

from trimtab.models.bank import StateArrays, StateField
from trimtab.models.calibration.tail_probability import QUIET_TICKS
from trimtab.models.contracts import Bools, Floats, Ints, State

OPEN_ABOVE = 1.0
CLOSE_AT = 0.9


class Alarms:
    """Open alarms of n series.

    >>> alarms = Alarms(n_series=1)
    >>> opened, closed = alarms.step(np.array([2.0]), 0)
    >>> opened.tolist(), closed.tolist(), alarms.is_open.tolist()
    ([0], [], [True])
    """

    def __init__(self, n_series: int) -> None:
        self._arrays = StateArrays({"open": StateField(np.bool_), "quiet": StateField(np.int32)}, n_series)

    @property
    def n_series(self) -> int:
        """Series that there is room for."""
        return self._arrays.n_series

    @property
    def is_open(self) -> Bools:
        """(n_series,) whether an alarm is open."""
        is_open: Bools = self._arrays.values["open"]
        return is_open

    def step(self, score: Floats, t: int) -> tuple[Ints, Ints]:  # noqa: ARG002 - counted in ticks, not in time
        """Slots whose alarm opened and slots whose alarm closed at this tick, ascending.

        score : (n_series,) anomaly_score, NaN = unknown
        """
        is_open, quiet = self._arrays.values["open"], self._arrays.values["quiet"]
        opened = ~is_open & (score > OPEN_ABOVE)
        calm = is_open & (score <= CLOSE_AT)
        quiet[opened | (score > CLOSE_AT)] = 0
        quiet[calm] += 1
        closed = calm & (quiet >= QUIET_TICKS)
        is_open ^= opened | closed
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


def alarm_intervals(score: Floats, t: Ints) -> list[tuple[int, int, int, float]]:
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
        for i in np.flatnonzero(alarms.is_open & (score[k] > OPEN_ABOVE)).tolist():
            start, _, peak = current[i]
            current[i] = (start, int(t[k]), max(peak, float(score[k, i])))
        found += [(i, *current.pop(i)) for i in closed.tolist()]
    found += [(i, *rest) for i, rest in current.items()]
    return sorted(found, key=lambda alarm: (alarm[1], alarm[0]))
