"""Detects restarts from series: a start time that moved, an uptime that fell, a restart counter that grew.

No I/O, no clock.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from trimtab.engine.patterns.entity_view import ROLES, EntityIndex
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.types import Floats, Ints, SeriesInfo, SeriesKey
from trimtab.models.contracts import Bools

MIN_SHIFT_S = 2.0
"""A start time that moves by less was computed differently, for example after a clock change."""
MAX_AGE_NS = 86_400_000_000_000
"""A restart with an older start time gets the current time, because its clock may differ."""
_START, _UPTIME, _COUNT = (ROLES.index(role) for role in (Role.START_TIME, Role.UPTIME, Role.RESTARTS))


class RestartDetector:
    """Detects restarts of one source's entities.

    info : kind of a series: a counter that arrives as a rate shows only its growth
    """

    def __init__(self, info: Callable[[SeriesKey], SeriesInfo]) -> None:
        self.info = info
        self._index: EntityIndex | None = None
        self._columns: Ints = np.empty(0, np.int64)
        self._is_rate: Bools = np.empty(0, np.bool_)
        self._ids: list[str] = []
        self._last: Floats = np.empty(0)
        """Newest known value of each series, NaN = none."""

    def step(self, time: int, index: EntityIndex, values: Floats) -> list[tuple[SeriesKey, int]]:
        """Return the series that show a restart in this tick, with its time, int64 ns.

        values : (n_slots,), NaN = unknown: the previous value stays
        """
        if index is not self._index:
            self._update_index(index)
        current, previous = values[index.slots[self._columns]], self._last
        current = np.where(np.isfinite(current), current, np.nan)
        roles = index.role_of_column[self._columns]
        counter_grew = np.where(self._is_rate, (current > 0.0) & ~np.isnan(previous), current > previous)
        restarted = np.select(
            [roles == _START, roles == _UPTIME],
            [current > previous + MIN_SHIFT_S, current < previous],
            counter_grew,
        )
        self._last = np.where(np.isnan(current), previous, current)
        return [
            (index.keys[self._columns[i]], _restart_time(int(roles[i]), float(current[i]), time))
            for i in np.flatnonzero(restarted).tolist()
        ]

    def state(self) -> dict[str, float]:
        """Return series id -> newest known value."""
        known = zip(self._ids, self._last.tolist(), strict=True)
        return {series_id: value for series_id, value in known if not math.isnan(value)}

    def restore(self, state: Mapping[str, float]) -> None:
        """Restore `state`."""
        self._index, self._ids, self._last = None, list(state), np.array(list(state.values()), np.float64)

    def _update_index(self, cast: EntityIndex) -> None:
        known = self.state()
        self._index = cast
        self._columns = np.flatnonzero(np.isin(cast.role_of_column, (_START, _UPTIME, _COUNT)))
        keys = [cast.keys[column] for column in self._columns.tolist()]
        self._ids = [key.id for key in keys]
        self._last = np.array([known.get(series_id, math.nan) for series_id in self._ids], np.float64)
        self._is_rate = np.array([self.info(key).kind == "rate" for key in keys], np.bool_)


def _restart_time(role: int, value: float, time: int) -> int:
    """Return the restart's time from the series' value; the current time where that is implausible."""
    restart = round(value * 1e9) if role == _START else time - round(value * 1e9) if role == _UPTIME else time
    return restart if time - MAX_AGE_NS <= restart <= time else time
