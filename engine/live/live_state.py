"""What is true now: the newest tick of every source, for the API and its event stream."""

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

from trimtab.engine.detection.tick_result import Sensed
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
"""Events that wait for a slow reader; then it loses the oldest ticks."""
Event = tuple[str, dict[str, object]]


class Subscription:
    """The events for one reader, from now on. Ends when the engine stops."""

    def __init__(
        self, on_close: Callable[["Subscription"], None], max_events: int = MAX_QUEUED_EVENTS
    ) -> None:
        self._on_close = on_close
        self._max_events = max_events
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._is_ended = False
        self.dropped_count = 0
        """Events that it was too slow for."""

    def put(self, event: Event) -> None:
        """Hand an event over; where too many wait the oldest tick goes, or else the oldest of all."""
        if len(self._events) >= self._max_events:
            ticks = (i for i, (name, _) in enumerate(self._events) if name == "tick")
            del self._events[next(ticks, 0)]
            self.dropped_count += 1
        self._events.append(event)
        self._arrived.set()

    def end(self) -> None:
        """No more events; what waits is still read."""
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
        """The reader leaves."""
        self._on_close(self)


class LiveState:
    """The port LiveView; the loops tell it what happens, on the event loop.

    >>> live = Live()
    >>> live.ready()
    (False, 'the engine to start')
    """

    def __init__(self) -> None:
        self.find_stored_series: Callable[[str], SeriesInfo] | None = None
        """A series that was ever seen, by id; raises NotFoundError."""
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
        """A page, how many match in all, and the cursor of the next page (None = last).

        search : words and label=value pairs, all must match; sort : "score" or "name"
        Raises InputError for another order or a cursor that is none.
        """
        if sort not in {"score", "name"}:
            raise InputError(f"sort is {sort!r}; write score or name")
        boards = [board for name, board in sorted(self._snapshots.items()) if source in {"", name}]
        rows = _MatchingRows.search(boards, search, by_score=sort == "score")
        first = 0 if after is None else rows.index_after(_read_cursor(after))
        page = rows.order[first : first + limit]
        views = [boards[rows.snapshot_index[row]].series_view(int(rows.slot[row])) for row in page]
        more = len(page) > 0 and first + limit < len(rows.order)
        return views, len(rows.order), rows.cursor(int(page[-1])) if more else None

    def series_by_id(self, series_id: str) -> SeriesView:
        """A series by id; of one that left, what is remembered. Raises NotFoundError."""
        for board in self._snapshots.values():
            slot = board.slot_of(series_id)
            if slot is not None:
                return board.series_view(slot)
        if self.find_stored_series is not None:
            return _unwatched_view(self.find_stored_series(series_id))
        raise NotFoundError(f"there is no series {series_id!r} now; GET /api/series lists those there are")

    def watched_series(self, series_id: str) -> SeriesView | None:
        """A series that is watched now; None = it is not, though it may be remembered. Asks no store."""
        for board in list(self._snapshots.values()):
            slot = board.slot_of(series_id)
            if slot is not None and board.shown[slot]:
                return board.series_view(slot)
        return None

    def all_watched_series(self) -> Iterator[SeriesInfo]:
        """Every series that is watched now; may be called in a thread."""
        for board in list(self._snapshots.values()):
            keys, shown = board.keys, board.shown
            yield from (board.series_info(key) for key, there in zip(keys, shown, strict=False) if there)

    def sources(self) -> list[SourceStatus]:
        """Every configured source, by name."""
        return [self._statuses[name] for name in sorted(self._statuses)]

    def readiness(self) -> tuple[bool, str]:
        """Whether the engine ticks, and what it is waiting for."""
        return not self._is_starting, self._waiting_for

    def problem(self) -> str:
        """What makes the engine unfit though it may tick, "" = nothing."""
        return self._problem

    def engine_status(self) -> dict[str, float | int | str]:
        """How the engine itself does."""
        boards = self._snapshots.values()
        counts = {
            "series": sum(board.series_count for board in boards),
            "scored": sum(board.scored_count for board in boards),
            "learning": sum(board.learning_count for board in boards),
            "unusual": sum(board.unusual_count for board in boards),
            "anomalies_open": sum(len(board.open_ids) for board in boards),
        }
        return {**counts, **self._engine_values}

    def subscribe(self) -> Subscription:
        """(event, data) as they happen."""
        reader = Subscription(self._subscriptions.discard)
        self._subscriptions.add(reader)
        return reader

    def source_counts(self, source: str) -> tuple[int, int, int, int]:
        """Series, learning, unusual and open anomalies of a source."""
        board = self._snapshots.get(source)
        return (0, 0, 0, 0) if board is None else (
            board.series_count, board.learning_count, board.unusual_count, len(board.open_ids)
        )  # fmt: skip

    def unusual_series(self) -> Iterator[SeriesView]:
        """The series whose score is above 1 now."""
        for board in self._snapshots.values():
            for slot in np.flatnonzero(board.shown & (board.scores.anomaly_score > 1.0)).tolist():
                yield board.series_view(slot)

    def publish_tick(
        self,
        sensed: Sensed,
        interval_s: float,
        names: tuple[str, ...],
        info: Callable[[SeriesKey], SeriesInfo],
    ) -> None:
        """A tick was sensed."""
        source = sensed.scores.source
        board = self._snapshots.get(source)
        if board is None or not board.can_continue(sensed, interval_s, names, info):
            board = self._snapshots[source] = LiveSnapshot(sensed, interval_s, names, info)
        else:
            board.update(sensed)
        for anomaly in sensed.anomalies:
            self.publish_anomaly(anomaly)
        if sensed.certain:
            tick = {
                "source": source,
                "time": sensed.scores.time,
                "series": board.series_count,
                "unusual": board.unusual_count,
            }
            self._publish("tick", tick)

    def open_anomaly_ids(self) -> set[str]:
        """Ids of all that are open now."""
        return {opened for board in self._snapshots.values() for opened in board.open_ids.values()}

    def publish(self, event: str, noun: object) -> None:
        """An incident, recommendation, action or the pause came or changed; noun is its dataclass."""
        self._publish(event, _event_data(noun))

    def publish_anomaly(self, anomaly: Anomaly) -> None:
        """An anomaly opened, changed or closed."""
        self._publish("anomaly", {**asdict(anomaly), "direction": str(anomaly.direction)})

    def set_source_status(self, status: SourceStatus) -> None:
        """A source is in this state now."""
        before = self._statuses.get(status.name)
        self._statuses[status.name] = status
        told = {"series", "left_out"}
        if before is None or any(v for k, v in _changed_fields(before, status).items() if k not in told):
            self._publish("source", {**asdict(status), "state": str(status.state)})

    def update_source_status(self, name: str, **changed: object) -> None:
        """As `tell_source`, with some fields of what is known."""
        self.set_source_status(replace(self._statuses[name], **changed))  # type: ignore[arg-type]  # fields of SourceStatus

    def source_status(self, name: str) -> SourceStatus:
        """A source, as it is known now."""
        return self._statuses[name]

    def remove_source(self, source: str) -> None:
        """A source is watched no more."""
        self._snapshots.pop(source, None)
        status = self._statuses.pop(source, None)
        if status is not None:
            gone = replace(status, state=SourceState.UNKNOWN, series=0, detail="no longer configured")
            self._publish("source", {**asdict(gone), "state": str(gone.state)})

    def set_waiting_for(self, what: str) -> None:
        """What the engine is waiting for; "" = it is ready, and stays so."""
        self._waiting_for = what
        self._is_starting = self._is_starting and bool(what)

    def set_problem(self, trouble: str) -> None:
        """What makes the engine unfit now; "" = nothing."""
        self._problem = trouble

    def set_engine_values(self, **numbers: float | str) -> None:
        """Figures of the engine itself."""
        self._engine_values |= numbers

    def end_subscriptions(self) -> None:
        """End every subscription: the engine stops."""
        for reader in list(self._subscriptions):
            reader.end()

    def _publish(self, event: str, data: dict[str, object]) -> None:
        for reader in list(self._subscriptions):
            reader.put((event, data))


