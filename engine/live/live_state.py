"""Current state of all sources: answers the API's queries and publishes live events."""

import asyncio
import base64
import binascii
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import lru_cache

import numpy as np
import orjson

from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.errors import InputError, NotFoundError
from trimtab.engine.live.live_snapshot import LiveSnapshot
from trimtab.engine.types import (
    Anomaly,
    Floats,
    Ints,
    SeriesInfo,
    SeriesKey,
    SeriesView,
    SourceState,
    SourceStatus,
)  # fmt: skip

MAX_QUEUED_EVENTS = 200
"""Events queued for a slow subscriber; beyond that it loses the oldest ticks."""
Event = tuple[str, dict[str, object]]


class Subscription:
    """Async iterator of events from now on; ends when the engine stops.

    on_close   : called with the subscription when its reader closes it
    max_events : most events queued
    """

    def __init__(
        self, on_close: Callable[["Subscription"], None], max_events: int = MAX_QUEUED_EVENTS
    ) -> None:
        self._on_close = on_close
        self._max_events = max_events
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._is_ended = False
        self.dropped_count = 0
        """Number of events dropped because the subscriber was too slow."""

    def put(self, event: Event) -> None:
        """Queue an event. If the queue is full, drop the oldest tick, or else the oldest event."""
        if len(self._events) >= self._max_events:
            ticks = (i for i, (name, _) in enumerate(self._events) if name == "tick")
            del self._events[next(ticks, 0)]
            self.dropped_count += 1
        self._events.append(event)
        self._arrived.set()

    def end(self) -> None:
        """End the iteration after the queued events."""
        self._is_ended = True
        self._arrived.set()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._is_ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    async def aclose(self) -> None:
        """Cancel the subscription."""
        self._on_close(self)


