"""Snapshots of each source's scoring, and the log of its ticks since: a restart goes on where it was.

A snapshot is one safetensors file: the arrays of the state, and in its metadata format version,
time, checksums and what else the engine wants to keep, as JSON. Nothing in it can run code.
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
    """The port Snapshots over a folder, with one folder a source in it. Safe for several threads.

    A logged tick is given to the system at once (it survives kill -9) and is on the disk within
    10 s (power loss). Ticks that are replayed after a restart stand in the log already: they are
    not logged again. Ticks since the last but one snapshot are kept, as a damaged snapshot falls
    back to the one before.

    folder     : for snapshots and ticks alone
    elapsed_ns : a monotonic clock
    """

    def __init__(self, folder: Path, elapsed_ns: Callable[[], int] = monotonic_ns) -> None:
        self.folder = folder
        self.elapsed_ns = elapsed_ns
        self._lock = RLock()
        self._tick_logs: dict[str, TickLog] = {}
        self._newest_snapshot_time: dict[str, int | None] = {}

    def open(self) -> "FolderSnapshots":
        """Make the folder and clear away what a killed engine had half written; for the engine only.

        Raises NewerStateError where a newer Trimtab wrote here, StoreError.
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
        """Append one closed tick before it is scored; values are float64 by slot. Raises StoreError."""
        with self._lock:
            self._tick_log(source).append(time, keys, values)

    def ticks_since(self, source: str) -> Iterable[LoggedTick]:
        """The logged ticks after the newest whole snapshot, oldest first. Raises NewerStateError."""
        with self._lock:
            if source not in self._newest_snapshot_time:
                self.load(source)
            return self._tick_log(source).read_ticks(self._newest_snapshot_time[source])

    def ticks_until(self, source: str) -> Iterable[LoggedTick]:
        """The logged ticks up to the newest whole snapshot that are there still. Raises NewerStateError."""
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
        """A snapshot, atomically; then what only older ones needed is removed. Raises StoreError.

        keep_from : int64 ns; ticks from then on stay, even where a snapshot holds what came of them
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
        """The newest snapshot that is whole; None = start afresh. Raises NewerStateError."""
        with self._lock:
            for path in reversed(self._snapshot_files(source)):
                found = read_snapshot(path)
                if found is not None:
                    self._newest_snapshot_time[source] = found[0]
                    return found
            self._newest_snapshot_time[source] = None
            return None

    def sync(self) -> None:
        """Wait until every logged tick is on the disk. Raises StoreError."""
        with self._lock:
            for ticks in self._tick_logs.values():
                ticks.sync()

    def close(self) -> None:
        """Sync and let go."""
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
    """Write a snapshot, whole or not at all. Raises StoreError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    solid = {name: _storable_array(name, array) for name, array in arrays.items()}
    sums = {name: _checksum(array) for name, array in solid.items()}
    try:
        about = json.dumps({"time": int(time), "meta": meta, "checksums": sums}, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the snapshot's meta cannot be written as JSON: {error}") from error
    metadata = {"format": str(FORMAT), "about": about, "checksum": str(zlib.crc32(about.encode()))}
    with atomic_write(path) as temporary:
        try:
            save_file(solid, temporary, metadata)
        except SafetensorError as error:
            raise _os_error(error) from error


def read_snapshot(path: Path) -> LoadedSnapshot | None:
    """A snapshot, or None where it is damaged, as the log then says. Raises NewerStateError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            said = file.metadata() or {}
            _refuse_newer_format(said, path)
            return _verify_checksums(said, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        log.warning("fell back from a damaged snapshot", snapshot=str(path), error=str(error))
        return None


def refuse_newer_snapshot(path: Path) -> None:
    """Raises NewerStateError for a snapshot that a newer program wrote; damage is for `read` to tell."""
    from safetensors import SafetensorError, safe_open

    with suppress(SafetensorError, OSError, KeyError, ValueError), safe_open(path, framework="np") as file:
        _refuse_newer_format(file.metadata() or {}, path)


def _refuse_newer_format(said: dict[str, str], path: Path) -> None:
    version = int(said["format"])
    if version > FORMAT:
        raise NewerStateError(
            f"{path} was written by a newer Trimtab (format {version}, this program knows {FORMAT}); "
            "upgrade this program, or give it another folder. Nothing was changed"
        )


def _verify_checksums(said: dict[str, str], arrays: dict[str, Any]) -> LoadedSnapshot:
    if zlib.crc32(said["about"].encode()) != int(said["checksum"]):
        raise ValueError("its description does not fit its checksum")
    about = json.loads(said["about"])
    for name, checksum in about["checksums"].items():
        if _checksum(arrays[name]) != checksum:
            raise ValueError(f"array {name!r} does not fit its checksum")
    return about["time"], arrays, about["meta"]


def _checksum(array: np.ndarray[Any, Any]) -> int:
    kind = zlib.crc32(f"{array.dtype.str}{array.shape}".encode())
    return zlib.crc32(array.reshape(-1).view(np.uint8).data, kind)


def _storable_array(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in "fiub" or not array.dtype.isnative:
        raise StoreError(f"the snapshot's array {name!r} is {array.dtype}: numbers or booleans were wanted")
    # safetensors stores the bytes as they lie in memory.
    return np.asarray(array, order="C")


def _os_error(error: Exception) -> OSError:
    """What the system said, a full disk for instance: safetensors has it in its text only."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else errno.EIO, str(error))


def _next_number(folder: Path) -> int:
    numbers = [int(path.name.split("-")[1]) for path in folder.glob("snapshot-*.safetensors")]
    return max(numbers, default=0) + 1


def _snapshot_time(snapshot: Path) -> int:
    return int(snapshot.stem.split("-", 2)[2])
