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
from trimtab.engine.live.live_snapshot import Board
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

QUEUE = 200
"""Events that wait for a slow reader; then it loses the oldest ticks."""
Event = tuple[str, dict[str, object]]


class Subscription:
    """The events for one reader, from now on. Ends when the engine stops."""

    def __init__(self, left: Callable[["Subscription"], None], most: int = QUEUE) -> None:
        self._left = left
        self._most = most
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._over = False
        self.lost = 0
        """Events that it was too slow for."""

    def put(self, event: Event) -> None:
        """Hand an event over; where too many wait the oldest tick goes, or else the oldest of all."""
        if len(self._events) >= self._most:
            ticks = (i for i, (name, _) in enumerate(self._events) if name == "tick")
            del self._events[next(ticks, 0)]
            self.lost += 1
        self._events.append(event)
        self._arrived.set()

    def end(self) -> None:
        """No more events; what waits is still read."""
        self._over = True
        self._arrived.set()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._over:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    async def aclose(self) -> None:
        """The reader leaves."""
        self._left(self)


class Live:
    """The port LiveView; the loops tell it what happens, on the event loop.

    >>> live = Live()
    >>> live.ready()
    (False, 'the engine to start')
    """

    def __init__(self) -> None:
        self.remembered: Callable[[str], SeriesInfo] | None = None
        """A series that was ever seen, by id; raises NotFoundError."""
        self._boards: dict[str, Board] = {}
        self._statuses: dict[str, SourceStatus] = {}
        self._numbers: dict[str, float | int | str] = {}
        self._readers: set[Subscription] = set()
        self._waiting_for = "the engine to start"
        self._starting = True
        self._trouble = ""

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
        Raises InputError for another order or a cursor that is none.
        """
        if sort not in {"score", "name"}:
            raise InputError(f"sort is {sort!r}; write score or name")
        boards = [board for name, board in sorted(self._boards.items()) if source in {"", name}]
        rows = _Rows.of(boards, search, by_score=sort == "score")
        first = 0 if after is None else rows.behind(_read_cursor(after))
        page = rows.order[first : first + limit]
        views = [boards[rows.board[row]].view(int(rows.slot[row])) for row in page]
        more = len(page) > 0 and first + limit < len(rows.order)
        return views, len(rows.order), rows.cursor(int(page[-1])) if more else None

    def one(self, series_id: str) -> SeriesView:
        """A series by id; of one that left, what is remembered. Raises NotFoundError."""
        for board in self._boards.values():
            slot = board.slot(series_id)
            if slot is not None:
                return board.view(slot)
        if self.remembered is not None:
            return _gone(self.remembered(series_id))
        raise NotFoundError(f"there is no series {series_id!r} now; GET /api/series lists those there are")

    def here(self, series_id: str) -> SeriesView | None:
        """A series that is watched now; None = it is not, though it may be remembered. Asks no store."""
        for board in list(self._boards.values()):
            slot = board.slot(series_id)
            if slot is not None and board.shown[slot]:
                return board.view(slot)
        return None

    def watched(self) -> Iterator[SeriesInfo]:
        """Every series that is watched now; may be called in a thread."""
        for board in list(self._boards.values()):
            keys, shown = board.keys, board.shown
            yield from (board.info(key) for key, there in zip(keys, shown, strict=False) if there)

    def sources(self) -> list[SourceStatus]:
        """Every configured source, by name."""
        return [self._statuses[name] for name in sorted(self._statuses)]

    def ready(self) -> tuple[bool, str]:
        """Whether the engine ticks, and what it is waiting for."""
        return not self._starting, self._waiting_for

    def trouble(self) -> str:
        """What makes the engine unfit though it may tick, "" = nothing."""
        return self._trouble

    def engine(self) -> dict[str, float | int | str]:
        """How the engine itself does."""
        boards = self._boards.values()
        counts = {
            "series": sum(board.count for board in boards),
            "scored": sum(board.scored for board in boards),
            "learning": sum(board.learning for board in boards),
            "unusual": sum(board.unusual for board in boards),
            "anomalies_open": sum(len(board.open_ids) for board in boards),
        }
        return {**counts, **self._numbers}

    def subscribe(self) -> Subscription:
        """(event, data) as they happen."""
        reader = Subscription(self._readers.discard)
        self._readers.add(reader)
        return reader

    def counts(self, source: str) -> tuple[int, int, int, int]:
        """Series, learning, unusual and open anomalies of a source."""
        board = self._boards.get(source)
        return (0, 0, 0, 0) if board is None else (
            board.count, board.learning, board.unusual, len(board.open_ids)
        )  # fmt: skip

    def unusual(self) -> Iterator[SeriesView]:
        """The series whose score is above 1 now."""
        for board in self._boards.values():
            for slot in np.flatnonzero(board.shown & (board.scores.anomaly_score > 1.0)).tolist():
                yield board.view(slot)

    def tell_sensed(
        self,
        sensed: Sensed,
        interval_s: float,
        names: tuple[str, ...],
        info: Callable[[SeriesKey], SeriesInfo],
    ) -> None:
        """A tick was sensed."""
        source = sensed.scores.source
        board = self._boards.get(source)
        if board is None or not board.goes_on(sensed, interval_s, names, info):
            board = self._boards[source] = Board(sensed, interval_s, names, info)
        else:
            board.take(sensed)
        for anomaly in sensed.anomalies:
            self.tell_anomaly(anomaly)
        if sensed.certain:
            tick = {
                "source": source,
                "time": sensed.scores.time,
                "series": board.count,
                "unusual": board.unusual,
            }
            self._publish("tick", tick)

    def open_anomalies(self) -> set[str]:
        """Ids of all that are open now."""
        return {opened for board in self._boards.values() for opened in board.open_ids.values()}

    def tell(self, event: str, noun: object) -> None:
        """An incident, recommendation, action or the pause came or changed; noun is its dataclass."""
        self._publish(event, _plain(noun))

    def tell_anomaly(self, anomaly: Anomaly) -> None:
        """An anomaly opened, changed or closed."""
        self._publish("anomaly", {**asdict(anomaly), "direction": str(anomaly.direction)})

    def tell_source(self, status: SourceStatus) -> None:
        """A source is in this state now."""
        before = self._statuses.get(status.name)
        self._statuses[status.name] = status
        told = {"series", "left_out"}
        if before is None or any(v for k, v in _differences(before, status).items() if k not in told):
            self._publish("source", {**asdict(status), "state": str(status.state)})

    def change_source(self, name: str, **changed: object) -> None:
        """As `tell_source`, with some fields of what is known."""
        self.tell_source(replace(self._statuses[name], **changed))  # type: ignore[arg-type]  # fields of SourceStatus

    def status(self, name: str) -> SourceStatus:
        """A source, as it is known now."""
        return self._statuses[name]

    def remove(self, source: str) -> None:
        """A source is watched no more."""
        self._boards.pop(source, None)
        status = self._statuses.pop(source, None)
        if status is not None:
            gone = replace(status, state=SourceState.UNKNOWN, series=0, detail="no longer configured")
            self._publish("source", {**asdict(gone), "state": str(gone.state)})

    def wait_for(self, what: str) -> None:
        """What the engine is waiting for; "" = it is ready, and stays so."""
        self._waiting_for = what
        self._starting = self._starting and bool(what)

    def suffer(self, trouble: str) -> None:
        """What makes the engine unfit now; "" = nothing."""
        self._trouble = trouble

    def note(self, **numbers: float | str) -> None:
        """Figures of the engine itself."""
        self._numbers |= numbers

    def end(self) -> None:
        """End every subscription: the engine stops."""
        for reader in list(self._readers):
            reader.end()

    def _publish(self, event: str, data: dict[str, object]) -> None:
        for reader in list(self._readers):
            reader.put((event, data))


def _plain(noun: object) -> dict[str, object]:
    """The fields of a dataclass, as JSON knows them but for times."""
    if not is_dataclass(noun) or isinstance(noun, type):
        raise TypeError(f"{noun!r:.80} is no noun")
    return asdict(noun)


def _gone(info: SeriesInfo) -> SeriesView:
    """A series that is not watched now: its anomalies and scores may still be looked at."""
    key = info.key
    return SeriesView(
        id=key.id, series=str(key), source=key.source, metric=key.metric, labels=dict(key.labels),
        unit=info.unit, kind=info.kind, time=None, value=None, anomaly_score=None, yhat=None, yhat_lower=None,
        yhat_upper=None, learning_s=0.0, anomaly_id=None,
    )  # fmt: skip


def _differences(before: SourceStatus, after: SourceStatus) -> dict[str, bool]:
    old, new = asdict(before), asdict(after)
    return {name: old[name] != new[name] for name in old}


@dataclass(frozen=True, slots=True)
class _Rows:
    """Series that match, over all sources; `order` sorts them by height, then source, then name."""

    boards: list[Board]
    board: Ints
    slot: Ints
    height: Floats
    rank: Ints
    order: Ints

    @classmethod
    def of(cls, boards: list[Board], search: str, *, by_score: bool) -> "_Rows":
        found = [board.matching(search) for board in boards]
        numbers = [np.full(len(slots), i) for i, slots in enumerate(found)]
        scores = [board.scores.anomaly_score[slots] for board, slots in zip(boards, found, strict=True)]
        ranks = [board.rank[slots] for board, slots in zip(boards, found, strict=True)]
        none = np.empty(0, np.int64)
        board, slot, rank = (np.concatenate([none, *parts]) for parts in (numbers, found, ranks))
        score = np.concatenate([np.empty(0), *scores])
        height = np.where(np.isnan(score), np.inf, -score) if by_score else np.zeros(len(slot))
        return cls(boards, board, slot, height, rank, np.lexsort((rank, board, height)))

    def cursor(self, row: int) -> str:
        board = self.boards[self.board[row]]
        place = [str(float(self.height[row])), board.source, board.names[self.slot[row]]]
        return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")

    def behind(self, place: tuple[float, str, str]) -> int:
        """How many rows stand at this place or before it."""
        height, source, name = place
        sources = [board.source for board in self.boards]
        number = bisect_left(sources, source)
        known = number < len(sources) and sources[number] == source
        rank = self.boards[number].after(name) if known else 0
        later = (self.board > number) | ((self.board == number) & (self.rank >= rank))
        behind = (self.height > height) | ((self.height == height) & later)
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
