"""Lease on a data folder: one engine at a time, and an epoch that increases with each one."""

import fcntl
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from trimtab.engine.errors import LockedError, StoreError
from trimtab.engine.store.durable_files import make_folder, translate_os_errors, write_bytes_atomically
from trimtab.engine.types import iso

LOCK_FILE, ADDRESS_FILE = "trimtab.lock", "address"
"""Files of the data folder: the lock with its holder, and the address of the engine's API."""


class FolderLease:
    """A file lock that ends with its process, and a durable epoch counter.

    The lock excludes a second engine. The epoch fences the writes of a process that lost its lock
    without noticing (lock file removed by hand, network file system).

    folder : data folder; created if it is missing
    now    : returns the current time, int64 ns UTC
    """

    def __init__(self, folder: Path, now: Callable[[], int]) -> None:
        self.folder = folder
        self.now = now
        self.epoch = 0
        self._descriptor: int | None = None

    @property
    def lock_file(self) -> Path:
        """File with process id, host and start time of the holder."""
        return self.folder / LOCK_FILE

    @property
    def epoch_file(self) -> Path:
        """File with the epoch of the newest holder."""
        return self.folder / "epoch"

    def acquire(self, previous_epoch: int = 0) -> int:
        """Acquire the lease and return the new epoch, larger than `previous_epoch` and any earlier epoch.

        Raises LockedError if another process holds the lease, StoreError if the disk fails.
        """
        make_folder(self.folder)
        with translate_os_errors("lock", self.lock_file):
            self._descriptor = self._open_locked()
            self._write_holder()
        try:
            self.epoch = max(self._stored_epoch(), previous_epoch) + 1
            write_bytes_atomically(self.epoch_file, f"{self.epoch}\n".encode())
        except BaseException:
            self.release()
            raise
        return self.epoch

    def release(self) -> None:
        """Release the lease; no effect if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _open_locked(self) -> int:
        while True:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current_file(descriptor):
                    return descriptor
            except BlockingIOError:
                raise self._locked_error(descriptor) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _is_current_file(self, descriptor: int) -> bool:
        try:
            current = self.lock_file.stat()
        except FileNotFoundError:
            return False
        locked = os.fstat(descriptor)
        return (current.st_dev, current.st_ino) == (locked.st_dev, locked.st_ino)

    def _locked_error(self, descriptor: int) -> LockedError:
        try:
            holder = _read_holder(descriptor)
        finally:
            os.close(descriptor)
        stop = f"stop it (kill {holder.pid})" if holder.pid else "stop it"
        return LockedError(
            f"{self.folder} is in use by {holder}: only one engine can use a data folder; "
            f"{stop}, or choose another folder (--data DIR)"
        )

    def _write_holder(self) -> None:
        assert self._descriptor is not None  # noqa: S101 - only called by acquire, after locking
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": iso(self.now())}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)

    def _stored_epoch(self) -> int:
        with translate_os_errors("read", self.epoch_file):
            text = self.epoch_file.read_text() if self.epoch_file.exists() else "0"
        try:
            return int(text)
        except ValueError:
            raise StoreError(
                f"{self.epoch_file} contains {text[:40]!r} instead of a number; "
                "remove the file: the database also stores the newest epoch"
            ) from None


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The process that holds a lease. pid 0 = it has not written its identity yet."""

    pid: int = 0
    host: str = ""
    started: str = ""

    def __str__(self) -> str:
        if not self.pid:
            return "another process, which has not written its identity yet"
        return f"process {self.pid} on {self.host}, since {self.started}"


def current_holder(folder: Path) -> LeaseHolder | None:
    """Return the engine that holds the lease on a data folder; None if there is none. Changes nothing."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _read_holder(descriptor: int) -> LeaseHolder:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return LeaseHolder(int(holder["pid"]), str(holder["host"]), str(holder["started"]))
    except (ValueError, KeyError, TypeError):
        return LeaseHolder()
