"""Audit anchor: the head of the audit chain in a small file, so that deleted trailing rows are detected."""

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from trimtab.engine.audit.hash_chain import Head
from trimtab.engine.errors import StoreError
from trimtab.engine.store.durable_files import make_folder, sync_folder, translate_os_errors

ANCHOR_FILE = "audit.head"
_SLOT_BYTES = 128
_LOCK_ATTEMPTS, _LOCK_RETRY_S = 2000, 0.005
_LINE = re.compile(r"^(?P<seq>\d{20}) (?P<hash>[0-9a-f]{64}) (?P<check>[0-9a-f]{16})$")


class AuditAnchor:
    """File with two fixed-length slots that are overwritten alternately.

    Writing in place works on a full disk, and an interrupted write leaves the previous slot intact.

    path : the file; created with mode 0600 if it is missing
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def write_locked(self) -> Iterator["LockedAnchor"]:
        """Open the file under an exclusive lock. Raises StoreError."""
        with translate_os_errors("open", self.path):
            make_folder(self.path.parent)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with translate_os_errors("write", self.path):
                _lock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_size == 0:
                    _initialize(descriptor, self.path.parent)
            yield LockedAnchor(self.path, descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def read_locked(self) -> Iterator[Head | None]:
        """Yield the newest head under a shared lock; None if there is none or the file is damaged."""
        try:
            with translate_os_errors("open", self.path):
                descriptor = os.open(self.path, os.O_RDONLY)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            yield None
            return
        try:
            with translate_os_errors("read", self.path):
                _lock(descriptor, fcntl.LOCK_SH)
            yield LockedAnchor(self.path, descriptor).read()
        finally:
            os.close(descriptor)


class LockedAnchor:
    """The anchor file while this process holds its lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self) -> Head | None:
        """Return the newest head; None if there is none or the file is damaged."""
        with translate_os_errors("read", self.path):
            content = os.pread(self._descriptor, 2 * _SLOT_BYTES, 0)
        slots = (content[at : at + _SLOT_BYTES] for at in (0, _SLOT_BYTES))
        return max((head for head in map(_parse_slot, slots) if head is not None), default=None)

    def write(self, head: Head) -> None:
        """Write a head durably. Raises StoreError."""
        seq, digest = head
        line = f"{seq:020d} {digest} {_line_checksum(seq, digest)}"
        with translate_os_errors("write", self.path):
            os.pwrite(self._descriptor, line.encode().ljust(_SLOT_BYTES, b"\n"), seq % 2 * _SLOT_BYTES)
            os.fsync(self._descriptor)


def _lock(descriptor: int, kind: int) -> None:
    """Lock the file; give up after a bounded time, because the holder may hang."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            Event().wait(_LOCK_RETRY_S)
        else:
            return
    raise OSError(errno.EAGAIN, f"another process has held the lock for {_LOCK_ATTEMPTS * _LOCK_RETRY_S:g} s")


def _initialize(descriptor: int, folder: Path) -> None:
    os.pwrite(descriptor, b"\n" * (2 * _SLOT_BYTES), 0)
    os.fsync(descriptor)
    sync_folder(folder)


def _line_checksum(seq: int, digest: str) -> str:
    return hashlib.sha256(f"{seq} {digest}".encode()).hexdigest()[:16]


def _parse_slot(slot: bytes) -> Head | None:
    match = _LINE.match(slot.decode("ascii", "replace").rstrip("\n"))
    if match is None:
        return None
    head = int(match["seq"]), match["hash"]
    return head if match["check"] == _line_checksum(*head) else None