def _event_data(noun: object) -> dict[str, object]:
    """The fields of a dataclass, as JSON knows them but for times."""
    if not is_dataclass(noun) or isinstance(noun, type):
        raise TypeError(f"{noun!r:.80} is no noun")
    return asdict(noun)


def _unwatched_view(info: SeriesInfo) -> SeriesView:
    """A series that is not watched now: its anomalies and scores may still be looked at."""
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
    """Series that match, over all sources; `order` sorts them by height, then source, then name."""

    snapshots: list[LiveSnapshot]
    snapshot_index: Ints
    slot: Ints
    sort_key: Floats
    rank: Ints
    order: Ints

    @classmethod
    def search(cls, boards: list[LiveSnapshot], search: str, *, by_score: bool) -> "_MatchingRows":
        found = [board.matching_slots(search) for board in boards]
        numbers = [np.full(len(slots), i) for i, slots in enumerate(found)]
        scores = [board.scores.anomaly_score[slots] for board, slots in zip(boards, found, strict=True)]
        ranks = [board.ranks[slots] for board, slots in zip(boards, found, strict=True)]
        none = np.empty(0, np.int64)
        board, slot, rank = (np.concatenate([none, *parts]) for parts in (numbers, found, ranks))
        score = np.concatenate([np.empty(0), *scores])
        height = np.where(np.isnan(score), np.inf, -score) if by_score else np.zeros(len(slot))
        return cls(boards, board, slot, height, rank, np.lexsort((rank, board, height)))

    def cursor(self, row: int) -> str:
        board = self.snapshots[self.snapshot_index[row]]
        place = [str(float(self.sort_key[row])), board.source, board.names[self.slot[row]]]
        return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")

    def index_after(self, place: tuple[float, str, str]) -> int:
        """How many rows stand at this place or before it."""
        height, source, name = place
        sources = [board.source for board in self.snapshots]
        number = bisect_left(sources, source)
        known = number < len(sources) and sources[number] == source
        rank = self.snapshots[number].rank_after(name) if known else 0
        later = (self.snapshot_index > number) | ((self.snapshot_index == number) & (self.rank >= rank))
        behind = (self.sort_key > height) | ((self.sort_key == height) & later)
        return len(self.order) - int(behind.sum())


@lru_cache(64)
def _read_cursor(cursor: str) -> tuple[float, str, str]:
    try:
        height, source, name = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(height), str(source), str(name)
    except (ValueError, TypeError, binascii.Error):
        raise InputError(
            f"after is {cursor[:40]!r}, which is no cursor; take `next` of the page before"
        ) from None
