"""Atomic, durable file writes, and OS errors converted to StoreError with advice."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from trimtab.engine.errors import StoreError

_ADVICE = {
    errno.ENOSPC: "the disk is full: free space, or lower retention.size_bytes",
    errno.EDQUOT: "the disk quota is used up: free space, or lower retention.size_bytes",
    errno.EFBIG: "the file size limit of this process is reached: raise it (ulimit -f)",
    errno.EROFS: "the file system is read-only: remount it, or choose another folder (--data DIR)",
    errno.EACCES: "this user may not write there: change the owner, or choose another folder (--data DIR)",
    errno.EPERM: "this user may not write there: change the owner, or choose another folder (--data DIR)",
    errno.ENOENT: "the folder no longer exists: restore it and restart",
    errno.ENOTDIR: "a file has the name of a folder: choose another folder (--data DIR)",
    errno.EIO: "the disk reports errors: check the kernel log, and restore from a backup",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}


def process_label() -> str:
    """Return "host:pid" of this process, as stored with the lease."""
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def translate_os_errors(operation: str, path: Path) -> Iterator[None]:
    """Convert an OSError raised inside the block into StoreError with the path and advice.

    operation : the verb for the message "cannot <operation> <path>"
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check the disk and the permissions of this folder")
        raise StoreError(f"cannot {operation} {path}: {error.strerror or error}; {advice}") from error


def make_folder(folder: Path) -> Path:
    """Create a folder with mode 0700 if it is missing, and return it. Raises StoreError."""
    with translate_os_errors("make the folder", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that renames and removals in it survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success, sync it and rename it to `path`.

    Readers see the old or the new file, never a partial one. On failure the temporary file is removed.
    Raises StoreError.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with translate_os_errors("write", path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a small file atomically. Raises StoreError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def remove_temporary_files(folder: Path) -> None:
    """Remove temporary files of killed processes. Only the lease holder may call this."""
    for leftover in folder.glob("*.tmp"):
        leftover.unlink(missing_ok=True)


def safe_file_name(name: str) -> str:
    """Return a name as a file name without path separators and dots (percent-encoded).

    >>> safe_file_name("prometheus"), safe_file_name("../etc")
    ('prometheus', '%2E%2E%2Fetc')
    """
    return quote(name, safe="").replace(".", "%2E")
