"""Time, sources, sinks, and what is true now."""

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
    """Time, injected."""

    def now(self) -> int:
        """Nanoseconds UTC."""
        ...

    async def sleep_until(self, time_ns: int) -> None:
        """Return when `now()` has reached time_ns."""
        ...


class Source(Protocol):
    """Live metric series from one place."""

    name: str
    interval_s: float

    async def open(self) -> None:
        """Connect and discover. Raises SourceError; the engine tries again with backoff."""
        ...

    async def read(self) -> Reading | None:
        """The newest samples; None = a replayed source is at its end.

        Raises SourceError where it did not answer: the tick is then unknown.
        """
        ...

    def history(self, now_ns: int) -> AsyncIterator[History]:
        """Recorded values to learn from before the first live tick, coarse ones first."""
        ...

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Unit, kind and help text of a series that it gave."""
        ...

    def is_replacement(self, old: SeriesKey, new: SeriesKey) -> bool:
        """Whether `came` took the place of `gone` (same labels but for pod, instance, id)."""
        ...

    def skipped_series(self) -> Sequence[str]:
        """Series over the cap, by name."""
        ...

    def detail(self) -> str:
        """One line about what it watches."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Sink(Protocol):
    """Where scored ticks go."""

    name: str

    async def send(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Hand over one tick; keys by slot. A receiver that is away raises nothing: buffer, drop, count."""
        ...

    async def close(self) -> None:
        """Send what is buffered, within a short deadline."""
        ...


class LiveView(Protocol):
    """What is true now, for the API. Only reads."""

    def series_page(
        self,
        *,
        search: str = "",
        source: str = "",
        after: str | None = None,
        limit: int = 100,
        sort: str = "score",
    ) -> tuple[list[SeriesView], int, str | None]:
        """A page, how many match in all, and the cursor of the next page (None = last).

        search : words and label=value pairs, all must match; sort : "score" or "name"
        """
        ...

    def series_by_id(self, series_id: str) -> SeriesView:
        """Raises NotFoundError."""
        ...

    def sources(self) -> list[SourceStatus]:
        """Every configured source."""
        ...

    def readiness(self) -> tuple[bool, str]:
        """Whether the engine ticks, and what it is waiting for."""
        ...

    def problem(self) -> str:
        """What makes the engine unfit though it may tick, as a store that fails; "" = nothing."""
        ...

    def engine_status(self) -> dict[str, float | int | str]:
        """How the engine itself does.

        uptime_s, memory_bytes, cpu_ratio, ticks, tick_seconds, tick_lag_s, series, anomalies_open ...
        """
        ...

    def subscribe(self) -> AsyncIterator[tuple[str, dict[str, object]]]:
        """(event, data) as they happen; a slow reader loses the oldest ticks.

        "tick" {source, time, series, unusual}; "anomaly", "source", "incident", "recommendation", "action"
        and "pause" the fields of Anomaly, SourceStatus, Incident, Recommendation, Action and Pause
        (`dataclasses.asdict`); times are int64 ns here, the API makes them ISO 8601 and NaN null.
        Asked on the engine's event loop, as all of LiveView is.
        """
        ...
