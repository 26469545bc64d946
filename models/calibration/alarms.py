"""Anomaly intervals from scores: one alarm an event.

An alarm opens at the first score above `OPEN_ABOVE` and closes after `QUIET_TICKS` consecutive scored ticks
at or below `CLOSE_AT`. NaN scores neither open nor close an alarm.
"""

import numpy as np

from trimtab.models.bank import StateArrays, StateField
from trimtab.models.calibration.tail_probability import QUIET_TICKS
from trimtab.models.contracts import Bools, Floats, Ints, State

OPEN_ABOVE = 1.0
CLOSE_AT = 0.9


class Alarms:
    """Tracks the open alarms of n series.

    >>> alarms = Alarms(n_series=1)
    >>> opened, closed = alarms.step(np.array([2.0]), 0)
    >>> opened.tolist(), closed.tolist(), alarms.is_open.tolist()
    ([0], [], [True])
    """

    def __init__(self, n_series: int) -> None:
        self._arrays = StateArrays({"open": StateField(np.bool_), "quiet": StateField(np.int32)}, n_series)

    @property
    def n_series(self) -> int:
        """Number of slots."""
        return self._arrays.n_series

    @property
    def is_open(self) -> Bools:
        """(n_series,) bool, whether an alarm is open."""
        is_open: Bools = self._arrays.values["open"]
        return is_open

    def step(self, score: Floats, t: int) -> tuple[Ints, Ints]:  # noqa: ARG002 - counts ticks, not time
        """Return the slots whose alarm opens and the slots whose alarm closes at this tick, both ascending.

        score : (n_series,) anomaly_score, NaN = unknown
        """
        is_open, quiet = self._arrays.values["open"], self._arrays.values["quiet"]
        opened = ~is_open & (score > OPEN_ABOVE)
        quiet_tick = is_open & (score <= CLOSE_AT)
        quiet[opened | (score > CLOSE_AT)] = 0
        quiet[quiet_tick] += 1
        closed = quiet_tick & (quiet >= QUIET_TICKS)
        is_open ^= opened | closed
        return np.flatnonzero(opened), np.flatnonzero(closed)

    def close(self, slots: Ints) -> None:
        """Close these alarms at once, for example after a declared level shift."""
        self._arrays.reset(slots)

    def grow(self, n: int) -> None:
        """Extend to n slots in total."""
        self._arrays.grow(n)

    def take(self, slots: Ints) -> State:
        """Return a copy of the state of these slots."""
        return self._arrays.take(slots)

    def put(self, slots: Ints, state: State) -> None:
        """Overwrite these slots with a state from `take`."""
        self._arrays.put(slots, state)

    def reset(self, slots: Ints) -> None:
        """Discard the state of these slots."""
        self._arrays.reset(slots)

    def state(self) -> State:
        """Return a copy of the whole state."""
        return self._arrays.state()

    def restore(self, state: State) -> None:
        """Replace the whole state by one from `state`."""
        self._arrays.restore(state)


def alarm_intervals(score: Floats, t: Ints) -> list[tuple[int, int, int, float]]:
    """Return (slot, start, end, peak score) of every alarm of a run, by start; the last may still be open.

    score : (n_ticks, n_series) anomaly_score, NaN = unknown
    t     : (n_ticks,) int64 ns UTC

    `start` and `end` are ns UTC; `end` is the last tick above `OPEN_ABOVE`.
    """
    alarms = Alarms(score.shape[1])
    intervals: list[tuple[int, int, int, float]] = []
    current: dict[int, tuple[int, int, float]] = {}
    for k in range(len(score)):
        opened, closed = alarms.step(score[k], int(t[k]))
        for i in opened.tolist():
            current[i] = (int(t[k]), int(t[k]), float(score[k, i]))
        for i in np.flatnonzero(alarms.is_open & (score[k] > OPEN_ABOVE)).tolist():
            start, _, peak = current[i]
            current[i] = (start, int(t[k]), max(peak, float(score[k, i])))
        intervals += [(i, *current.pop(i)) for i in closed.tolist()]
    intervals += [(i, *interval) for i, interval in current.items()]
    return sorted(intervals, key=lambda alarm: (alarm[1], alarm[0]))
