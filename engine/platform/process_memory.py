"""Memory that is not needed any more, given back to the system."""

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
"""What is smaller is not worth a call."""
_SMAPS = Path("/proc/self/smaps")
_MADV_DONTNEED = 4


async def release_memory_periodically(clock: Clock) -> None:
    """Give back, now and again, what the start, a store or a sink needed once; until it is cancelled."""
    while True:
        await clock.sleep_until(clock.now() + int(INTERVAL_S * 1e9))
        await asyncio.to_thread(release_pages)


def release_memory() -> None:
    """Collect what nobody holds, and return the memory; the first takes long where there are many series."""
    gc.collect()
    release_pages()


def release_pages() -> None:
    """Return memory that was let go, which the C library keeps unless told, and code that did its work.

    A library's code counts as resident from its first use on: numba's compiler alone is 70 MB, of which
    nothing runs once the kernels are there. What is wanted again comes from the page cache.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # musl has none
        libc.malloc_trim(0)
    with suppress(OSError), _SMAPS.open() as smaps:  # a sandbox may hide it
        for start, size in clean_library_ranges(smaps):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_DONTNEED)


def clean_library_ranges(smaps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Start and size in bytes of each large part of a library that is as its file has it, by /proc/PID/smaps.

    A part of which any page was written (relocated, or a breakpoint) is left alone: nothing could bring it
    back. Libraries only, for nobody unloads them: what stands at an address stays what it was.

    >>> lines = ["7f00000-7f80000 r-xp 0 fe:00 7   /lib/libllvm.so", "Rss: 2048 kB", "Anonymous: 0 kB"]
    >>> [(hex(start), size) for start, size in unchanged(lines)]
    [('0x7f00000', 524288)]
    """
    place, resident = (0, 0), 0
    for line in smaps:
        first, *rest = line.split()
        if not first.endswith(":"):
            low, high = (int(end, 16) for end in first.split("-"))
            library = len(rest) > 4 and ".so" in rest[4] and rest[0] in {"r-xp", "r--p"}
            place = (low, high - low if library else 0)
        elif first == "Rss:":
            resident = int(rest[0]) * 1024
        elif first == "Anonymous:" and place[1] and rest[0] == "0" and resident >= MIN_RANGE_BYTES:
            yield place
