"""Snapshots of each source's learned scoring state, plus the log of later ticks, for exact restarts.

A snapshot is one safetensors file: the state arrays, and as JSON metadata the format version, time,
checksums and further values of the engine. Loading it cannot execute code.
"""

import errno
import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from time import monotonic_ns
from typing import Any

import numpy as np
import structlog

from trimtab.engine.errors import NewerStateError, StoreError
from trimtab.engine.store.durable_files import (
    atomic_write,
    make_folder,
    remove_temporary_files,
    safe_file_name,
    sync_folder,
    translate_os_errors,
)
from trimtab.engine.store.time_series.tick_log import LoggedTick, TickLog, refuse_newer_segment
from trimtab.engine.types import SeriesKey
from trimtab.models.contracts import State

log = structlog.get_logger(__name__)

FORMAT = 1
SNAPSHOTS_KEPT = 2
LoadedSnapshot = tuple[int, State, dict[str, object]]


class FolderSnapshots:
    """Implementation of the Snapshots port on a folder with one subfolder per source. Thread-safe.

    A logged tick is passed to the operating system immediately (it survives kill -9) and synced to disk
    within 10 s (power loss). Ticks replayed after a restart are already in the log and are not logged
    again. Ticks since the last but one snapshot are kept, because a damaged snapshot falls back to the
    previous one.

    folder     : folder used for snapshots and ticks only
    elapsed_ns : monotonic clock, ns
    """

    def __init__(self, folder: Path, elapsed_ns: Callable[[], int] = monotonic_ns) -> None:
        self.folder = folder
        self.elapsed_ns = elapsed_ns
        self._lock = RLock()
        self._tick_logs: dict[str, TickLog] = {}
        self._newest_snapshot_time: dict[str, int | None] = {}

    def open(self) -> "FolderSnapshots":
        """Create the folder and remove temporary files of a killed engine. For the lease holder only.

        Raises NewerStateError if a newer Trimtab wrote the files, StoreError.
        """
        make_folder(self.folder)
        with translate_os_errors("read", self.folder):
            folders = [path for path in self.folder.iterdir() if path.is_dir()]
        for folder in folders:
            remove_temporary_files(folder)
            for segment in folder.glob("ticks-*.log"):
                refuse_newer_segment(segment)
            for snapshot in folder.glob("snapshot-*.safetensors"):
                refuse_newer_snapshot(snapshot)
        return self

    def log_tick(self, source: str, time: int, keys: Sequence[SeriesKey], values: bytes) -> None:
        """Append a closed tick before it is scored; `values`: float64 bytes by slot. Raises StoreError."""
        with self._lock:
            self._tick_log(source).append(time, keys, values)

    def ticks_since(self, source: str) -> Iterable[LoggedTick]:
        """Return the logged ticks after the newest valid snapshot, oldest first. Raises NewerStateError."""
        with self._lock:
            if source not in self._newest_snapshot_time:
                self.load(source)
            return self._tick_log(source).read_ticks(self._newest_snapshot_time[source])

    def ticks_until(self, source: str) -> Iterable[LoggedTick]:
        """Return the remaining logged ticks up to the newest valid snapshot. Raises NewerStateError."""
        with self._lock:
            if source not in self._newest_snapshot_time:
                self.load(source)
            newest = self._newest_snapshot_time[source]
            return (
                tick
                for tick in self._tick_log(source).read_ticks(None)
                if newest is not None and tick[0] <= newest
            )

    def save(
        self,
        source: str,
        time: int,
        arrays: State,
        meta: dict[str, object],
        keep_from: int | None = None,
    ) -> None:
        """Write a snapshot atomically, then remove old snapshots and ticks that are no longer needed.

        time      : time of the last tick in the state, int64 ns UTC
        keep_from : int64 ns UTC; ticks from this time on are kept even if the snapshot includes them

        Raises StoreError.
        """
        folder = make_folder(self._source_folder(source))
        write_snapshot(folder / f"snapshot-{_next_number(folder):08d}-{time}.safetensors", time, arrays, meta)
        with self._lock:
            self._newest_snapshot_time[source] = time
            snapshots = self._snapshot_files(source)
            with translate_os_errors("remove old snapshots in", folder):
                for old in snapshots[:-SNAPSHOTS_KEPT]:
                    old.unlink(missing_ok=True)
                sync_folder(folder)
            done = (
                _snapshot_time(snapshots[-SNAPSHOTS_KEPT]) if len(snapshots) >= SNAPSHOTS_KEPT else -(2**63)
            )
            self._tick_log(source).remove_until(done if keep_from is None else min(done, keep_from - 1))

    def load(self, source: str) -> LoadedSnapshot | None:
        """Return (time, state, metadata) of the newest valid snapshot, or None. Raises NewerStateError."""
        with self._lock:
            for path in reversed(self._snapshot_files(source)):
                snapshot = read_snapshot(path)
                if snapshot is not None:
                    self._newest_snapshot_time[source] = snapshot[0]
                    return snapshot
            self._newest_snapshot_time[source] = None
            return None

    def sync(self) -> None:
        """Sync every logged tick to disk. Raises StoreError."""
        with self._lock:
            for ticks in self._tick_logs.values():
                ticks.sync()

    def close(self) -> None:
        """Sync and close the tick logs."""
        with self._lock:
            for ticks in self._tick_logs.values():
                ticks.close()

    def _source_folder(self, source: str) -> Path:
        return self.folder / safe_file_name(source)

    def _tick_log(self, source: str) -> TickLog:
        if source not in self._tick_logs:
            self._tick_logs[source] = TickLog(self._source_folder(source), self.elapsed_ns)
        return self._tick_logs[source]

    def _snapshot_files(self, source: str) -> list[Path]:
        with translate_os_errors("read", self._source_folder(source)):
            return sorted(self._source_folder(source).glob("snapshot-*.safetensors"))


