"""Ports of the clock, sources, sinks, and the current state."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from trimtab.engine.types import (
    History,
    Reading,
    SeriesInfo,
    SeriesKey,
    SeriesView,
    SourceStatus,
    TickScores,
)


class Clock(Protocol):
    """Wall clock."""

    def now(self) -> int:
        """Return the current time, int64 ns UTC."""
        ...

    async def sleep_until(self, time_ns: int) -> None:
        """Return once `now()` has reached `time_ns`."""
        ...


class Source(Protocol):
    """A source of live metric series; `interval_s` is its scrape interval in seconds."""

    name: str
    interval_s: float

    async def open(self) -> None:
        """Connect and discover series. Raises SourceError; the engine retries with backoff."""
        ...

    async def read(self) -> Reading | None:
        """Return the newest samples; None = a replayed recording has ended.

        Raises SourceError if the source did not answer; the tick is unknown then.
        """
        ...

    def history(self, now_ns: int) -> AsyncIterator[History]:
        """Yield recorded values for warm-up, coarse resolutions first."""
        ...

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Return the metadata of a series of this source."""
        ...

    def is_replacement(self, old: SeriesKey, new: SeriesKey) -> bool:
        """Return whether `new` replaces `old`: equal labels except pod, instance or id."""
        ...

    def skipped_series(self) -> Sequence[str]:
        """Return the names of series over the limit."""
        ...

    def detail(self) -> str:
        """Return one line that describes what is watched."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Sink(Protocol):
    """A destination of scored ticks."""

    name: str

    async def send(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Accept one tick; keys by slot. Never raises if the receiver is down: buffer, drop and count."""
        ...

    async def close(self) -> None:
        """Send buffered ticks within a short deadline."""
        ...


class LiveView(Protocol):
    """Read-only view of the current state, for the API. Called on the engine's event loop."""

    def series_page(
        self,
        *,
        search: str = "",
        source: str = "",
        after: str | None = None,
        limit: int = 100,
        sort: str = "score",
    ) -> tuple[list[SeriesView], int, str | None]:
        """Return a page, the total number of matches, and the cursor of the next page (None = last page).

        search : words and label=value pairs that must all match; sort : "score" or "name"
        """
        ...

    def series_by_id(self, series_id: str) -> SeriesView:
        """Return one series. Raises NotFoundError."""
        ...

    def sources(self) -> list[SourceStatus]:
        """Return the status of every configured source."""
        ...

    def readiness(self) -> tuple[bool, str]:
        """Return whether the engine has started to score, and what it waits for."""
        ...

    def problem(self) -> str:
        """Return why the engine is unhealthy, such as a failing store; "" = healthy."""
        ...

    def engine_status(self) -> dict[str, float | int | str]:
        """Return the engine's own values.

        uptime_s, memory_bytes, cpu_ratio, ticks, tick_seconds, tick_lag_s, series, anomalies_open ...
        """
        ...

    def subscribe(self) -> AsyncIterator[tuple[str, dict[str, object]]]:
        """Yield (event, data) as they happen; a slow reader loses the oldest ticks.

        "tick" {source, time, series, unusual}; "anomaly", "source", "incident", "recommendation", "action"
        and "pause" the fields of Anomaly, SourceStatus, Incident, Recommendation, Action and Pause
        (`dataclasses.asdict`). Times are int64 ns UTC; the API converts them to ISO 8601, and NaN to null.
        """
        ...
