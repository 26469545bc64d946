"""A past for a Prometheus: a short recording of an exporter's real figures, tiled back over two weeks.

Counters keep growing through the tiles by what they were really seen to grow, as does a clock. Gauges repeat
what was recorded, on a slow drift of a few percent, as memory and disks have it over days.
"""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from tests.servers import backfill

DAY_S, BLOCK_S = 86_400, 64_800
"""promtool reads a file once for each block of 18 h that it touches, so each block gets a file of its own."""
COARSE_S = 300
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_DRIFT = 0.03


@dataclass
class Recording:
    """Figures of one target.

    rows : sample name with labels -> values, one a second, NaN = not shown
    """

    job: str
    instance: str
    rows: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    counters: set[str] = field(default_factory=set)

    def take(self, text: str, second: int) -> None:
        """Add what the exporter shows now."""
        for line in text.splitlines():
            if line.startswith("# TYPE") and line.endswith((" counter", " histogram", " summary")):
                self.counters.add(line.split()[2])
            elif found := _SAMPLE.match(line):
                values = self.rows.setdefault((found[1], found[2] or ""), [])
                values += [np.nan] * (second - len(values)) + [float(found[3])]


def record(address: str, job: str, seconds: int) -> Recording:
    """Look at an exporter once a second."""
    recording = Recording(job, address)
    pause = threading.Event()
    with httpx.Client(trust_env=False) as client:
        for second in range(seconds):
            recording.take(client.get(f"http://{address}/metrics").text, second)
            pause.wait(1.0)
    return recording


def tile_back(directory: Path, recordings: list[Recording], now_s: int, days: int, fine_s: int) -> int:
    """Backfill directory/data with `days` at 5 min, the last `fine_s` at 1 s; the number of samples."""
    directory.mkdir(parents=True, exist_ok=True)
    fine_from = now_s - fine_s
    coarse = np.arange(now_s - days * DAY_S, fine_from, COARSE_S)
    times = np.concatenate([coarse - coarse % COARSE_S, np.arange(fine_from, now_s)])
    edges = np.flatnonzero(np.diff(times // BLOCK_S)) + 1
    columns = [(name, tiled(values, times, now_s, kind)) for name, values, kind in _series(recordings)]
    for part in np.split(np.arange(len(times)), edges):
        file = directory / "history.om"
        with file.open("w") as out:
            for name, column in columns:
                out.writelines(_lines(name, column[part], times[part]))
            out.write("# EOF\n")
        backfill(directory, file)
    return len(times) * len(columns)


def _series(recordings: list[Recording]) -> Iterator[tuple[str, np.ndarray, str]]:
    for recording in recordings:
        for (name, labels), values in recording.rows.items():
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            own = f'job="{recording.job}",instance="{recording.instance}"'
            inside = f"{labels.rstrip(',')},{own}" if labels else own
            counter = name in recording.counters or (name != family and family in recording.counters)
            yield f"{name}{{{inside}}}", np.array(values), "counter" if counter else "gauge"


def tiled(recorded: np.ndarray, times: np.ndarray, now_s: int, kind: str) -> np.ndarray:
    """The recorded values carried back over `times`, which end before now_s, when the recording began."""
    known = recorded[np.isfinite(recorded)]
    steps = np.diff(known)
    if not steps.any():
        return np.full(len(times), known[0])
    clock = (steps > 0).all() and np.ptp(steps) < 0.2 * steps.mean()
    if kind == "counter" or clock:
        grown = np.concatenate([[0.0], np.cumsum(steps)])
        rounds, into = np.divmod(now_s - times, len(steps))
        back = rounds * grown[-1] + grown[-1] - grown[len(steps) - into]
        began = known[0] if clock or known[0] >= back[0] else back[0]  # else the exporter started only now
        return began - back
    drift = _DRIFT * np.abs(known).mean() * np.sin(2 * np.pi * times / (0.37 * DAY_S))
    return known[times % len(known)] + drift


def _lines(name: str, column: np.ndarray, times: np.ndarray) -> Iterator[str]:
    for value, at in zip(column.tolist(), times.tolist(), strict=True):
        yield f"{name} {value!r} {at}\n"
