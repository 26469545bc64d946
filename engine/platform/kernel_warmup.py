"""Compiled kernels: made once for a user, in a process of its own, before they are needed.

Run as a program it compiles what its arguments name, for the process that started it.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

import structlog

from trimtab.engine.platform import kernel_cache
from trimtab.engine.platform.kernel_cache import (
    cache_roots,
    is_complete,
    kernel_folder,
    lock_folder,
    manifest_path,
    write_manifest,
)

log = structlog.get_logger(__name__)

_NS = 1_000_000_000
CAPACITY_KERNELS = "+capacity"
"""In place of names of detectors: what forecasts a load to be scaled for."""


def prepare_environment(data_dir: Path, environ: MutableMapping[str, str]) -> Path:
    """Tell the libraries where they may write, before they are imported; the folder of the kernels.

    What is set already stays. Nothing is written beside the program, so a read-only root is fine; where
    neither this user's cache nor data_dir can be written, a private folder that lasts as long as the
    machine's temporary files serves.
    """
    given = "NUMBA_CACHE_DIR" in environ
    if given:
        wanted = [Path(environ["NUMBA_CACHE_DIR"])]
    else:
        wanted = [kernel_folder(root) for root in cache_roots(data_dir, environ)]
    folder = next((one for one in wanted if _is_usable(one)), None)
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="trimtab-kernels-"))
    elif not given:  # what stands beside a folder that a person named is theirs
        with suppress(OSError):
            kernel_cache.remove_unused(folder)
    environ["NUMBA_CACHE_DIR"] = str(folder)
    environ.setdefault("NUMBA_NUM_THREADS", "1")
    environ.setdefault("MPLCONFIGDIR", str(data_dir / "cache" / "matplotlib"))
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder


def _is_usable(folder: Path) -> bool:
    """Whether kernels can be kept there, by us alone; it is in use then."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if not kernel_cache.is_private(folder):
            return False
        kernel_cache.mark_used(folder)
    except OSError:
        return False
    return True


async def compile_in_subprocess(folder: Path, detectors: tuple[str, ...]) -> None:
    """Compile into the folder in a process of its own, unless that was done before and all of it is whole.

    A compiler takes a hundred megabytes that it does not give back, and holds up everything beside it. Where
    what is there cannot be used it is thrown away, and compiled anew.
    """
    if await asyncio.to_thread(lambda: is_complete(manifest_path(folder, detectors))):
        return
    log.info("compiling kernels, once for this user and processor")
    why = await _run_compiler(folder, detectors)
    thrown: bool = bool(why) and await asyncio.to_thread(kernel_cache.delete_kernels, folder)
    if thrown:
        log.warning("kept kernels cannot be used, they are made anew", why=why)
        why = await _run_compiler(folder, detectors)
    if why:
        log.warning("kernels could not be compiled apart, compiling here", why=why)


async def _run_compiler(folder: Path, detectors: tuple[str, ...]) -> str:
    """What went wrong; "" = it is done."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *detectors, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, start_new_session=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
    )  # fmt: skip
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode == 0:
        return ""
    said = errors.decode(errors="replace").strip().splitlines()[-1:]
    return " ".join(said) or f"the compiler ended with {process.returncode}"


def compile_and_mark(folder: Path, detectors: tuple[str, ...]) -> None:
    """Compile what is not there yet, while others wait, and mark it as whole. Blocks."""
    with lock_folder(folder):
        mark = manifest_path(folder, detectors)
        if not is_complete(mark):
            kernel_cache.delete_changed(mark)
            warm_kernels(detectors)
            write_manifest(mark)


async def compile_capacity_kernels() -> None:
    """What scaling ahead of a load needs; beside all else, which does not wait for it."""
    await compile_in_subprocess(Path(os.environ["NUMBA_CACHE_DIR"]), (CAPACITY_KERNELS,))


def warm_kernels(detectors: tuple[str, ...]) -> float:
    """Load, or compile on a first start, what a tick and its history need; the seconds that it took."""
    import numpy as np

    from trimtab.engine.detection.series_table import SeriesTable
    from trimtab.engine.detection.source_scoring import SourceScoring
    from trimtab.engine.types import History, SeriesKey

    begin = time.perf_counter()
    if CAPACITY_KERNELS in detectors:
        from trimtab.models.scaling.load_ahead import LoadAhead

        LoadAhead(60.0, (180.0,), 0.9).fit(np.arange(2.0 * 1440.0) % 7.0)
        return time.perf_counter() - begin
    table = SeriesTable("warm")
    scoring = SourceScoring(table, 5.0, detectors)
    keys = (SeriesKey("warm", "a"), SeriesKey("warm", "b"))
    for coarse, step_s in ((True, 300.0), (False, 5.0)):
        times = np.arange(1, 4, dtype=np.int64) * round(step_s * _NS)
        scoring.warm(History(step_s, keys, times, np.zeros((3, 2)), coarse))
    x = np.zeros(scoring.scorer.n_series)
    scoring.scorer.step(x, 60 * _NS, np.ones(len(x), np.bool_))
    scoring.learning_ticks()
    seconds = time.perf_counter() - begin
    log.info("kernels are ready", seconds=round(seconds, 3), pid=os.getpid())
    return seconds


if __name__ == "__main__":
    compile_and_mark(Path(os.environ["NUMBA_CACHE_DIR"]), tuple(sys.argv[1:]))
