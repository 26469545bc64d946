"""In-memory fakes of the clock, source, sink, store, score log, snapshots and live view."""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import numpy as np

from tests.builders.series import SECOND, START
from trimtab.engine.errors import NotFoundError, SourceError, StoreError
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


class FakeClock:
    """A clock that moves only when a test advances it.

    >>> clock = FakeClock(0)
    >>> clock.tick(1.5)
    >>> clock.now()
    1500000000
    """

    def __init__(self, now: int = START) -> None:
        self.time = now
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = itertools.count()

    def now(self) -> int:
        return self.time

    async def sleep_until(self, time_ns: int) -> None:
        if time_ns <= self.time:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (time_ns, next(self._number), woken))
        await woken

    @property
    def sleepers(self) -> int:
        """Number of tasks that wait for a later time."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def tick(self, seconds: float) -> None:
        """Advance and wake the due sleepers; they run at the next await of the test."""
        self.time += round(seconds * SECOND)
        while self._sleepers and self._sleepers[0][0] <= self.time:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    async def advance(self, seconds: float, step: float | None = None) -> None:
        """Advance in steps (default: from sleeper to sleeper), and run all ready tasks after each."""
        end = self.time + round(seconds * SECOND)
        await settle()
        while self.time < end:
            due = self._sleepers[0][0] if self._sleepers else end
            target = self.time + round(step * SECOND) if step else max(due, self.time)
            self.tick((min(target, end) - self.time) / SECOND)
            await settle()


async def settle(turns: int = 20) -> None:
    """Run all ready tasks."""
    for _ in range(turns):
        await asyncio.sleep(0)


class FakeSource:
    """A source that returns or raises the items of `script`, then returns None (end of the recording)."""

    def __init__(
        self,
        name: str = "fake",
        interval_s: float = 5.0,
        script: Iterable[Reading | SourceError | None] = (),
        histories: Sequence[History] = (),
        infos: Iterable[SeriesInfo] = (),
        replaces: Callable[[SeriesKey, SeriesKey], bool] = lambda old, new: False,  # noqa: ARG005 - named as in the port
    ) -> None:
        self.name = name
        self.interval_s = interval_s
        self.script = deque(script)
        self.histories = list(histories)
        self.infos = {info.key: info for info in infos}
        self.replaces = replaces
        self.open_errors: deque[SourceError] = deque()
        self.skipped_names: list[str] = []
        self.history_requested_at: int | None = None
        self.opened = self.reads = self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        if self.open_errors:
            raise self.open_errors.popleft()

    async def read(self) -> Reading | None:
        self.reads += 1
        step = self.script.popleft() if self.script else None
        if isinstance(step, SourceError):
            raise step
        return step

    async def history(self, now_ns: int) -> AsyncIterator[History]:
        self.history_requested_at = now_ns
        for part in self.histories:
            yield part

    def info(self, key: SeriesKey) -> SeriesInfo:
        return self.infos.get(key, SeriesInfo(key))

    def is_replacement(self, old: SeriesKey, new: SeriesKey) -> bool:
        return self.replaces(old, new)

    def skipped_series(self) -> Sequence[str]:
        return self.skipped_names

    def detail(self) -> str:
        return f"{len(self.script)} readings to come"

    async def close(self) -> None:
        self.closed += 1


class FakeSink:
    """Records the ticks that it receives."""

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.sent: list[tuple[tuple[SeriesKey, ...], TickScores]] = []
        self.closed = False

    async def send(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        self.sent.append((tuple(keys), scores))

    async def close(self) -> None:
        self.closed = True


class FakeStore:
    """An in-memory store. While `broken` is set, every write raises StoreError with that message."""

    def __init__(self) -> None:
        self.infos: dict[str, SeriesInfo] = {}
        self.by_id: dict[str, Anomaly] = {}
        self.feedback_by_key: dict[tuple[str, str], Feedback] = {}
        self.api_keys: dict[str, ApiKey] = {}
        self.responses: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.responses_saved_at: dict[tuple[str, str], int] = {}
        self.broken: str | None = None
        self.closed = False

    def _raise_if_broken(self) -> None:
        if self.broken:
            raise StoreError(self.broken)

    def save_series(self, infos: Iterable[SeriesInfo]) -> None:
        self._raise_if_broken()
        self.infos.update({info.key.id: info for info in infos})

    def save_anomaly(self, anomaly: Anomaly) -> None:
        self._raise_if_broken()
        self.by_id[anomaly.id] = anomaly

    def anomaly(self, anomaly_id: str) -> Anomaly:
        if anomaly_id not in self.by_id:
            raise NotFoundError(f"there is no anomaly {anomaly_id!r}")
        return self.by_id[anomaly_id]

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
        words = (search or "").lower().split()
        found = [
            a
            for a in sorted(self.by_id.values(), key=lambda a: a.id, reverse=True)
            if (series_id is None or a.series_id == series_id)
            and (source is None or a.source == source)
            and (not open_only or a.end is None)
            and (since is None or a.end is None or a.end >= since)
            and (until is None or a.start < until)
            and (min_score is None or a.score >= min_score)
            and (direction is None or a.direction == direction)
            and all(word in a.series.lower() for word in words)
            and (after is None or a.id < after)
        ]
        return found[:limit]

    def save_feedback(self, feedback: Feedback) -> None:
        self._raise_if_broken()
        self.anomaly(feedback.anomaly_id)
        self.feedback_by_key[feedback.anomaly_id, feedback.author] = feedback

    def feedback(self, anomaly_id: str) -> list[Feedback]:
        found = (f for f in self.feedback_by_key.values() if f.anomaly_id == anomaly_id)
        return sorted(found, key=lambda f: f.time)

    def save_key(self, key: ApiKey) -> None:
        self._raise_if_broken()
        self.api_keys[key.id] = key

    def keys(self) -> list[ApiKey]:
        return list(self.api_keys.values())

    def stored_response(self, idempotency_key: str, route: str) -> tuple[int, bytes] | None:
        return self.responses.get((idempotency_key, route))

    def save_response(self, idempotency_key: str, route: str, status: int, body: bytes, now: int) -> None:
        self._raise_if_broken()
        self.responses[idempotency_key, route] = (status, body)
        self.responses_saved_at[idempotency_key, route] = now

    def delete_ended(self, before: int, limit: int) -> int:
        old = [a.id for a in self.by_id.values() if a.end is not None and a.end < before][:limit]
        self.by_id = {a.id: a for a in self.by_id.values() if a.id not in old}
        return len(old)

    def delete_keys(self, prefixes: Sequence[str], ended_before: int, limit: int) -> int:  # noqa: ARG002 - as the port
        return 0  # covered by the contract of the event store

    def health_problem(self) -> str | None:
        return self.broken

    def close(self) -> None:
        self.closed = True


class FakeScoreLog:
    """Scores in memory, by series."""

    COLUMNS = ("values", "anomaly_score", "yhat", "yhat_lower", "yhat_upper")

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[float, ...]]] = {}
        self.closed = False

    def append(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        columns = [getattr(scores, name) for name in self.COLUMNS]
        for slot, key in enumerate(keys):
            if not np.isnan(scores.values[slot]):
                row = (scores.time, *(float(column[slot]) for column in columns))
                self.rows.setdefault(key.id, []).append(row)

    def read(self, series_id: str, since: int, until: int, limit: int = 100_000) -> ScoreRows:
        found = [row for row in self.rows.get(series_id, []) if since <= row[0] < until][:limit]
        times = np.array([row[0] for row in found], np.int64)
        rest = np.array([row[1:] for row in found], np.float64).reshape(len(found), 5)
        return ScoreRows(times, *(rest[:, i].copy() for i in range(5)))

    def size_bytes(self) -> int:
        return 48 * sum(map(len, self.rows.values()))

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def close(self) -> None:
        self.closed = True


class FakeSnapshots:
    """In-memory tick log, and the newest snapshot of each source."""

    def __init__(self) -> None:
        self.ticks: dict[str, list[tuple[int, tuple[SeriesKey, ...], bytes]]] = {}
        self.newest: dict[str, tuple[int, State, dict[str, object]]] = {}

    def log_tick(self, source: str, time: int, keys: Sequence[SeriesKey], values: bytes) -> None:
        self.ticks.setdefault(source, []).append((time, tuple(keys), values))

    def ticks_since(self, source: str) -> Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]:
        newest = self.newest.get(source)
        return [t for t in self.ticks.get(source, []) if newest is None or t[0] > newest[0]]

    def ticks_until(self, source: str) -> Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]:
        return [t for t in self.ticks.get(source, []) if t[0] <= self.newest[source][0]]

    def save(self, source, time, arrays, meta, keep_from=None) -> None:  # noqa: ARG002 - all ticks are kept
        self.newest[source] = (time, {k: v.copy() for k, v in arrays.items()}, dict(meta))

    def load(self, source: str) -> tuple[int, State, dict[str, object]] | None:
        return self.newest.get(source)


class FakeSubscription:
    """A subscription to a FakeLiveView; keeps the newest 100 events."""

    def __init__(self, ended: Callable[["FakeSubscription"], None]) -> None:
        self.events: deque[tuple[str, dict[str, object]]] = deque(maxlen=100)
        self.arrived = asyncio.Event()
        self.is_over = False
        self._ended = ended

    def __aiter__(self) -> "FakeSubscription":
        return self

    async def __anext__(self) -> tuple[str, dict[str, object]]:
        while not self.events:
            if self.is_over:
                raise StopAsyncIteration
            self.arrived.clear()
            await self.arrived.wait()
        return self.events.popleft()

    async def aclose(self) -> None:
        self._ended(self)


class FakeLiveView:
    """A live view whose state the test sets."""

    def __init__(self, views: Iterable[SeriesView] = (), sources: Iterable[SourceStatus] = ()) -> None:
        self.views = {view.id: view for view in views}
        self.statuses = list(sources)
        self.readiness_state: tuple[bool, str] = (True, "")
        self.problem_text = ""
        self.engine_values: dict[str, float | int | str] = {"uptime_s": 1.0, "ticks": 1}
        self.readers: list[FakeSubscription] = []

    def series_page(
        self,
        *,
        search: str = "",
        source: str = "",
        after: str | None = None,
        limit: int = 100,
        sort: str = "score",
    ) -> tuple[list[SeriesView], int, str | None]:
        words = search.lower().split()
        found = [
            view
            for view in self.views.values()
            if (not source or view.source == source) and all(word in view.series.lower() for word in words)
        ]
        score = (lambda v: (-(v.anomaly_score or 0.0), v.series)) if sort == "score" else (lambda v: v.series)
        found.sort(key=score)
        first = next((i + 1 for i, view in enumerate(found) if view.id == after), 0)
        page = found[first : first + limit]
        more = first + limit < len(found)
        return page, len(found), page[-1].id if more else None

    def series_by_id(self, series_id: str) -> SeriesView:
        if series_id not in self.views:
            raise NotFoundError(f"there is no series {series_id!r}")
        return self.views[series_id]

    def sources(self) -> list[SourceStatus]:
        return self.statuses

    def readiness(self) -> tuple[bool, str]:
        return self.readiness_state

    def problem(self) -> str:
        return self.problem_text

    def engine_status(self) -> dict[str, float | int | str]:
        return self.engine_values

    def subscribe(self) -> FakeSubscription:
        reader = FakeSubscription(self.readers.remove)
        self.readers.append(reader)
        return reader

    def publish(self, event: str, data: dict[str, object]) -> None:
        """Publish an event to every subscription."""
        for reader in self.readers:
            reader.events.append((event, data))
            reader.arrived.set()

    def end(self) -> None:
        """End every subscription, as a stopping engine does."""
        for reader in self.readers:
            reader.is_over = True
            reader.arrived.set()
