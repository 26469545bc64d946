"""Source of Trimtab's own metrics, so that its own detectors watch them like any other series."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trimtab.engine.ports import Clock
from trimtab.engine.sources.no_history import NoHistory
from trimtab.engine.types import Reading, SeriesInfo, SeriesKey


class SelfSource(NoHistory):
    """Source of the engine's own metrics, as gauges.

    read_metrics : returns series -> value; None = unknown now. A series exists from its first value on
    interval_s   : seconds between reads; at least the interval at which the metrics change, because repeated
                   values look steadier than they are
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
        """Do nothing: there is nothing to connect to."""

    async def read(self) -> Reading:
        """Return the current metrics; NaN = unknown."""
        now, metrics = self._clock.now(), self._read_metrics()
        new = sorted(metrics.keys() - set(self._keys), key=str)
        if new:
            self._keys = (*self._keys, *new)
        current = [metrics.get(key) for key in self._keys]
        values = np.array([math.nan if value is None else value for value in current], np.float64)
        return Reading(now, self._keys, np.full(len(values), now, np.int64), values)

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Return a gauge without a unit."""
        return SeriesInfo(key, kind="gauge")

    def skipped_series(self) -> Sequence[str]:
        """Return an empty tuple: no series is skipped."""
        return ()

    def detail(self) -> str:
        """Return one line about the series it watches."""
        return f"{len(self._keys)} metrics of Trimtab itself"

    async def close(self) -> None:
        """Do nothing: the source holds no resources."""
