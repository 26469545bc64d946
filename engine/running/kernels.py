"""Compiled kernels: kept in the data folder for each kind of processor, made before they are needed.

Run as a program it compiles what its arguments name, for the process that started it.
"""

import asyncio
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import MutableMapping
from importlib.metadata import version
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_CPUINFO = Path("/proc/cpuinfo")
_NS = 1_000_000_000
SCALING = "+capacity"
"""In place of names of detectors: what forecasts a load to be scaled for."""


def cpu_kind() -> str:
    """A short name of what code compiled here depends on: processor and its features, Python, numba."""
    about = [platform.machine(), platform.processor(), sys.version, version("numba"), version("llvmlite")]
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    wanted = ("model name", "flags", "Features", "CPU part")
    about += [line for line in dict.fromkeys(lines) if line.startswith(wanted)]
    return hashlib.blake2b("\n".join(about).encode(), digest_size=8).hexdigest()


def kernel_folder(cache: Path) -> Path:
    """Where kernels for this processor and these sources are kept.

    A kernel holds what it calls from other files, so a change of any of them asks for new ones.
    """
    models = Path(__file__).resolve().parent.parent.parent / "models"
    sources = hashlib.blake2b(digest_size=8)
    for path in sorted(models.rglob("*.py")):
        sources.update(path.read_bytes())
    return cache / "kernels" / f"{cpu_kind()}-{sources.hexdigest()}"


def prepare_environment(data_dir: Path, environ: MutableMapping[str, str]) -> Path:
    """Tell the libraries where they may write, before they are imported; the folder of the kernels.

    What is set already stays. Nothing is written beside the program, so a read-only root is fine; where
    data_dir cannot be written, a private folder that lasts as long as the machine's temporary files serves.
    """
    cache = data_dir / "cache"
    environ.setdefault("NUMBA_CACHE_DIR", str(kernel_folder(cache)))
    folder = Path(environ["NUMBA_CACHE_DIR"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="trimtab-kernels-"))
        environ["NUMBA_CACHE_DIR"] = str(folder)
    for older in folder.parent.glob(f"{cpu_kind()}-*"):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)
    environ.setdefault("NUMBA_NUM_THREADS", "1")
    environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder


async def compile_apart(folder: Path, detectors: tuple[str, ...]) -> None:
    """Compile into the folder in a process of its own, unless that was done before.

    A compiler takes a hundred megabytes that it does not give back, and holds up everything beside it.
    """
    done = folder / f"compiled-{'-'.join(detectors)}"
    if done.exists():
        return
    log.info("compiling kernels, once for this processor")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *detectors, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode == 0:
        done.touch()
    else:
        said = errors.decode(errors="replace").strip().splitlines()[-1:]
        log.warning("kernels could not be compiled apart, compiling here", why=" ".join(said))


async def compile_scaling() -> None:
    """What scaling ahead of a load needs; beside all else, which does not wait for it."""
    import numba

    await compile_apart(Path(numba.config.CACHE_DIR), (SCALING,))


def warm_kernels(detectors: tuple[str, ...]) -> float:
    """Load, or compile on a first start, what a tick and its history need; the seconds that it took."""
    import numpy as np

    from trimtab.engine.sensing.scoring import SourceScoring
    from trimtab.engine.sensing.series import SeriesTable
    from trimtab.engine.types import History, SeriesKey

    begin = time.perf_counter()
    if SCALING in detectors:
        from trimtab.models.scaling.ahead import LoadAhead

        LoadAhead(60.0, (180.0,), 0.9).begin(np.arange(2.0 * 1440.0) % 7.0)
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
    warm_kernels(tuple(sys.argv[1:]))
