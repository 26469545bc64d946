"""Figures of our own as a source, so that our own detectors watch them like anybody else's."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trimtab.engine.ports import Clock
from trimtab.engine.sources.no_history import NoHistory
from trimtab.engine.types import Reading, SeriesInfo, SeriesKey


class SelfSource(NoHistory):
    """What the engine says of itself, as gauges.

    figures    : series -> value; None = unknown now. Each is a series from when it was told first
    interval_s : between looks; not more often than the figures change, or they look steadier than they are

    >>> key = SeriesKey.of(SelfSource.name, "trimtab_forecast_error", {"model": "load"})
    >>> str(key)
    'trimtab_forecast_error{model="load"}'
    """

    name = "trimtab"

    def __init__(
        self, read_metrics: Callable[[], Mapping[SeriesKey, float | None]], clock: Clock, interval_s: float
    ) -> None:
        self.interval_s = interval_s
        self._read_metrics = read_metrics
        self._clock = clock
        self._keys: tuple[SeriesKey, ...] = ()

    async def open(self) -> None:
        """Nothing to connect to."""

    async def read(self) -> Reading:
        """The figures of now."""
        now, found = self._clock.now(), self._read_metrics()
        new = sorted(found.keys() - set(self._keys), key=str)
        if new:
            self._keys = (*self._keys, *new)
        told = [found.get(key) for key in self._keys]
        values = np.array([math.nan if one is None else one for one in told], np.float64)
        return Reading(now, self._keys, np.full(len(values), now, np.int64), values)

    def info(self, key: SeriesKey) -> SeriesInfo:
        """A gauge without a unit."""
        return SeriesInfo(key, kind="gauge")

    def skipped_series(self) -> Sequence[str]:
        """Nothing is."""
        return ()

    def detail(self) -> str:
        """One line about what it watches."""
        return f"{len(self._keys)} figures of Trimtab itself"

    async def close(self) -> None:
        """Nothing is held."""
