"""Score log: the newest ticks in memory, older ones in Parquet files of about ten minutes each."""

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path
from threading import RLock

import numpy as np
import structlog

from trimtab.engine.errors import StoreError
from trimtab.engine.store.durable_files import make_folder, remove_temporary_files, translate_os_errors
from trimtab.engine.store.time_series import score_files
from trimtab.engine.store.time_series.score_files import NS_PER_SECOND, ScoreFile
from trimtab.engine.store.time_series.score_window import WINDOW_NS, ScoreWindow, SlotTable
from trimtab.engine.types import Floats, Ints, ScoreRows, SeriesKey, TickScores

log = structlog.get_logger(__name__)

_DAY_NS = 86_400 * NS_PER_SECOND
_MAX_MERGED_BYTES, _SMALL_FILE_BYTES = 8 << 20, 256 << 10
_MAX_UNWRITTEN_BYTES = 128 << 20
"""Limit for closed windows that could not be written; beyond it the oldest window is dropped."""


class ParquetScoreLog:
    """Implementation of the ScoreLog port on a folder of Parquet files.

    Open windows are in memory only: after a crash the engine scores the logged ticks again and appends
    them again; a tick whose time is already stored is ignored. Call `flush` before each snapshot, so that
    no tick before the snapshot is lost. Reading is safe from other threads.

    folder          : folder used for score files only
    retention_days  : files whose ticks and modification time are older are removed
    retention_bytes : beyond this total size the oldest files are removed
    now             : returns the current time, int64 ns UTC
    full_series     : if a source has more series, only rows of series are kept that are anomalous, were
                      anomalous within the last ten minutes, or are in `selected`
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
        self._write_lock = RLock()
        self._files: list[ScoreFile] | None = None
        self._open_windows: dict[str, ScoreWindow] = {}
        self._closed_windows: list[ScoreWindow] = []
        self._slot_tables: dict[str, SlotTable] = {}
        self._recently_anomalous: dict[str, dict[int, tuple[SeriesKey, int]]] = {}
        self._tick_times_by_file: dict[Path, set[int]] = {}

    def append(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Append one tick; `keys` by slot. Rows without a sample (NaN) are not stored.

        Raises StoreError if a completed window cannot be written; the tick stays in memory and the write
        is retried at the next append.
        """
        slots = np.flatnonzero(~np.isnan(scores.values))
        if len(slots) and slots[-1] >= len(keys):
            raise StoreError(
                f"tick of {scores.source} has a value in slot {slots[-1]}, but only {len(keys)} keys"
            )
        with self._lock:
            if self._has_tick(scores.source, scores.time):
                return
            table = self._slot_table(scores.source, keys)
            if len(keys) > self.full_series:
                slots = self._slots_to_keep(table, scores, slots)
            window = self._open_windows.setdefault(scores.source, ScoreWindow(scores.source))
            if window.ends_before(scores.time):
                self._closed_windows.append(window)
                window = self._open_windows[scores.source] = ScoreWindow(scores.source)
            window.add(scores.time, table, slots, _score_columns(scores, slots))
        self._write_closed()

    def read(self, series_id: str, since: int, until: int, limit: int = 100_000) -> ScoreRows:
        """Return at most `limit` rows with since <= time < until (int64 ns), oldest first; possibly empty."""
        while True:
            with self._lock:
                source, likely_slot = self._locate_series(series_id)
                files = [
                    f for f in self._known_files()
                    if f.last >= since and f.first < until and source in (None, f.source)
                ]  # fmt: skip
                windows = chain(self._closed_windows, self._open_windows.values())
                parts = [w.series_rows(series_id, likely_slot) for w in windows if source in (None, w.source)]
            try:
                stored = _read_pieces(files, series_id, since, until, limit)
            except FileNotFoundError:
                # Merged into another file or removed by retention during the read.
                self._drop_missing_files()
            else:
                return _join_pieces(stored + [_slice_by_time(part, since, until) for part in parts], limit)

    def size_bytes(self) -> int:
        """Return the total size of the files."""
        with self._lock:
            return sum(file.size_bytes for file in self._known_files())

    def flush(self) -> None:
        """Write all open windows. Raises StoreError; unwritten windows then stay in memory."""
        with self._lock:
            self._closed_windows += [window for window in self._open_windows.values() if len(window)]
            self._open_windows.clear()
        self._write_closed()

    def close(self) -> None:
        """Write all open windows. Raises StoreError."""
        self.flush()

    def open(self) -> "ParquetScoreLog":
        """Create the folder and remove temporary files of a killed engine. For the lease holder only.

        Raises NewerStateError if a newer Trimtab wrote the files, StoreError.
        """
        with self._lock:
            self._known_files()
            remove_temporary_files(make_folder(self.folder))
        return self

    def _known_files(self) -> list[ScoreFile]:
        if self._files is None:
            self._files = score_files.list_files(self.folder)
        return self._files

    def _slot_table(self, source: str, keys: Sequence[SeriesKey]) -> SlotTable:
        last, now = self._slot_tables.get(source), tuple(keys)
        if last is None or (last.keys is not now and last.keys != now):
            last = self._slot_tables[source] = SlotTable(now)
        return last

    def _has_tick(self, source: str, time: int) -> bool:
        if any(
            w.source == source and time in w for w in chain(self._closed_windows, self._open_windows.values())
        ):
            return True
        for file in self._known_files():
            if file.source == source and file.first <= time <= file.last:
                if file.path not in self._tick_times_by_file:
                    self._tick_times_by_file[file.path] = score_files.read_tick_times(file)
                if time in self._tick_times_by_file[file.path]:
                    return True
        return False

    def _locate_series(self, series_id: str) -> tuple[str | None, int | None]:
        for source, table in self._slot_tables.items():
            if series_id in table.slot_by_id:
                return source, table.slot_by_id[series_id]
        return None, None

    def _slots_to_keep(self, table: SlotTable, scores: TickScores, slots: Ints) -> Ints:
        recent = self._recently_anomalous.setdefault(scores.source, {})
        for slot in np.flatnonzero(scores.anomaly_score > 1).tolist():
            recent[slot] = (table.keys[slot], scores.time + WINDOW_NS)
        for slot, (key, until) in list(recent.items()):
            if until < scores.time or table.keys[slot] != key:
                del recent[slot]
        selected = [table.slot_by_id[i] for i in self.selected if i in table.slot_by_id]
        return np.intersect1d(slots, np.array([*recent, *selected], np.int64))

    def _write_closed(self) -> None:
        # Readers are not blocked: a window stays listed until its file is listed.
        with self._write_lock:
            while self._closed_windows:
                try:
                    self._write_window(self._closed_windows[0])
                except StoreError:
                    self._limit_unwritten()
                    raise
                self._apply_retention()

    def _write_window(self, window: ScoreWindow) -> None:
        file, replaced = self._write_file(window) if window.rows else (None, None)
        with self._lock:
            self._files = [f for f in self._known_files() if f is not replaced] + ([file] if file else [])
            self._closed_windows.remove(window)
            self._tick_times_by_file.clear()
        if replaced is not None and file is not None and replaced.path != file.path:
            replaced.path.unlink(missing_ok=True)

    def _write_file(self, window: ScoreWindow) -> tuple[ScoreFile, ScoreFile | None]:
        """Write a window and return (new file, file whose rows it took over or None)."""
        ticks, rows = window.tick_times(), window.sorted_rows()
        before = self._file_to_extend(window.source, int(ticks.min()))
        stored = score_files.read_rows(before) if before is not None else None
        if stored is not None:
            ticks, rows = np.concatenate([stored[0], ticks]), score_files.merge_rows(stored[1], rows)
        file = score_files.write_file(make_folder(self.folder), window.source, ticks, rows, self.now())
        return file, before if stored is not None else None

    def _file_to_extend(self, source: str, time: int) -> ScoreFile | None:
        """Return the source's newest file if it is of the same ten minutes, or small and of the same day."""
        with self._lock:
            newest = max(
                (f for f in self._known_files() if f.source == source), key=lambda f: f.last, default=None
            )
        if newest is None:
            return None
        near = newest.first // WINDOW_NS == time // WINDOW_NS and newest.size_bytes < _MAX_MERGED_BYTES
        tiny = newest.first // _DAY_NS == time // _DAY_NS and newest.size_bytes < _SMALL_FILE_BYTES
        return newest if near or tiny else None

    def _limit_unwritten(self) -> None:
        with self._lock:
            while sum(window.size_bytes for window in self._closed_windows) > _MAX_UNWRITTEN_BYTES:
                lost = self._closed_windows.pop(0)
                log.error("unwritten_scores_dropped", source=lost.source, rows=lost.rows)

    def _apply_retention(self) -> None:
        oldest = self.now() - int(self.retention_days * _DAY_NS)
        kept, expired = [], []
        with self._lock:
            size = self.size_bytes()
            for file in sorted(self._known_files(), key=lambda file: file.first):
                if size > self.retention_bytes or max(file.last, file.written) < oldest:
                    expired.append(file)
                    size -= file.size_bytes
                else:
                    kept.append(file)
            self._files = kept
        with translate_os_errors("remove old scores in", self.folder):
            for file in expired:
                file.path.unlink(missing_ok=True)

    def _drop_missing_files(self) -> None:
        with self._lock:
            self._files = [file for file in self._known_files() if file.path.exists()]


