"""What was forecast an hour before it came, kept for a day, to be held against what came."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.models.contracts import Floats, Ints
from trimtab.pipelines.io.stored_forecasts import QUANTILES, StoredForecasts

LEAD_S, RETENTION_S = 3600.0, 86_400.0
SHOWN_QUANTILES = (0.05, 0.5, 0.95)
MAX_CELLS, MIN_ROWS = 200_000, 12
"""Rows times series that are kept, 4 MB of them; where series are many it is less than a day."""
PAST_FORECASTS_FILE = "before.safetensors"
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PastForecasts:
    """Of one series. time : (n,) int64 ns UTC, oldest first;  values : (3, n), of the quantiles `SHOWN`."""

    lead_s: float
    time: Ints
    values: Floats


def record_forecasts(path: Path, ahead: StoredForecasts) -> None:
    """Add the row of each series that lies an hour ahead, or the last one of a shorter horizon."""
    from safetensors.numpy import save_file

    row = min(max(round(LEAD_S / ahead.step_s), 1), ahead.values.shape[1])
    n = len(ahead.names)
    time = (ahead.end + row * round(ahead.step_s * _NS)).reshape(n, 1)
    places = [QUANTILES.index(q) for q in SHOWN_QUANTILES]
    values = ahead.values[places, row - 1].T.reshape(n, len(SHOWN_QUANTILES), 1).astype(np.float32)
    old_time, old_values = _aligned(path, ahead.names, row * ahead.step_s)
    moved = bool((old_time[:, -1:] < time).any()) or not old_time.shape[1]
    if not moved:
        old_time, old_values = old_time[:, :-1], old_values[..., :-1]
    most = max(MIN_ROWS, min(round(RETENTION_S / ahead.step_s), MAX_CELLS // max(n, 1)))
    arrays = {
        "time": np.ascontiguousarray(np.concatenate((old_time, time), axis=1)[:, -most:]),
        "values": np.ascontiguousarray(np.concatenate((old_values, values), axis=2)[..., -most:]),
    }
    told = {"names": list(ahead.names), "lead_s": row * ahead.step_s}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(arrays, part, metadata={"told": json.dumps(told)})
    part.replace(path)


def read_past_forecasts(path: Path, name: str) -> PastForecasts | None:
    """Of a series; None where nothing of it is kept."""
    told = _read(path, name)
    if told is None:
        return None
    lead_s, _, time, values = told
    known = np.isfinite(values[0]).all(axis=0) & (np.diff(time[0], prepend=-1) > 0)
    return PastForecasts(lead_s, time[0][known], values[0][:, known].astype(np.float64))


def _aligned(path: Path, names: tuple[str, ...], lead_s: float) -> tuple[Ints, Any]:
    """What is kept, by these series; NaN where one was not forecast then."""
    told = _read(path)
    if told is None or told[0] != lead_s:
        return np.empty((len(names), 0), np.int64), np.empty(
            (len(names), len(SHOWN_QUANTILES), 0), np.float32
        )
    _, old, old_time, old_values = told
    place = {name: k for k, name in enumerate(old)}
    time = np.repeat(old_time.max(axis=0, keepdims=True), len(names), axis=0)
    values = np.full((len(names), *old_values.shape[1:]), np.nan, np.float32)
    for k, name in enumerate(names):
        if name in place:
            time[k], values[k] = old_time[place[name]], old_values[place[name]]
    return time, values


def _read(path: Path, name: str | None = None) -> tuple[float, list[str], Ints, Any] | None:
    """Lead, names, (n_series, n) times and (n_series, 3, n) values; of one series only where it is named."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            told = json.loads(file.metadata()["told"])
            names: list[str] = told["names"]
            rows = slice(None) if name is None else slice(k := names.index(name), k + 1)
            return told["lead_s"], names, file.get_slice("time")[rows], file.get_slice("values")[rows]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