def write_snapshot(path: Path, time: int, arrays: State, meta: dict[str, object]) -> None:
    """Write a snapshot file atomically. Raises StoreError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    solid = {name: _storable_array(name, array) for name, array in arrays.items()}
    sums = {name: _checksum(array) for name, array in solid.items()}
    try:
        about = json.dumps({"time": int(time), "meta": meta, "checksums": sums}, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the snapshot metadata cannot be written as JSON: {error}") from error
    metadata = {"format": str(FORMAT), "about": about, "checksum": str(zlib.crc32(about.encode()))}
    with atomic_write(path) as temporary:
        try:
            save_file(solid, temporary, metadata)
        except SafetensorError as error:
            raise _os_error(error) from error


def read_snapshot(path: Path) -> LoadedSnapshot | None:
    """Read a snapshot; log a damaged one and return None. Raises NewerStateError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            _refuse_newer_format(metadata, path)
            return _verify_checksums(metadata, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        log.warning("damaged_snapshot_skipped", snapshot=str(path), error=str(error))
        return None


def refuse_newer_snapshot(path: Path) -> None:
    """Raise NewerStateError for a snapshot of a newer version; a damaged file is ignored here."""
    from safetensors import SafetensorError, safe_open

    with suppress(SafetensorError, OSError, KeyError, ValueError), safe_open(path, framework="np") as file:
        _refuse_newer_format(file.metadata() or {}, path)


def _refuse_newer_format(metadata: dict[str, str], path: Path) -> None:
    version = int(metadata["format"])
    if version > FORMAT:
        raise NewerStateError(
            f"{path} was written by a newer Trimtab (format {version}, this version supports {FORMAT}); "
            "upgrade Trimtab, or use another folder. Nothing was changed"
        )


def _verify_checksums(metadata: dict[str, str], arrays: dict[str, Any]) -> LoadedSnapshot:
    if zlib.crc32(metadata["about"].encode()) != int(metadata["checksum"]):
        raise ValueError("the metadata does not match its checksum")
    about = json.loads(metadata["about"])
    for name, checksum in about["checksums"].items():
        if _checksum(arrays[name]) != checksum:
            raise ValueError(f"array {name!r} does not match its checksum")
    return about["time"], arrays, about["meta"]


def _checksum(array: np.ndarray[Any, Any]) -> int:
    kind = zlib.crc32(f"{array.dtype.str}{array.shape}".encode())
    return zlib.crc32(array.reshape(-1).view(np.uint8).data, kind)


def _storable_array(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in "fiub" or not array.dtype.isnative:
        raise StoreError(
            f"snapshot array {name!r} has dtype {array.dtype}; use a native number or boolean type"
        )
    # safetensors stores the bytes in memory order.
    return np.asarray(array, order="C")


def _os_error(error: Exception) -> OSError:
    """Return the OSError (such as a full disk) that safetensors reports only in its message."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else errno.EIO, str(error))


def _next_number(folder: Path) -> int:
    numbers = [int(path.name.split("-")[1]) for path in folder.glob("snapshot-*.safetensors")]
    return max(numbers, default=0) + 1


def _snapshot_time(snapshot: Path) -> int:
    return int(snapshot.stem.split("-", 2)[2])
