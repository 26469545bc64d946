"""Returns unused memory of this process to the operating system."""

import asyncio
import ctypes
import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from trimtab.engine.ports import Clock

INTERVAL_S = 60.0
MIN_RANGE_BYTES = 1 << 20
"""Smaller ranges are not worth a system call."""
_SMAPS = Path("/proc/self/smaps")
_MADV_DONTNEED = 4


async def release_memory_periodically(clock: Clock) -> None:
    """Release pages every minute until cancelled."""
    while True:
        await clock.sleep_until(clock.now() + int(INTERVAL_S * 1e9))
        await asyncio.to_thread(release_pages)


def release_memory() -> None:
    """Collect garbage and release pages; a first collection is slow with many series."""
    gc.collect()
    release_pages()


def release_pages() -> None:
    """Return freed heap memory and code pages that are no longer needed to the operating system.

    The pages of a library stay resident after their first use: numba's compiler alone takes 70 MB, none of
    which runs once the kernels are loaded. Pages needed again are read from the page cache.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # musl has no malloc_trim
        libc.malloc_trim(0)
    with suppress(OSError), _SMAPS.open() as smaps:  # a sandbox may hide the file
        for start, size in clean_library_ranges(smaps):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_DONTNEED)


def clean_library_ranges(smaps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield start and size in bytes of each large, unmodified library mapping, parsed from /proc/PID/smaps.

    Mappings with modified pages (relocated, or with a breakpoint) are skipped: those could not be read again.
    Only libraries are used, because they are never unmapped.

    >>> lines = ["7f00000-7f80000 r-xp 0 fe:00 7   /lib/libllvm.so", "Rss: 2048 kB", "Anonymous: 0 kB"]
    >>> [(hex(start), size) for start, size in clean_library_ranges(lines)]
    [('0x7f00000', 524288)]
    """
    mapping, resident = (0, 0), 0
    for line in smaps:
        head, *rest = line.split()
        if not head.endswith(":"):
            low, high = (int(end, 16) for end in head.split("-"))
            library = len(rest) > 4 and ".so" in rest[4] and rest[0] in {"r-xp", "r--p"}
            mapping = (low, high - low if library else 0)
        elif head == "Rss:":
            resident = int(rest[0]) * 1024
        elif head == "Anonymous:" and mapping[1] and rest[0] == "0" and resident >= MIN_RANGE_BYTES:
            yield mapping
