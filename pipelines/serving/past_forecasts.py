"""One-hour-ahead forecasts of the last day, stored for comparison with the actual values."""

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
"""Maximum rows times series, about 4 MB; with many series less than a day is kept, but 12 rows."""
PAST_FORECASTS_FILE = "before.safetensors"
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PastForecasts:
    """Past forecasts of one series.

    lead_s : seconds between a forecast and the time it is for
    time   : (n,) int64 ns UTC, oldest first
    values : (3, n), the quantiles SHOWN_QUANTILES
    """

    lead_s: float
    time: Ints
    values: Floats


def record_forecasts(path: Path, forecasts: StoredForecasts) -> None:
    """Append each series' forecast row that is one hour ahead, or the last row of a shorter horizon."""
    from safetensors.numpy import save_file

    row = min(max(round(LEAD_S / forecasts.step_s), 1), forecasts.values.shape[1])
    n = len(forecasts.names)
    time = (forecasts.end + row * round(forecasts.step_s * _NS)).reshape(n, 1)
    quantile_rows = [QUANTILES.index(q) for q in SHOWN_QUANTILES]
    values = forecasts.values[quantile_rows, row - 1].T.reshape(n, len(SHOWN_QUANTILES), 1).astype(np.float32)
    stored_time, stored_values = _align_stored(path, forecasts.names, row * forecasts.step_s)
    is_newer = bool((stored_time[:, -1:] < time).any()) or not stored_time.shape[1]
    if not is_newer:
        stored_time, stored_values = stored_time[:, :-1], stored_values[..., :-1]
    max_rows = max(MIN_ROWS, min(round(RETENTION_S / forecasts.step_s), MAX_CELLS // max(n, 1)))
    arrays = {
        "time": np.ascontiguousarray(np.concatenate((stored_time, time), axis=1)[:, -max_rows:]),
        "values": np.ascontiguousarray(np.concatenate((stored_values, values), axis=2)[..., -max_rows:]),
    }
    header = {"names": list(forecasts.names), "lead_s": row * forecasts.step_s}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(arrays, temporary, metadata={"told": json.dumps(header)})
    temporary.replace(path)


def read_past_forecasts(path: Path, name: str) -> PastForecasts | None:
    """Return the past forecasts of a series; None if there are none."""
    stored = _read_stored(path, name)
    if stored is None:
        return None
    lead_s, _, time, values = stored
    known = np.isfinite(values[0]).all(axis=0) & (np.diff(time[0], prepend=-1) > 0)
    return PastForecasts(lead_s, time[0][known], values[0][:, known].astype(np.float64))


def _align_stored(path: Path, names: tuple[str, ...], lead_s: float) -> tuple[Ints, Any]:
    """Return the stored times and values in the order of these series; NaN = not forecast then."""
    stored = _read_stored(path)
    if stored is None or stored[0] != lead_s:
        no_values = np.empty((len(names), len(SHOWN_QUANTILES), 0), np.float32)
        return np.empty((len(names), 0), np.int64), no_values
    _, old, stored_time, stored_values = stored
    position = {name: k for k, name in enumerate(old)}
    time = np.repeat(stored_time.max(axis=0, keepdims=True), len(names), axis=0)
    values = np.full((len(names), *stored_values.shape[1:]), np.nan, np.float32)
    for k, name in enumerate(names):
        if name in position:
            time[k], values[k] = stored_time[position[name]], stored_values[position[name]]
    return time, values


def _read_stored(path: Path, name: str | None = None) -> tuple[float, list[str], Ints, Any] | None:
    """Return lead, names, (n_series, n) times and (n_series, 3, n) values; of all series, or one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["told"])
            names: list[str] = header["names"]
            rows = slice(None) if name is None else slice(k := names.index(name), k + 1)
            return header["lead_s"], names, file.get_slice("time")[rows], file.get_slice("values")[rows]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
