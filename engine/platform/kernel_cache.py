"""Cache folder of compiled kernels: one folder per user, processor type and version of the sources.

Engines share the folder. A lock serialises compilation; a manifest with the digests of all files marks a
complete cache. Broken files are deleted and compiled again; folders in use are never removed.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import orjson

UNUSED_RETENTION_S = 30 * 86_400.0
"""Seconds since the last use after which folders of other processors, sources and libraries are deleted."""
_CPUINFO = Path("/proc/cpuinfo")
_MODELS_DIR = Path(__file__).resolve().parent.parent.parent / "models"
_USED_STAMP = "used"


def cpu_fingerprint() -> str:
    """Return a short digest of what compiled code depends on: processor features, Python, numba."""
    facts = [platform.machine(), platform.processor(), sys.version, version("numba"), version("llvmlite")]
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    prefixes = ("model name", "flags", "Features", "CPU part")
    facts += [line for line in dict.fromkeys(lines) if line.startswith(prefixes)]
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=8).hexdigest()


def kernel_folder(cache: Path) -> Path:
    """Return the cache folder for this processor and these sources.

    A kernel contains the code it calls from other files, so a change of any source file asks for a new
    folder.
    """
    sources = hashlib.blake2b(digest_size=8)
    for path in sorted(_MODELS_DIR.rglob("*.py")):
        sources.update(path.read_bytes())
    return cache / "kernels" / f"{cpu_fingerprint()}-{sources.hexdigest()}"


def cache_roots(data_dir: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield possible cache roots, best first: the user's cache, then the data folder.

    >>> [str(root) for root in cache_roots(Path("/data"), {"XDG_CACHE_HOME": "/c", "HOME": "/ann"})]
    ['/c/trimtab', '/data/cache']
    >>> [str(root) for root in cache_roots(Path("/data"), {"HOME": "/ann"})]
    ['/ann/.cache/trimtab', '/data/cache']
    """
    xdg_cache, home = Path(environ.get("XDG_CACHE_HOME", "")), Path(environ.get("HOME", ""))
    if xdg_cache.is_absolute():
        yield xdg_cache / "trimtab"
    elif home.is_absolute():
        yield home / ".cache" / "trimtab"
    yield data_dir / "cache"


def is_private(folder: Path) -> bool:
    """Return whether only this user may write to the folder: its files are executed as code."""
    stat = folder.stat()
    return stat.st_uid == os.getuid() and not stat.st_mode & 0o022


def mark_used(folder: Path) -> None:
    """Record that the folder is in use. Raises OSError."""
    (folder / _USED_STAMP).touch()


def remove_unused(folder: Path) -> None:
    """Delete the sibling folders that were not used for a long time. Raises OSError."""
    for other in folder.parent.iterdir():
        with suppress(OSError):  # another process removed it
            stamp = other / _USED_STAMP if (other / _USED_STAMP).exists() else other
            if other != folder and time.time() - stamp.stat().st_mtime > UNUSED_RETENTION_S:
                shutil.rmtree(other, ignore_errors=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the exclusive lock of the folder. Blocks; the lock ends with the process."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def manifest_path(folder: Path, detectors: tuple[str, ...]) -> Path:
    """Return the path of the manifest for these detectors and this installation.

    The compiler identifies sources by their path, and some of its versions by their modification time.
    """
    state = [str(_MODELS_DIR), *(str(path.stat().st_mtime_ns) for path in sorted(_MODELS_DIR.rglob("*.py")))]
    digest = hashlib.blake2b("\n".join(state).encode(), digest_size=6).hexdigest()
    return folder / f"compiled-{'-'.join(detectors)}-{digest}"


def is_complete(manifest: Path) -> bool:
    """Return whether all files of the manifest exist unchanged."""
    expected = _read_manifest(manifest)
    return bool(expected) and all(_file_digest(path) == digest for path, digest in expected.items())


def delete_changed(manifest: Path) -> None:
    """Delete machine code that differs from the manifest; an index file may have grown. Raises OSError."""
    for path, digest in _read_manifest(manifest).items():
        if path.suffix == ".nbc" and _file_digest(path) != digest:
            path.unlink(missing_ok=True)


def _read_manifest(manifest: Path) -> dict[Path, str]:
    """Return path -> digest of a manifest; empty if it cannot be read."""
    try:
        return {
            manifest.parent / name: digest
            for name, digest in dict(orjson.loads(manifest.read_bytes())).items()
        }
    except (OSError, ValueError, TypeError):
        return {}


def write_manifest(manifest: Path) -> None:
    """Write a manifest of all compiled files that exist now. Raises OSError."""
    digests = {
        str(path.relative_to(manifest.parent)): _file_digest(path) for path in compiled_files(manifest.parent)
    }
    temporary = manifest.with_name(f".{manifest.name}.{os.getpid()}")
    temporary.write_bytes(orjson.dumps(digests))
    temporary.replace(manifest)


def delete_kernels(folder: Path) -> bool:
    """Delete all kernels and manifests; return whether there were any. Blocks."""
    with lock_folder(folder):
        paths = [*compiled_files(folder), *folder.glob("compiled-*")]
        for path in paths:
            path.unlink(missing_ok=True)
    return bool(paths)


def compiled_files(folder: Path) -> list[Path]:
    """Return the files written by the compiler."""
    return [path for path in folder.rglob("*") if path.suffix in {".nbc", ".nbi"}]


def _file_digest(path: Path) -> str:
    """Return the digest of a file; "" = it cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
