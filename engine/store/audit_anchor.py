"""The end of the audit in a small file of the data folder, so that rows cut off the store are missed."""

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
from trimtab.engine.store.durable_files import make_folder, sync_folder, told_as_store_errors

ANCHOR = "audit.head"
_SLOT_BYTES = 128
_TRIES, _PAUSE_S = 2000, 0.005
_LINE = re.compile(r"^(?P<seq>\d{20}) (?P<hash>[0-9a-f]{64}) (?P<check>[0-9a-f]{16})$")


class AuditAnchor:
    """Two lines of a fixed length, written in turn and in place.

    So a full disk cannot keep it from being written, and a torn write leaves the line before.

    path : the file, made with mode 0600 where it is missing
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self) -> Iterator["Held"]:
        """Keep every other process from changing or reading it meanwhile. Raises StoreError."""
        with told_as_store_errors("open", self.path):
            make_folder(self.path.parent)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with told_as_store_errors("write", self.path):
                _lock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_size == 0:
                    _make(descriptor, self.path.parent)
            yield Held(self.path, descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def seen(self) -> Iterator[Head | None]:
        """The newest head, while nobody writes one; None = there is none, or it is damaged."""
        try:
            with told_as_store_errors("open", self.path):
                descriptor = os.open(self.path, os.O_RDONLY)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            yield None
            return
        try:
            with told_as_store_errors("read", self.path):
                _lock(descriptor, fcntl.LOCK_SH)
            yield Held(self.path, descriptor).read()
        finally:
            os.close(descriptor)


class Held:
    """The file, while nobody else has it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self) -> Head | None:
        """The newest head; None = there is none, or the file was damaged."""
        with told_as_store_errors("read", self.path):
            content = os.pread(self._descriptor, 2 * _SLOT_BYTES, 0)
        slots = (content[at : at + _SLOT_BYTES] for at in (0, _SLOT_BYTES))
        return max((head for head in map(_parsed, slots) if head is not None), default=None)

    def write(self, head: Head) -> None:
        """Make it durable. Raises StoreError."""
        seq, digest = head
        line = f"{seq:020d} {digest} {_check(seq, digest)}"
        with told_as_store_errors("write", self.path):
            os.pwrite(self._descriptor, line.encode().ljust(_SLOT_BYTES, b"\n"), seq % 2 * _SLOT_BYTES)
            os.fsync(self._descriptor)


def _lock(descriptor: int, kind: int) -> None:
    """Wait for it, but not for ever: its holder may stand still."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            Event().wait(_PAUSE_S)
        else:
            return
    raise OSError(errno.EAGAIN, f"another process has held it for {_TRIES * _PAUSE_S:g} s")


def _make(descriptor: int, folder: Path) -> None:
    os.pwrite(descriptor, b"\n" * (2 * _SLOT_BYTES), 0)
    os.fsync(descriptor)
    sync_folder(folder)


def _check(seq: int, digest: str) -> str:
    return hashlib.sha256(f"{seq} {digest}".encode()).hexdigest()[:16]


def _parsed(slot: bytes) -> Head | None:
    found = _LINE.match(slot.decode("ascii", "replace").rstrip("\n"))
    if found is None:
        return None
    head = int(found["seq"]), found["hash"]
    return head if found["check"] == _check(*head) else None
