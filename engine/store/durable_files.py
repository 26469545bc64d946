"""Files that are whole or not there, and errors of the disk that say what to do."""

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
    errno.ENOENT: "the folder is gone: restore it and start again",
    errno.ENOTDIR: "a file stands where a folder should: choose another folder (--data DIR)",
    errno.EIO: "the disk reports errors: look at the kernel log, and restore from a backup",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}


def process_label() -> str:
    """Host and process id, as other engines are told of it."""
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def translate_os_errors(operation: str, path: Path) -> Iterator[None]:
    """Raise StoreError for an OSError inside, with the path and what to do.

    doing : what failed, as in "cannot <doing> <path>"
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "look at the disk and at the rights on this folder")
        raise StoreError(f"cannot {operation} {path}: {error.strerror or error}; {advice}") from error


def make_folder(folder: Path) -> Path:
    """The folder, made for this user only where it is missing. Raises StoreError."""
    with translate_os_errors("make the folder", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to; on success the file is synced and takes its name.

    A reader sees the file as it was or as it will be; whatever fails, nothing half-written is left.
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
    """Write a small file at once; see `written_whole`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def remove_temporary_files(folder: Path) -> None:
    """Remove what a process that was killed had not finished writing. Only for the lease's holder."""
    for leftover in folder.glob("*.tmp"):
        leftover.unlink(missing_ok=True)


def safe_file_name(name: str) -> str:
    """A name of ours as a file name, free of separators and dots.

    >>> file_name("prometheus"), file_name("../etc")
    ('prometheus', '%2E%2E%2Fetc')
    """
    return quote(name, safe="").replace(".", "%2E")
