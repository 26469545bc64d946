"""Restarts that series tell of: a start time that moved, an uptime that fell, a count of restarts that grew.

No I/O, no clock.
"""

import math
from collections.abc import Callable

import numpy as np

from trimtab.engine.sensing.role_table import Role
from trimtab.engine.sensing.scene import ROLES, Cast
from trimtab.engine.types import Floats, Ints, SeriesInfo, SeriesKey

MOVED_S = 2.0
"""A start time that moves by less was only reckoned otherwise, as from a clock that was set."""
LONG_AGO_NS = 86_400_000_000_000
"""A start longer ago than this is told as of now: its clock may be another one."""
_START, _UPTIME, _COUNT = (ROLES.index(role) for role in (Role.START_TIME, Role.UPTIME, Role.RESTARTS))


class Restarts:
    """Of one source.

    info : kind of a series: of a count that comes as a rate only the growth is known
    """

    def __init__(self, info: Callable[[SeriesKey], SeriesInfo]) -> None:
        self.info = info
        self.last: dict[str, float] = {}
        """Id of a series -> its newest value."""
        self._cast: Cast | None = None
        self._columns: Ints = np.empty(0, np.int64)

    def step(self, time: int, cast: Cast, values: Floats) -> list[tuple[SeriesKey, int]]:
        """Series that tell of a restart with this tick, and when it was, int64 ns.

        values : (n_slots,), NaN = unknown: what was known before stays
        """
        if cast is not self._cast:
            self._fit(cast)
        told = []
        for column, value in zip(self._columns, values[cast.slots[self._columns]].tolist(), strict=True):
            key = cast.keys[column]
            before = self.last.get(key.id)
            if math.isnan(value):
                continue
            self.last[key.id] = value
            at = self._when(cast.role[column], key, before, value, time)
            if at is not None:
                told.append((key, at if time - LONG_AGO_NS <= at <= time else time))
        return told

    def _fit(self, cast: Cast) -> None:
        self._cast = cast
        self._columns = np.flatnonzero(np.isin(cast.role, (_START, _UPTIME, _COUNT)))
        here = {cast.keys[column].id for column in self._columns.tolist()}
        self.last = {series_id: value for series_id, value in self.last.items() if series_id in here}

    def _when(self, role: int, key: SeriesKey, before: float | None, value: float, time: int) -> int | None:
        """When it restarted, as its series says it; None = it did not, or nothing is known of before."""
        if role == _COUNT and self.info(key).kind == "rate":
            return time if value > 0.0 and before is not None else None
        if before is None:
            return None
        if role == _START:
            return round(value * 1e9) if value > before + MOVED_S else None
        if role == _UPTIME:
            return time - round(value * 1e9) if value < before else None
        return time if value > before else None