def _read_pieces(
    files: Sequence[ScoreFile], series_id: str, since: int, until: int, limit: int
) -> list[tuple[Ints, Floats]]:
    """Return the pieces of one series, up to the file in which the row limit is reached."""
    pieces: list[tuple[Ints, Floats]] = []
    rows, newest = 0, 0
    for file in files:
        if rows >= limit and file.first > newest:
            break
        for piece in score_files.read_series(file, series_id):
            times, columns = _slice_by_time(piece, since, until)
            if len(times):
                pieces.append((times, columns))
                rows, newest = rows + len(times), max(newest, int(times[-1]))
    return pieces


def _score_columns(scores: TickScores, slots: Ints) -> Floats:
    five = (scores.values, scores.anomaly_score, scores.yhat, scores.yhat_lower, scores.yhat_upper)
    return np.stack([np.asarray(column, np.float64)[slots] for column in five])


def _slice_by_time(piece: tuple[Ints, Floats], since: int, until: int) -> tuple[Ints, Floats]:
    times, columns = piece
    inside = (times >= since) & (times < until)
    return times[inside], columns[:, inside]


def _join_pieces(pieces: list[tuple[Ints, Floats]], limit: int) -> ScoreRows:
    times = np.concatenate([times for times, _ in pieces] or [np.empty(0, np.int64)])
    columns = np.concatenate([columns for _, columns in pieces] or [np.empty((5, 0))], axis=1)
    # If the engine was killed during a merge, both files exist: keep each time once.
    times, order = np.unique(times, return_index=True)
    return ScoreRows(times[:limit], *columns[:, order[:limit]])
