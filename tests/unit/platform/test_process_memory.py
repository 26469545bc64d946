"""Memory returned to the operating system."""

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from tests.fakes.ports import FakeClock
from trimtab.engine.platform import process_memory
from trimtab.engine.platform.process_memory import (
    INTERVAL_S,
    clean_library_ranges,
    release_memory,
    release_memory_periodically,
)


def smaps_entry(perm="r-xp", resident=2048, written=0, name="/lib/libllvm.so.20"):
    """Return one mapping in the format of /proc/PID/smaps."""
    head = f"7f0000000000-7f0000400000 {perm} 00000000 fe:00 12   {name}".rstrip()
    return [head, "Size: 4096 kB", f"Rss: {resident} kB", f"Anonymous: {written} kB", "VmFlags: rd ex"]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (smaps_entry(), 1),
        (smaps_entry(perm="r--p"), 1),  # tables of constants
        (smaps_entry(perm="rw-p"), 0),  # variables
        (smaps_entry(written=4), 0),  # relocated, or a breakpoint
        (smaps_entry(resident=1020), 0),  # too small
        (smaps_entry(name=""), 0),  # compiled kernels have no file
        (smaps_entry(name="/data/scores/host.parquet"), 0),  # may be unmapped at any time
        (smaps_entry(perm="r--s"), 0),  # shared mapping
        (smaps_entry(name="") + smaps_entry(), 1),
        (smaps_entry() + smaps_entry(written=8) + smaps_entry(perm="r--p"), 2),
    ],
)
def test_only_unmodified_library_mappings_are_released(lines, found):
    """Mappings that cannot be read again unchanged are kept."""
    assert list(clean_library_ranges(lines)) == [(0x7F0000000000, 4 << 20)] * found


@pytest.mark.skipif(sys.platform != "linux", reason="shows what it holds in /proc only on Linux")
def test_released_compiler_code_still_works():
    """The compiler's code is no longer resident after a release, and compiles again."""

    def tripled(x):
        return 3.0 * x

    njit(tripled)(np.ones(3))
    before = _resident_compiler_kb()
    release_memory()
    assert _resident_compiler_kb() < before / 4
    assert njit(lambda x: 4.0 * x)(2.0) == 8.0


def _resident_compiler_kb() -> int:
    """Return the resident size of the compiler's code in kB."""
    total, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if not first.endswith(":"):
            here = "libllvmlite" in line and " r-xp " in line
        elif first == "Rss:" and here:
            total += int(line.split()[1])
    return total


async def test_memory_is_released_every_minute(monkeypatch):
    """Pages are released at each interval."""
    clock, released = FakeClock(), []

    async def at_once(work):
        work()

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    monkeypatch.setattr(process_memory, "release_pages", lambda: released.append(clock.now()))
    begin = clock.now()
    work = asyncio.create_task(release_memory_periodically(clock))
    await clock.advance(2.5 * INTERVAL_S)
    work.cancel()
    assert [(at - begin) / 1e9 for at in released] == [INTERVAL_S, 2 * INTERVAL_S]
