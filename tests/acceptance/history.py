"""History for a Prometheus: a short recording of an exporter, extended back over two weeks.

Counters keep growing at about their recorded pace, and gauges repeat recorded values. Both vary slowly, as
on a machine in use, and end where the recording begins. Constant values stay constant, and clocks advance.
"""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from tests.servers.prometheus import backfill

DAY_S, BLOCK_S = 86_400, 64_800
"""promtool reads a file once for each 18 h block it touches, so each block gets its own file."""
COARSE_S = 300
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_DRIFT, _SWAY = 0.05, 0.5
"""Slow variation of gauges (share of their mean) and of counter rates (share of their rate)."""


@dataclass
class ExporterRecording:
    """Recorded samples of one target.

    step_s : seconds between scrapes
    rows   : sample name and labels -> one value per scrape, NaN = missing
    types  : metric name -> type
    """

    job: str
    instance: str
    step_s: int
    rows: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def add_scrape(self, text: str, scrape: int) -> None:
        """Add the text of scrape number `look`."""
        for line in text.splitlines():
            if line.startswith("# TYPE"):
                name, kind = line.split()[2:4]
                self.types[name] = kind
            elif match := _SAMPLE.match(line):
                values = self.rows.setdefault((match[1], match[2] or ""), [])
                values += [np.nan] * (scrape - len(values)) + [float(match[3])]

    def is_counter(self, name: str, values: np.ndarray) -> bool:
        """Return whether the values are a counter; a metric without type is one if it never falls."""
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        kind = self.types.get(name) or (self.types[family] if name != family else "untyped")
        rising = bool((np.diff(values[np.isfinite(values)]) >= 0).all())
        return kind == "counter" or name != family or (kind in {"untyped", "unknown"} and rising)


def record_exporter(address: str, job: str, scrape_count: int, step_s: int) -> ExporterRecording:
    """Scrape an exporter every `step_s` seconds."""
    recording = ExporterRecording(job, address, step_s)
    pause = threading.Event()
    with httpx.Client(trust_env=False) as client:
        for scrape in range(scrape_count):
            recording.add_scrape(client.get(f"http://{address}/metrics").text, scrape)
            pause.wait(step_s)
    return recording


def backfill_history(
    directory: Path, recording: ExporterRecording, now_s: int, days: int, fine_s: int
) -> int:
    """Backfill directory/data and return the number of samples.

    Covers `days` at 5 min, and the last `fine_s` seconds at the recorded step.
    """
    directory.mkdir(parents=True, exist_ok=True)
    fine = np.arange(now_s - fine_s, now_s, recording.step_s)
    coarse = np.arange(now_s - days * DAY_S, now_s - fine_s, COARSE_S)
    times = np.concatenate([coarse - coarse % COARSE_S, fine])
    edges = np.flatnonzero(np.diff(times // BLOCK_S)) + 1
    columns = [
        (name, extend_back(values, recording.step_s, times, now_s, grows, seed))
        for seed, (name, values, grows) in enumerate(_series(recording))
    ]
    for part in np.split(np.arange(len(times)), edges):
        file = directory / "history.om"
        with file.open("w") as out:
            for name, column in columns:
                out.writelines(_lines(name, column[part], times[part]))
            out.write("# EOF\n")
        backfill(directory, file)
    return len(times) * len(columns)


def _series(recording: ExporterRecording) -> Iterator[tuple[str, np.ndarray, bool]]:
    for (name, labels), samples in recording.rows.items():
        target_labels = f'job="{recording.job}",instance="{recording.instance}"'
        all_labels = f"{labels.rstrip(',')},{target_labels}" if labels else target_labels
        values = np.array(samples)
        yield f"{name}{{{all_labels}}}", values, recording.is_counter(name, values)


def extend_back(
    recorded: np.ndarray, step_s: int, times: np.ndarray, now_s: int, grows: bool, seed: int
) -> np.ndarray:
    """Extend recorded values back over `times`, which end before `now_s`, when the recording began."""
    rng = np.random.default_rng(seed)
    known = recorded[np.isfinite(recorded)]
    if len(known) < 2:
        return np.full(len(times), known[0] if len(known) else np.nan)
    is_integer = bool((known == np.round(known)).all())
    steps = np.diff(known)
    clock = not grows and bool((steps > 0).all()) and np.ptp(steps) < 0.2 * steps.mean()
    if clock:
        return known[0] - (now_s - times) * steps.mean() / step_s
    if not grows and not steps.any():
        return np.full(len(times), known[0])
    waves = _slow_waves(times, now_s, rng)
    if not grows:
        drift = (_DRIFT * np.abs(known).mean() + known.std()) * waves / 3
        values = _shuffled(known, times // step_s, rng) + drift
        return np.maximum(np.round(values) if is_integer else values, min(0.0, known.min()))
    spans = np.diff(times, append=now_s)
    pace = np.where(spans == step_s, _shuffled(steps, times // step_s, rng), steps.mean() * spans / step_s)
    growth = np.maximum(pace * (1 + _SWAY * waves / 3), 0.0)
    back = np.cumsum((np.round(growth) if is_integer else growth)[::-1])[::-1]
    start_value = max(known[0], back[0])  # otherwise the exporter started just now
    return start_value - back


def _slow_waves(times: np.ndarray, now_s: int, rng: np.random.Generator) -> np.ndarray:
    """Return slow waves with periods of minutes to half a day, 0 at `now_s`."""
    waves = np.zeros(len(times))
    for period_s in (557.0, 7_919.0, 45_361.0):
        phase = 2 * np.pi * rng.random()
        waves += np.sin(2 * np.pi * (times - now_s) / period_s + phase) - np.sin(phase)
    return waves


def _shuffled(known: np.ndarray, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Repeat the recording, each time from another offset."""
    tile, offset = np.divmod(index - index[0], len(known))
    return known[(offset + rng.integers(len(known), size=tile[-1] + 1)[tile]) % len(known)]


def _lines(name: str, column: np.ndarray, times: np.ndarray) -> Iterator[str]:
    for value, at in zip(column.tolist(), times.tolist(), strict=True):
        yield f"{name} {value!r} {at}\n"
