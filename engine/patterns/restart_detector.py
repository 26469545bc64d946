"""Restarts that series tell of: a start time that moved, an uptime that fell, a count of restarts that grew.

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
"""A start time that moves by less was only reckoned otherwise, as from a clock that was set."""
MAX_AGE_NS = 86_400_000_000_000
"""A start longer ago than this is told as of now: its clock may be another one."""
_START, _UPTIME, _COUNT = (ROLES.index(role) for role in (Role.START_TIME, Role.UPTIME, Role.RESTARTS))


class RestartDetector:
    """Of one source.

    info : kind of a series: of a count that comes as a rate only the growth is known
    """

    def __init__(self, info: Callable[[SeriesKey], SeriesInfo]) -> None:
        self.info = info
        self._index: EntityIndex | None = None
        self._columns: Ints = np.empty(0, np.int64)
        self._is_rate: Bools = np.empty(0, np.bool_)
        self._ids: list[str] = []
        self._last: Floats = np.empty(0)
        """Newest known value of each of them, NaN = none yet."""

    def step(self, time: int, index: EntityIndex, values: Floats) -> list[tuple[SeriesKey, int]]:
        """Series that tell of a restart with this tick, and when it was, int64 ns.

        values : (n_slots,), NaN = unknown: what was known before stays
        """
        if index is not self._index:
            self._update_index(index)
        now, before = values[index.slots[self._columns]], self._last
        now = np.where(np.isfinite(now), now, np.nan)
        roles = index.role_of_column[self._columns]
        more = np.where(self._is_rate, (now > 0.0) & ~np.isnan(before), now > before)
        again = np.select(
            [roles == _START, roles == _UPTIME], [now > before + MIN_SHIFT_S, now < before], more
        )
        self._last = np.where(np.isnan(now), before, now)
        return [
            (index.keys[self._columns[i]], _restart_time(int(roles[i]), float(now[i]), time))
            for i in np.flatnonzero(again).tolist()
        ]

    def state(self) -> dict[str, float]:
        """Id of a series -> its newest value."""
        known = zip(self._ids, self._last.tolist(), strict=True)
        return {series_id: value for series_id, value in known if not math.isnan(value)}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on where `state` was taken."""
        self._index, self._ids, self._last = None, list(state), np.array(list(state.values()), np.float64)

    def _update_index(self, cast: EntityIndex) -> None:
        known = self.state()
        self._index = cast
        self._columns = np.flatnonzero(np.isin(cast.role_of_column, (_START, _UPTIME, _COUNT)))
        keys = [cast.keys[column] for column in self._columns.tolist()]
        self._ids = [key.id for key in keys]
        self._last = np.array([known.get(one, math.nan) for one in self._ids], np.float64)
        self._is_rate = np.array([self.info(key).kind == "rate" for key in keys], np.bool_)


def _restart_time(role: int, value: float, time: int) -> int:
    """When it restarted, as its series says it; now where that cannot be, or it does not say."""
    at = round(value * 1e9) if role == _START else time - round(value * 1e9) if role == _UPTIME else time
    return at if time - MAX_AGE_NS <= at <= time else time
