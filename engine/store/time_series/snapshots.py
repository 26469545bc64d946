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
    file_name,
    make_folder,
    remove_leftovers,
    sync_folder,
    told_as_store_errors,
    written_whole,
)
from trimtab.engine.store.time_series.tick_log import Logged, TickLog, refuse_newer
from trimtab.engine.types import SeriesKey
from trimtab.models.contracts import State

log = structlog.get_logger(__name__)

FORMAT = 1
KEPT = 2
Loaded = tuple[int, State, dict[str, object]]


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
        self._logs: dict[str, TickLog] = {}
        self._newest: dict[str, int | None] = {}

    def open(self) -> "FolderSnapshots":
        """Make the folder and clear away what a killed engine had half written; for the engine only.

        Raises NewerStateError where a newer Trimtab wrote here, StoreError.
        """
        make_folder(self.folder)
        with told_as_store_errors("read", self.folder):
            folders = [path for path in self.folder.iterdir() if path.is_dir()]
        for folder in folders:
            remove_leftovers(folder)
            for segment in folder.glob("ticks-*.log"):
                refuse_newer(segment)
            for snapshot in folder.glob("snapshot-*.safetensors"):
                refuse_newer_snapshot(snapshot)
        return self

    def log_tick(self, source: str, time: int, keys: Sequence[SeriesKey], values: bytes) -> None:
        """Append one closed tick before it is scored; values are float64 by slot. Raises StoreError."""
        with self._lock:
            self._log(source).append(time, keys, values)

    def ticks_since(self, source: str) -> Iterable[Logged]:
        """The logged ticks after the newest whole snapshot, oldest first. Raises NewerStateError."""
        with self._lock:
            if source not in self._newest:
                self.load(source)
            return self._log(source).ticks(self._newest[source])

    def ticks_until(self, source: str) -> Iterable[Logged]:
        """The logged ticks up to the newest whole snapshot that are there still. Raises NewerStateError."""
        with self._lock:
            if source not in self._newest:
                self.load(source)
            newest = self._newest[source]
            return (
                tick for tick in self._log(source).ticks(None) if newest is not None and tick[0] <= newest
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
        folder = make_folder(self._folder(source))
        write(folder / f"snapshot-{_number(folder):08d}-{time}.safetensors", time, arrays, meta)
        with self._lock:
            self._newest[source] = time
            snapshots = self._snapshots(source)
            with told_as_store_errors("remove old snapshots in", folder):
                for old in snapshots[:-KEPT]:
                    old.unlink(missing_ok=True)
                sync_folder(folder)
            done = _time(snapshots[-KEPT]) if len(snapshots) >= KEPT else -(2**63)
            self._log(source).drop_until(done if keep_from is None else min(done, keep_from - 1))

    def load(self, source: str) -> Loaded | None:
        """The newest snapshot that is whole; None = start afresh. Raises NewerStateError."""
        with self._lock:
            for path in reversed(self._snapshots(source)):
                found = read(path)
                if found is not None:
                    self._newest[source] = found[0]
                    return found
            self._newest[source] = None
            return None

    def sync(self) -> None:
        """Wait until every logged tick is on the disk. Raises StoreError."""
        with self._lock:
            for ticks in self._logs.values():
                ticks.sync()

    def close(self) -> None:
        """Sync and let go."""
        with self._lock:
            for ticks in self._logs.values():
                ticks.close()

    def _folder(self, source: str) -> Path:
        return self.folder / file_name(source)

    def _log(self, source: str) -> TickLog:
        if source not in self._logs:
            self._logs[source] = TickLog(self._folder(source), self.elapsed_ns)
        return self._logs[source]

    def _snapshots(self, source: str) -> list[Path]:
        with told_as_store_errors("read", self._folder(source)):
            return sorted(self._folder(source).glob("snapshot-*.safetensors"))


def write(path: Path, time: int, arrays: State, meta: dict[str, object]) -> None:
    """Write a snapshot, whole or not at all. Raises StoreError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    solid = {name: _storable(name, array) for name, array in arrays.items()}
    sums = {name: _checksum(array) for name, array in solid.items()}
    try:
        about = json.dumps({"time": int(time), "meta": meta, "checksums": sums}, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the snapshot's meta cannot be written as JSON: {error}") from error
    metadata = {"format": str(FORMAT), "about": about, "checksum": str(zlib.crc32(about.encode()))}
    with written_whole(path) as temporary:
        try:
            save_file(solid, temporary, metadata)
        except SafetensorError as error:
            raise _system_error(error) from error


def read(path: Path) -> Loaded | None:
    """A snapshot, or None where it is damaged, as the log then says. Raises NewerStateError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            said = file.metadata() or {}
            _refuse_newer(said, path)
            return _checked(said, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        log.warning("fell back from a damaged snapshot", snapshot=str(path), error=str(error))
        return None


def refuse_newer_snapshot(path: Path) -> None:
    """Raises NewerStateError for a snapshot that a newer program wrote; damage is for `read` to tell."""
    from safetensors import SafetensorError, safe_open

    with suppress(SafetensorError, OSError, KeyError, ValueError), safe_open(path, framework="np") as file:
        _refuse_newer(file.metadata() or {}, path)


def _refuse_newer(said: dict[str, str], path: Path) -> None:
    version = int(said["format"])
    if version > FORMAT:
        raise NewerStateError(
            f"{path} was written by a newer Trimtab (format {version}, this program knows {FORMAT}); "
            "upgrade this program, or give it another folder. Nothing was changed"
        )


def _checked(said: dict[str, str], arrays: dict[str, Any]) -> Loaded:
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


def _storable(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in "fiub" or not array.dtype.isnative:
        raise StoreError(f"the snapshot's array {name!r} is {array.dtype}: numbers or booleans were wanted")
    # safetensors stores the bytes as they lie in memory.
    return np.asarray(array, order="C")


def _system_error(error: Exception) -> OSError:
    """What the system said, a full disk for instance: safetensors has it in its text only."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else errno.EIO, str(error))


def _number(folder: Path) -> int:
    numbers = [int(path.name.split("-")[1]) for path in folder.glob("snapshot-*.safetensors")]
    return max(numbers, default=0) + 1


def _time(snapshot: Path) -> int:
    return int(snapshot.stem.split("-", 2)[2])
