"""The doors between the core and the world. Fakes stand beside them in tests/fakes.py."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from trimtab.engine.types import (
    Anomaly,
    ApiKey,
    Feedback,
    History,
    Reading,
    ScoreRows,
    SeriesInfo,
    SeriesKey,
    SeriesView,
    SourceStatus,
    TickScores,
)
from trimtab.models.contracts import State


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

    def replaced(self, gone: SeriesKey, came: SeriesKey) -> bool:
        """Whether `came` took the place of `gone` (same labels but for pod, instance, id)."""
        ...

    def left_out(self) -> Sequence[str]:
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


class Store(Protocol):
    """Durable events: anomalies, feedback, keys. A write that returned survives kill -9."""

    def save_series(self, infos: Iterable[SeriesInfo]) -> None:
        """Remember series, by id; known ones are updated."""
        ...

    def save_anomaly(self, anomaly: Anomaly) -> None:
        """Insert or update by id."""
        ...

    def anomaly(self, anomaly_id: str) -> Anomaly:
        """Raises NotFoundError."""
        ...

    def anomalies(
        self,
        *,
        series_id: str | None = None,
        source: str | None = None,
        open_only: bool = False,
        since: int | None = None,
        until: int | None = None,
        min_score: float | None = None,
        direction: str | None = None,
        search: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Anomaly]:
        """Newest first by id (a ULID of the start); `after` is the last id of the page before.

        search : every word must stand in the series' Prometheus form, case ignored
        """
        ...

    def save_feedback(self, feedback: Feedback) -> None:
        """One word per anomaly and author; a later one replaces it. Raises NotFoundError."""
        ...

    def feedback(self, anomaly_id: str) -> list[Feedback]:
        """Oldest first."""
        ...

    def save_key(self, key: ApiKey) -> None:
        """Insert or update by id."""
        ...

    def keys(self) -> list[ApiKey]:
        """All, revoked and expired ones too."""
        ...

    def answered(self, idempotency_key: str, route: str) -> tuple[int, bytes] | None:
        """Status and body that this POST was answered with before, kept for a day."""
        ...

    def remember_answer(self, idempotency_key: str, route: str, status: int, body: bytes, now: int) -> None:
        """Keep the answer to a POST."""
        ...

    def healthy(self) -> str | None:
        """None, or what is wrong."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class ScoreLog(Protocol):
    """Scores by time: append a tick, read a series."""

    def append(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Keep one tick; keys by slot. Rows without a sample are not kept."""
        ...

    def read(self, series_id: str, since: int, until: int, limit: int = 100_000) -> ScoreRows:
        """Rows with since <= time < until, oldest first; empty where nothing is known."""
        ...

    def size_bytes(self) -> int:
        """What the log takes on disk."""
        ...

    def flush(self) -> None:
        """Make what was appended durable, as before a snapshot. Raises StoreError."""
        ...

    def close(self) -> None:
        """Write what is open."""
        ...


class Snapshots(Protocol):
    """State of each source's scoring, and every tick since, so that a restart goes on where it was."""

    def log_tick(self, source: str, time: int, keys: Sequence[SeriesKey], values: bytes) -> None:
        """Append one closed tick before it is scored; values are float64 by slot."""
        ...

    def ticks_since(self, source: str) -> Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]:
        """The logged ticks after the newest snapshot, oldest first."""
        ...

    def save(self, source: str, time: int, arrays: State, meta: dict[str, object]) -> None:
        """A snapshot, atomically; the ticks up to `time` may then be dropped."""
        ...

    def load(self, source: str) -> tuple[int, State, dict[str, object]] | None:
        """The newest snapshot that is whole; None = start afresh."""
        ...


class LiveView(Protocol):
    """What is true now, for the API. Only reads."""

    def series(
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

    def one(self, series_id: str) -> SeriesView:
        """Raises NotFoundError."""
        ...

    def sources(self) -> list[SourceStatus]:
        """Every configured source."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether the engine ticks, and what it is waiting for."""
        ...

    def engine(self) -> dict[str, float | int | str]:
        """How the engine itself does.

        uptime_s, memory_bytes, cpu_ratio, ticks, tick_seconds, tick_lag_s, series, anomalies_open ...
        """
        ...

    def subscribe(self) -> AsyncIterator[tuple[str, dict[str, object]]]:
        """(event, data) as they happen; a slow reader loses the oldest ticks.

        "tick" {source, time, series, unusual}, "anomaly" and "source" the fields of Anomaly and SourceStatus
        (`dataclasses.asdict`); times are int64 ns here, the API makes them ISO 8601 and NaN null.
        Asked on the engine's event loop, as all of LiveView is.
        """
        ...
