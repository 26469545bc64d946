"""Tick log of one source: append-only segments of records with length and checksum.

A segment begins with MAGIC and a version. A record is length, crc32 (both uint32, little endian) and
payload. The first byte of the payload is its type:
K  JSON {"n": number of keys, "set": [[slot, source, metric, labels], ...]}: the series keys that changed.
   The first record of every segment contains all keys, so segments can be removed independently
T  time (int64 ns UTC), then float64 values by slot
"""

import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import structlog

from trimtab.engine.errors import NewerStateError, StoreError
from trimtab.engine.store.durable_files import make_folder, sync_folder, translate_os_errors
from trimtab.engine.types import SeriesKey

log = structlog.get_logger(__name__)

LoggedTick = tuple[int, tuple[SeriesKey, ...], bytes]

MAGIC = b"trimtab-ticks\0"
VERSION = 2
"""Since version 2 the last keys of a tick may be engine markers, which version 1 would read as series."""
HEADER = MAGIC + struct.pack("<H", VERSION)
_FRAME = struct.Struct("<II")
_TIME = struct.Struct("<q")
_SYNC_AFTER_NS = 5_000_000_000
"""With ticks at most 5 s apart each one is on disk within 10 s; slower ticks are synced individually."""
SEGMENT_BYTES = 16 << 20
MAX_BYTES = 256 << 20
"""If snapshots keep failing, the oldest segments beyond this total size are removed."""


