"""Compiles kernels in a child process before they are needed, once per user.

`python -m trimtab.engine.platform.kernel_warmup DETECTOR...` is that child process.
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
"""Used instead of detector names: the kernels of capacity forecasts."""


def prepare_environment(data_dir: Path, environ: MutableMapping[str, str]) -> Path:
    """Set the cache folders of libraries before they are imported; return the folder of the kernels.

    Variables that are set already stay. Nothing is written next to the program, so a read-only root file
    system works. If neither the user's cache nor `data_dir` is writable, a private temporary folder is used.
    """
    is_given = "NUMBA_CACHE_DIR" in environ
    if is_given:
        candidates = [Path(environ["NUMBA_CACHE_DIR"])]
    else:
        candidates = [kernel_folder(root) for root in cache_roots(data_dir, environ)]
    folder = next((path for path in candidates if _is_usable(path)), None)
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="trimtab-kernels-"))
    elif not is_given:  # siblings of a folder that the user chose are not ours to delete
        with suppress(OSError):
            kernel_cache.remove_unused(folder)
    environ["NUMBA_CACHE_DIR"] = str(folder)
    environ.setdefault("NUMBA_NUM_THREADS", "1")
    environ.setdefault("MPLCONFIGDIR", str(data_dir / "cache" / "matplotlib"))
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder


def prepare_default_environment() -> None:
    """Call `prepare_environment` with the default data folder and the environment of this process."""
    from trimtab.engine.settings import General

    prepare_environment(General().data_dir.expanduser(), os.environ)


def _is_usable(folder: Path) -> bool:
    """Return whether kernels can be kept in the folder, writable by this user only; marks it as used."""
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
    """Compile the kernels of the detectors in a child process, unless a complete cache exists.

    The compiler takes a hundred megabytes that it never returns, and blocks other work. Unusable kernels are
    deleted and compiled again.
    """
    if await asyncio.to_thread(lambda: is_complete(manifest_path(folder, detectors))):
        return
    log.info("compiling_kernels")
    reason = await _run_compiler(folder, detectors)
    is_deleted: bool = bool(reason) and await asyncio.to_thread(kernel_cache.delete_kernels, folder)
    if is_deleted:
        log.warning("cached_kernels_unusable", reason=reason)
        reason = await _run_compiler(folder, detectors)
    if reason:
        log.warning("kernel_process_failed", reason=reason)


async def _run_compiler(folder: Path, detectors: tuple[str, ...]) -> str:
    """Run the compiler process; return its error, "" = success."""
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
    last_lines = errors.decode(errors="replace").strip().splitlines()[-1:]
    return " ".join(last_lines) or f"the compiler ended with {process.returncode}"


def compile_and_mark(folder: Path, detectors: tuple[str, ...]) -> None:
    """Compile missing kernels under the lock and write the manifest. Blocks."""
    with lock_folder(folder):
        mark = manifest_path(folder, detectors)
        if not is_complete(mark):
            kernel_cache.delete_changed(mark)
            warm_kernels(detectors)
            write_manifest(mark)


async def compile_capacity_kernels() -> None:
    """Compile the kernels of capacity forecasts in the background."""
    await compile_in_subprocess(Path(os.environ["NUMBA_CACHE_DIR"]), (CAPACITY_KERNELS,))


def warm_kernels(detectors: tuple[str, ...]) -> float:
    """Load the kernels of a tick and its history, or compile them; return the seconds it took."""
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
        scoring.warm_up(History(step_s, keys, times, np.zeros((3, 2)), coarse))
    x = np.zeros(scoring.scorer.n_series)
    scoring.scorer.step(x, 60 * _NS, np.ones(len(x), np.bool_))
    scoring.learning_ticks()
    seconds = time.perf_counter() - begin
    log.info("kernels_ready", seconds=round(seconds, 3), pid=os.getpid())
    return seconds


if __name__ == "__main__":
    compile_and_mark(Path(os.environ["NUMBA_CACHE_DIR"]), tuple(sys.argv[1:]))