class LiveState:
    """The port LiveView. The source loops write to it, on the event loop.

    >>> live = LiveState()
    >>> live.readiness()
    (False, 'the engine to start')
    """

    def __init__(self) -> None:
        self.find_stored_series: Callable[[str], SeriesInfo] | None = None
        """Returns a series that was ever stored, by id; raises NotFoundError. None = there is no store."""
        self._snapshots: dict[str, LiveSnapshot] = {}
        self._statuses: dict[str, SourceStatus] = {}
        self._engine_values: dict[str, float | int | str] = {}
        self._subscriptions: set[Subscription] = set()
        self._waiting_for = "the engine to start"
        self._is_starting = True
        self._problem = ""

    def series_page(
        self,
        *,
        search: str = "",
        source: str = "",
        after: str | None = None,
        limit: int = 100,
        sort: str = "score",
    ) -> tuple[list[SeriesView], int, str | None]:
        """Return a page of series, the number of matches, and the cursor of the next page (None = last page).

        search : words and label=value pairs, all must match
        source : name of a source; "" = all
        after  : cursor of the page before
        sort   : "score" (highest first) or "name"

        Raises InputError for an unknown order or an invalid cursor.
        """
        if sort not in {"score", "name"}:
            raise InputError(f"sort is {sort!r}; use score or name")
        snapshots = [snapshot for name, snapshot in sorted(self._snapshots.items()) if source in {"", name}]
        rows = _MatchingRows.search(snapshots, search, by_score=sort == "score")
        start = 0 if after is None else rows.index_after(_read_cursor(after))
        page = rows.order[start : start + limit]
        views = [snapshots[rows.snapshot_index[row]].series_view(int(rows.slot[row])) for row in page]
        more = len(page) > 0 and start + limit < len(rows.order)
        return views, len(rows.order), rows.cursor(int(page[-1])) if more else None

    def series_by_id(self, series_id: str) -> SeriesView:
        """Return a series by id; one that is no longer watched comes without values. Raises NotFoundError."""
        for snapshot in self._snapshots.values():
            slot = snapshot.slot_of(series_id)
            if slot is not None:
                return snapshot.series_view(slot)
        if self.find_stored_series is not None:
            return _unwatched_view(self.find_stored_series(series_id))
        raise NotFoundError(f"there is no series {series_id!r}; GET /api/series lists all series")

    def watched_series(self, series_id: str) -> SeriesView | None:
        """Return a series that is watched now, else None. Does not query the store."""
        for snapshot in list(self._snapshots.values()):
            slot = snapshot.slot_of(series_id)
            if slot is not None and snapshot.visible[slot]:
                return snapshot.series_view(slot)
        return None

    def all_watched_series(self) -> Iterator[SeriesInfo]:
        """Yield every series that is watched now. Safe to call in a thread."""
        for snapshot in list(self._snapshots.values()):
            keys, visible = snapshot.keys, snapshot.visible
            yield from (
                snapshot.series_info(key)
                for key, is_visible in zip(keys, visible, strict=False)
                if is_visible
            )

    def sources(self) -> list[SourceStatus]:
        """Return the status of every configured source, by name."""
        return [self._statuses[name] for name in sorted(self._statuses)]

    def readiness(self) -> tuple[bool, str]:
        """Return whether the engine ticks, and what it waits for ("" = nothing)."""
        return not self._is_starting, self._waiting_for

    def problem(self) -> str:
        """Return why the engine is unhealthy although it may tick; "" = healthy."""
        return self._problem

    def engine_status(self) -> dict[str, float | int | str]:
        """Return the engine's own metrics and the numbers of series and open anomalies."""
        snapshots = self._snapshots.values()
        counts = {
            "series": sum(snapshot.series_count for snapshot in snapshots),
            "scored": sum(snapshot.scored_count for snapshot in snapshots),
            "learning": sum(snapshot.learning_count for snapshot in snapshots),
            "unusual": sum(snapshot.unusual_count for snapshot in snapshots),
            "anomalies_open": sum(len(snapshot.open_ids) for snapshot in snapshots),
        }
        return {**counts, **self._engine_values}

    def subscribe(self) -> Subscription:
        """Return a subscription to (event, data) pairs from now on."""
        subscription = Subscription(self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    def source_counts(self, source: str) -> tuple[int, int, int, int]:
        """Return the numbers of shown, learning and unusual series and of open anomalies of a source."""
        snapshot = self._snapshots.get(source)
        return (0, 0, 0, 0) if snapshot is None else (
            snapshot.series_count, snapshot.learning_count, snapshot.unusual_count, len(snapshot.open_ids)
        )  # fmt: skip

    def unusual_series(self) -> Iterator[SeriesView]:
        """Yield the series whose anomaly score is above 1 now."""
        for snapshot in self._snapshots.values():
            for slot in np.flatnonzero(snapshot.visible & (snapshot.scores.anomaly_score > 1.0)).tolist():
                yield snapshot.series_view(slot)

    def publish_tick(
        self,
        tick: TickResult,
        interval_s: float,
        names: tuple[str, ...],
        info: Callable[[SeriesKey], SeriesInfo],
    ) -> None:
        """Store a processed tick and publish its events.

        interval_s : seconds between ticks of the source
        names      : names of the detectors, by index in the scores
        info       : returns unit, kind and help text of a series
        """
        source = tick.scores.source
        snapshot = self._snapshots.get(source)
        if snapshot is None or not snapshot.can_continue(tick, interval_s, names, info):
            snapshot = self._snapshots[source] = LiveSnapshot(tick, interval_s, names, info)
        else:
            snapshot.update(tick)
        for anomaly in tick.anomalies:
            self.publish_anomaly(anomaly)
        if tick.complete:
            event = {
                "source": source,
                "time": tick.scores.time,
                "series": snapshot.series_count,
                "unusual": snapshot.unusual_count,
            }
            self._publish("tick", event)

    def open_anomaly_ids(self) -> set[str]:
        """Return the ids of all open anomalies."""
        return {opened for snapshot in self._snapshots.values() for opened in snapshot.open_ids.values()}

    def publish(self, event: str, record: object) -> None:
        """Publish a new or changed incident, recommendation, action or pause, given as its dataclass."""
        self._publish(event, _event_data(record))

    def publish_anomaly(self, anomaly: Anomaly) -> None:
        """Publish an anomaly that opened, changed or closed."""
        self._publish("anomaly", {**asdict(anomaly), "direction": str(anomaly.direction)})

    def set_source_status(self, status: SourceStatus) -> None:
        """Set the status of a source; publish it if more than its series counts changed."""
        before = self._statuses.get(status.name)
        self._statuses[status.name] = status
        count_fields = {"series", "left_out"}
        if before is None or any(
            v for k, v in _changed_fields(before, status).items() if k not in count_fields
        ):
            self._publish("source", {**asdict(status), "state": str(status.state)})

    def update_source_status(self, name: str, **changed: object) -> None:
        """Set some fields of a source's status; see `set_source_status`."""
        self.set_source_status(replace(self._statuses[name], **changed))  # type: ignore[arg-type]  # fields of SourceStatus

    def source_status(self, name: str) -> SourceStatus:
        """Return the status of a source."""
        return self._statuses[name]

    def remove_source(self, source: str) -> None:
        """Remove a source that is no longer configured, and publish that."""
        self._snapshots.pop(source, None)
        status = self._statuses.pop(source, None)
        if status is not None:
            removed = replace(status, state=SourceState.UNKNOWN, series=0, detail="no longer configured")
            self._publish("source", {**asdict(removed), "state": str(removed.state)})

    def set_waiting_for(self, what: str) -> None:
        """Set what the engine waits for; "" = it is ready, and stays ready."""
        self._waiting_for = what
        self._is_starting = self._is_starting and bool(what)

    def set_problem(self, trouble: str) -> None:
        """Set why the engine is unhealthy; "" = healthy."""
        self._problem = trouble

    def set_engine_values(self, **values: float | str) -> None:
        """Set some of the engine's own metrics."""
        self._engine_values |= values

    def end_subscriptions(self) -> None:
        """End every subscription: the engine stops."""
        for subscription in list(self._subscriptions):
            subscription.end()

    def _publish(self, event: str, data: dict[str, object]) -> None:
        for subscription in list(self._subscriptions):
            subscription.put((event, data))


def _event_data(record: object) -> dict[str, object]:
    """Return the fields of a dataclass as JSON values, except for times."""
    if not is_dataclass(record) or isinstance(record, type):
        raise TypeError(f"{record!r:.80} is no dataclass instance")
    return asdict(record)


def _unwatched_view(info: SeriesInfo) -> SeriesView:
    """Return the view of a series that is no longer watched: its anomalies and scores remain readable."""
    key = info.key
    return SeriesView(
        id=key.id, series=str(key), source=key.source, metric=key.metric, labels=dict(key.labels),
        unit=info.unit, kind=info.kind, time=None, value=None, anomaly_score=None, yhat=None, yhat_lower=None,
        yhat_upper=None, learning_s=0.0, anomaly_id=None,
    )  # fmt: skip


def _changed_fields(before: SourceStatus, after: SourceStatus) -> dict[str, bool]:
    old, new = asdict(before), asdict(after)
    return {name: old[name] != new[name] for name in old}


@dataclass(frozen=True, slots=True)
class _MatchingRows:
    """Series of all sources that match a search; `order` sorts them by sort key, then source, then name.

    snapshots      : snapshots that were searched
    snapshot_index : (n,) snapshot of each row
    slot           : (n,) slot of each row
    sort_key       : (n,) negated score, inf = no score; 0 when sorted by name
    rank           : (n,) position of the name within the snapshot
    order          : (n,) rows in order
    """

    snapshots: list[LiveSnapshot]
    snapshot_index: Ints
    slot: Ints
    sort_key: Floats
    rank: Ints
    order: Ints

    @classmethod
    def search(cls, snapshots: list[LiveSnapshot], search: str, *, by_score: bool) -> "_MatchingRows":
        """Search the snapshots for all words and label=value pairs."""
        found = [snapshot.matching_slots(search) for snapshot in snapshots]
        pairs = list(zip(snapshots, found, strict=True))
        indexes = [np.full(len(slots), i) for i, slots in enumerate(found)]
        scores = [snapshot.scores.anomaly_score[slots] for snapshot, slots in pairs]
        ranks = [snapshot.ranks[slots] for snapshot, slots in pairs]
        none = np.empty(0, np.int64)
        index, slot, rank = (np.concatenate([none, *parts]) for parts in (indexes, found, ranks))
        score = np.concatenate([np.empty(0), *scores])
        sort_key = np.where(np.isnan(score), np.inf, -score) if by_score else np.zeros(len(slot))
        return cls(snapshots, index, slot, sort_key, rank, np.lexsort((rank, index, sort_key)))

    def cursor(self, row: int) -> str:
        """Return the cursor of the page after this row."""
        snapshot = self.snapshots[self.snapshot_index[row]]
        position = [str(float(self.sort_key[row])), snapshot.source, snapshot.names[self.slot[row]]]
        return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")

    def index_after(self, position: tuple[float, str, str]) -> int:
        """Return the index in `order` of the first row after a cursor."""
        sort_key, source, name = position
        sources = [snapshot.source for snapshot in self.snapshots]
        number = bisect_left(sources, source)
        is_known = number < len(sources) and sources[number] == source
        rank = self.snapshots[number].rank_after(name) if is_known else 0
        later = (self.snapshot_index > number) | ((self.snapshot_index == number) & (self.rank >= rank))
        after_cursor = (self.sort_key > sort_key) | ((self.sort_key == sort_key) & later)
        return len(self.order) - int(after_cursor.sum())


@lru_cache(64)
def _read_cursor(cursor: str) -> tuple[float, str, str]:
    try:
        sort_key, source, name = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(sort_key), str(source), str(name)
    except (ValueError, TypeError, binascii.Error):
        raise InputError(
            f"after is {cursor[:40]!r}, which is no cursor; use `next` of the previous page"
        ) from None
