"""Scores by time: the newest ticks in memory, the others in Parquet files of about ten minutes."""

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path
from threading import RLock

import numpy as np
import structlog

from trimtab.engine.errors import StoreError
from trimtab.engine.store.durable_files import make_folder, remove_leftovers, told_as_store_errors
from trimtab.engine.store.time_series import score_files
from trimtab.engine.store.time_series.score_files import SECOND, ScoreFile
from trimtab.engine.store.time_series.score_window import WINDOW_NS, SlotTable, Window
from trimtab.engine.types import Floats, Ints, ScoreRows, SeriesKey, TickScores

log = structlog.get_logger(__name__)

_DAY_NS = 86_400 * SECOND
_LARGE_BYTES, _TINY_BYTES = 8 << 20, 256 << 10
_MAX_UNWRITTEN_BYTES = 128 << 20
"""Closed windows that a full disk refuses are held up to here, then the oldest is dropped."""


class ParquetScoreLog:
    """The port ScoreLog over a folder.

    What is open is in memory only: after a crash the engine scores the logged ticks again and
    appends them again; a tick whose time is stored already is left as it is. To keep the two in
    step, call `flush` before each snapshot. Reading is safe from other threads.

    folder          : for its files alone
    retention_days  : files whose ticks and writing are older than that are removed
    retention_bytes : the oldest files over that are removed
    now             : nanoseconds UTC
    full_series     : of a source with more series, only those that are anomalous, were so within
                      ten minutes, or are in `selected` are kept
    selected        : series ids that are always kept; may be replaced at any time
    """

    def __init__(
        self,
        folder: Path,
        retention_days: float,
        retention_bytes: int,
        now: Callable[[], int],
        full_series: int = 20_000,
        selected: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.retention_days = retention_days
        self.retention_bytes = retention_bytes
        self.now = now
        self.full_series = full_series
        self.selected = selected
        self._lock = RLock()
        self._writing = RLock()
        self._files: list[ScoreFile] | None = None
        self._open: dict[str, Window] = {}
        self._closed: list[Window] = []
        self._tables: dict[str, SlotTable] = {}
        self._recent: dict[str, dict[int, tuple[SeriesKey, int]]] = {}
        self._stored: dict[Path, set[int]] = {}

    def append(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Keep one tick; keys by slot. Rows without a sample are not kept.

        Raises StoreError where a full window cannot be written; the tick is kept in memory then, and
        writing is tried again with the next.
        """
        slots = np.flatnonzero(~np.isnan(scores.values))
        if len(slots) and slots[-1] >= len(keys):
            raise StoreError(
                f"tick of {scores.source}: a value in slot {slots[-1]}, but only {len(keys)} keys"
            )
        with self._lock:
            if self._has(scores.source, scores.time):
                return
            table = self._table(scores.source, keys)
            if len(keys) > self.full_series:
                slots = self._worth_keeping(table, scores, slots)
            window = self._open.setdefault(scores.source, Window(scores.source))
            if window.is_over(scores.time):
                self._closed.append(window)
                window = self._open[scores.source] = Window(scores.source)
            window.add(scores.time, table, slots, _columns(scores, slots))
        self._write_closed()

    def read(self, series_id: str, since: int, until: int, limit: int = 100_000) -> ScoreRows:
        """Rows with since <= time < until, oldest first; empty where nothing is known."""
        while True:
            with self._lock:
                source, guess = self._found(series_id)
                files = [
                    f for f in self._listed()
                    if f.last >= since and f.first < until and source in (None, f.source)
                ]  # fmt: skip
                windows = chain(self._closed, self._open.values())
                parts = [w.series(series_id, guess) for w in windows if source in (None, w.source)]
            try:
                stored = _read(files, series_id, since, until, limit)
            except FileNotFoundError:
                # Merged into another, or over the retention, while we read.
                self._forget_missing()
            else:
                return _rows(stored + [_between(part, since, until) for part in parts], limit)

    def size_bytes(self) -> int:
        """What the files take."""
        with self._lock:
            return sum(file.size_bytes for file in self._listed())

    def flush(self) -> None:
        """Write what is open, however little. Raises StoreError; then it stays in memory."""
        with self._lock:
            self._closed += [window for window in self._open.values() if len(window)]
            self._open.clear()
        self._write_closed()

    def close(self) -> None:
        """Write what is open."""
        self.flush()

    def open(self) -> "ParquetScoreLog":
        """Make the folder and clear away what a killed engine had half written; for the engine only.

        Raises NewerStateError where a newer Trimtab wrote here, StoreError.
        """
        with self._lock:
            self._listed()
            remove_leftovers(make_folder(self.folder))
        return self

    def _listed(self) -> list[ScoreFile]:
        if self._files is None:
            self._files = score_files.listed(self.folder)
        return self._files

    def _table(self, source: str, keys: Sequence[SeriesKey]) -> SlotTable:
        last, now = self._tables.get(source), tuple(keys)
        if last is None or (last.keys is not now and last.keys != now):
            last = self._tables[source] = SlotTable(now)
        return last

    def _has(self, source: str, time: int) -> bool:
        if any(w.source == source and time in w for w in chain(self._closed, self._open.values())):
            return True
        for file in self._listed():
            if file.source == source and file.first <= time <= file.last:
                if file.path not in self._stored:
                    self._stored[file.path] = score_files.tick_times(file)
                if time in self._stored[file.path]:
                    return True
        return False

    def _found(self, series_id: str) -> tuple[str | None, int | None]:
        for source, table in self._tables.items():
            if series_id in table.slots:
                return source, table.slots[series_id]
        return None, None

    def _worth_keeping(self, table: SlotTable, scores: TickScores, slots: Ints) -> Ints:
        recent = self._recent.setdefault(scores.source, {})
        for slot in np.flatnonzero(scores.anomaly_score > 1).tolist():
            recent[slot] = (table.keys[slot], scores.time + WINDOW_NS)
        for slot, (key, until) in list(recent.items()):
            if until < scores.time or table.keys[slot] != key:
                del recent[slot]
        selected = [table.slots[i] for i in self.selected if i in table.slots]
        return np.intersect1d(slots, np.array([*recent, *selected], np.int64))

    def _write_closed(self) -> None:
        # Reading goes on meanwhile: a window stays where it is until its file has joined the others.
        with self._writing:
            while self._closed:
                try:
                    self._write(self._closed[0])
                except StoreError:
                    self._bound_unwritten()
                    raise
                self._retain()

    def _write(self, window: Window) -> None:
        file, gone = self._as_file(window) if window.rows else (None, None)
        with self._lock:
            self._files = [f for f in self._listed() if f is not gone] + ([file] if file else [])
            self._closed.remove(window)
            self._stored.clear()
        if gone is not None and file is not None and gone.path != file.path:
            gone.path.unlink(missing_ok=True)

    def _as_file(self, window: Window) -> tuple[ScoreFile, ScoreFile | None]:
        """The new file, and the one that it took the rows of."""
        ticks, rows = window.times(), window.sorted()
        before = self._to_go_on_with(window.source, int(ticks.min()))
        stored = score_files.load(before) if before is not None else None
        if stored is not None:
            ticks, rows = np.concatenate([stored[0], ticks]), score_files.merged(stored[1], rows)
        file = score_files.write(make_folder(self.folder), window.source, ticks, rows, self.now())
        return file, before if stored is not None else None

    def _to_go_on_with(self, source: str, time: int) -> ScoreFile | None:
        """The newest file of a source, where it is of the same ten minutes, or tiny and of the same day."""
        with self._lock:
            newest = max(
                (f for f in self._listed() if f.source == source), key=lambda f: f.last, default=None
            )
        if newest is None:
            return None
        near = newest.first // WINDOW_NS == time // WINDOW_NS and newest.size_bytes < _LARGE_BYTES
        tiny = newest.first // _DAY_NS == time // _DAY_NS and newest.size_bytes < _TINY_BYTES
        return newest if near or tiny else None

    def _bound_unwritten(self) -> None:
        with self._lock:
            while sum(window.size_bytes for window in self._closed) > _MAX_UNWRITTEN_BYTES:
                lost = self._closed.pop(0)
                log.error("dropped scores that could not be written", source=lost.source, rows=lost.rows)

    def _retain(self) -> None:
        oldest = self.now() - int(self.retention_days * _DAY_NS)
        kept, gone = [], []
        with self._lock:
            size = self.size_bytes()
            for file in sorted(self._listed(), key=lambda file: file.first):
                if size > self.retention_bytes or max(file.last, file.written) < oldest:
                    gone.append(file)
                    size -= file.size_bytes
                else:
                    kept.append(file)
            self._files = kept
        with told_as_store_errors("remove old scores in", self.folder):
            for file in gone:
                file.path.unlink(missing_ok=True)

    def _forget_missing(self) -> None:
        with self._lock:
            self._files = [file for file in self._listed() if file.path.exists()]


def _read(
    files: Sequence[ScoreFile], series_id: str, since: int, until: int, limit: int
) -> list[tuple[Ints, Floats]]:
    """The pieces of one series, up to the file where the limit is reached."""
    found: list[tuple[Ints, Floats]] = []
    rows, newest = 0, 0
    for file in files:
        if rows >= limit and file.first > newest:
            break
        for piece in score_files.read(file, series_id):
            times, columns = _between(piece, since, until)
            if len(times):
                found.append((times, columns))
                rows, newest = rows + len(times), max(newest, int(times[-1]))
    return found


def _columns(scores: TickScores, slots: Ints) -> Floats:
    five = (scores.values, scores.anomaly_score, scores.yhat, scores.yhat_lower, scores.yhat_upper)
    return np.stack([np.asarray(column, np.float64)[slots] for column in five])


def _between(piece: tuple[Ints, Floats], since: int, until: int) -> tuple[Ints, Floats]:
    times, columns = piece
    inside = (times >= since) & (times < until)
    return times[inside], columns[:, inside]


def _rows(pieces: list[tuple[Ints, Floats]], limit: int) -> ScoreRows:
    times = np.concatenate([times for times, _ in pieces] or [np.empty(0, np.int64)])
    columns = np.concatenate([columns for _, columns in pieces] or [np.empty((5, 0))], axis=1)
    # A file that was being merged when the engine was killed is still there: each time counts once.
    times, order = np.unique(times, return_index=True)
    return ScoreRows(times[:limit], *columns[:, order[:limit]])