class TickLog:
    """Segments of one source in a folder; the newest one is open for appending.

    elapsed_ns : monotonic clock, ns; measures the time since the last sync
    """

    def __init__(self, folder: Path, elapsed_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.folder = folder
        self.elapsed_ns = elapsed_ns
        self._file: int | None = None
        self._path: Path | None = None
        self._size = 0
        self._keys: tuple[SeriesKey, ...] = ()
        self._synced_at = 0
        self._is_repaired = False

    def append(self, time_ns: int, keys: Sequence[SeriesKey], values: bytes) -> None:
        """Append a tick; `values` are float64 bytes by slot. On disk within 10 s. Raises StoreError."""
        if len(values) != 8 * len(keys):
            raise StoreError(
                f"tick at {time_ns} has {len(values)} bytes for {len(keys)} keys, expected 8 per key"
            )
        now = tuple(keys)
        if self._file is None or self._size >= SEGMENT_BYTES:
            self._begin_segment(time_ns)
        records = (
            b"" if now is self._keys or now == self._keys else _frame_record(_key_changes(self._keys, now))
        )
        self._write(records + _frame_record(b"T" + _TIME.pack(time_ns) + values))
        self._keys = now
        if self.elapsed_ns() - self._synced_at >= _SYNC_AFTER_NS:
            self.sync()

    def sync(self) -> None:
        """Sync the open segment to disk. Raises StoreError."""
        if self._file is not None:
            with translate_os_errors("sync the tick log in", self.folder):
                os.fdatasync(self._file)
        self._synced_at = self.elapsed_ns()

    def read_ticks(self, after: int | None) -> Iterator[LoggedTick]:
        """Yield ticks later than `after` (None = all), oldest first, as of this call."""
        sizes = [(path, path.stat().st_size) for path in self.segments()]
        for number, (path, size) in enumerate(sizes):
            if after is None or number + 1 == len(sizes) or first_tick_time(sizes[number + 1][0]) > after:
                for tick in read_segment(path, size):
                    if after is None or tick[0] > after:
                        yield tick

    def segments(self) -> list[Path]:
        """Return the segment files, oldest first."""
        with translate_os_errors("read", self.folder):
            return sorted(self.folder.glob("ticks-*.log"))

    def remove_until(self, time_ns: int) -> None:
        """Close the open segment, and remove segments without ticks later than time_ns."""
        self.close()
        segments = self.segments()
        done = [old for old, new in pairwise(segments) if first_tick_time(new) <= time_ns]
        with translate_os_errors("remove old ticks in", self.folder):
            for path in done:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Sync and close the open segment; the next tick begins another."""
        if self._file is not None:
            try:
                self.sync()
            finally:
                os.close(self._file)
                self._file = None

    def _begin_segment(self, time_ns: int) -> None:
        self.close()
        make_folder(self.folder)
        if not self._is_repaired:
            _cut_torn_tail(self.segments())
            self._is_repaired = True
        segments = self.segments()
        with translate_os_errors("limit the tick log in", self.folder):
            self._limit_size(segments)
        number = 1 + (int(segments[-1].name.split("-")[1]) if segments else 0)
        path = self.folder / f"ticks-{number:08d}-{time_ns}.log"
        with translate_os_errors("make", path):
            self._path = path
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            sync_folder(self.folder)
        self._size, self._keys = 0, ()
        self._write(HEADER)

    def _limit_size(self, segments: list[Path]) -> None:
        size = sum(path.stat().st_size for path in segments)
        while size > MAX_BYTES:
            oldest = segments.pop(0)
            size -= oldest.stat().st_size
            oldest.unlink()
            log.warning(
                "logged_ticks_dropped", segment=str(oldest), reason="the tick log is full: snapshots fail"
            )

    def _write(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101 - callers have opened a segment
        with translate_os_errors("log ticks in", self.folder):
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except OSError:
                self._undo_failed_write()
                raise
        self._size += len(data)

    def _undo_failed_write(self) -> None:
        """Truncate the segment to its size before the failed write; the next tick begins another."""
        descriptor, self._file = self._file, None
        if descriptor is None or self._path is None:
            return
        with suppress(OSError):  # the caller raises the write error; readers stop at a torn record
            if self._size:
                os.ftruncate(descriptor, self._size)
            else:
                self._path.unlink()
        os.close(descriptor)


def first_tick_time(segment: Path) -> int:
    """Return the time of a segment's first tick from its name: ticks-<number>-<time>.log."""
    return int(segment.stem.split("-", 2)[2])


def read_segment(path: Path, size: int) -> Iterator[LoggedTick]:
    """Yield the ticks in the first `size` bytes, up to the first incomplete record.

    Raises NewerStateError.
    """
    keys: list[SeriesKey] = []
    table: tuple[SeriesKey, ...] = ()
    for payload, _ in _records(path, size):
        if payload[:1] == b"K":
            _apply_key_changes(json.loads(payload[1:]), keys)
            table = tuple(keys)
        else:
            yield _TIME.unpack_from(payload, 1)[0], table, payload[1 + _TIME.size :]


def _records(path: Path, size: int) -> Iterator[tuple[bytes, int]]:
    """Yield (payload, end offset) of each complete record."""
    with translate_os_errors("read", path), path.open("rb") as file:
        head = file.read(len(HEADER))
        if head[: len(MAGIC)] != MAGIC or len(head) < len(HEADER):
            return
        _refuse_newer_version(head, path)
        end = len(HEADER)
        while end + _FRAME.size <= size:
            length, checksum = _FRAME.unpack(file.read(_FRAME.size))
            payload = file.read(length) if end + _FRAME.size + length <= size else b""
            if not payload or zlib.crc32(payload) != checksum:
                log.warning("incomplete_tick_record_skipped", segment=str(path), offset=end)
                return
            end += _FRAME.size + length
            yield payload, end


def refuse_newer_segment(path: Path) -> None:
    """Raise NewerStateError for a segment of a newer version."""
    with translate_os_errors("read", path), path.open("rb") as file:
        head = file.read(len(HEADER))
    if len(head) == len(HEADER) and head.startswith(MAGIC):
        _refuse_newer_version(head, path)


def _refuse_newer_version(head: bytes, path: Path) -> None:
    (version,) = struct.unpack("<H", head[len(MAGIC) :])
    if version > VERSION:
        raise NewerStateError(
            f"{path} was written by a newer Trimtab (format {version}, this version supports {VERSION}); "
            "upgrade Trimtab, or use another folder. Nothing was changed"
        )


def _cut_torn_tail(segments: Sequence[Path]) -> None:
    """Truncate the newest segment after its last complete record."""
    if not segments:
        return
    path = segments[-1]
    size = path.stat().st_size
    whole = 0
    for _, whole in _records(path, size):  # noqa: B007 - only the last value is used
        pass
    with translate_os_errors("repair", path):
        if whole == 0:
            path.unlink()
        elif whole < size:
            os.truncate(path, whole)


def _frame_record(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _key_changes(old: tuple[SeriesKey, ...], new: tuple[SeriesKey, ...]) -> bytes:
    changed = [
        [slot, key.source, key.metric, key.labels]
        for slot, key in enumerate(new)
        if slot >= len(old) or (key is not old[slot] and key != old[slot])
    ]
    return b"K" + json.dumps({"n": len(new), "set": changed}, separators=(",", ":")).encode()


def _apply_key_changes(change: dict[str, object], keys: list[SeriesKey]) -> None:
    count, changed = change["n"], change["set"]
    if not isinstance(count, int) or not isinstance(changed, list):
        raise StoreError("a key record in the tick log has an unknown form")
    del keys[count:]
    for slot, source, metric, labels in changed:
        key = SeriesKey(source, metric, tuple((name, value) for name, value in labels))
        if slot < len(keys):
            keys[slot] = key
        else:
            keys.append(key)
