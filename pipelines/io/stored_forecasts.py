"""Forecasts of many series as arrays, stored in one safetensors file."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.models.contracts import Floats, Ints

QUANTILES = (0.05, 0.5, 0.9, 0.95, 0.99)
FORECASTS_FILE = "now.safetensors"


@dataclass(frozen=True, slots=True)
class StoredForecasts:
    """Forecasts of many series.

    names        : (n_series,) names of the series
    end          : (n_series,) int64 ns UTC, the newest known sample of each series
    step_s       : seconds per row
    values       : (n_quantiles, horizon, n_series), NaN = no forecast
    history_s    : (n_series,) seconds of history
    model        : name of the model that made the forecasts
    version      : version of that model; "" = it has none
    challenger   : forecasts of the challenger, shaped as values; None = there is no challenger
    refused      : version -> reason, for each version found untrusted in this run
    incompatible : version -> reason, for each version made for another step or horizon; see `schema_mismatch`
    """

    names: tuple[str, ...]
    end: Ints
    step_s: float
    values: Floats
    history_s: Floats
    model: str
    version: str
    challenger: Floats | None = None
    challenger_version: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    incompatible: Mapping[str, str] = field(default_factory=dict)


def write_forecasts(path: Path, forecasts: StoredForecasts) -> None:
    """Write forecasts to a file, atomically."""
    from safetensors.numpy import save_file

    header = {
        "names": list(forecasts.names), "step_s": forecasts.step_s, "model": forecasts.model,
        "version": forecasts.version, "challenger_version": forecasts.challenger_version,
    }  # fmt: skip
    arrays: dict[str, Any] = {
        "end": forecasts.end,
        "values": forecasts.values.astype(np.float32),
        "past_s": forecasts.history_s,
    }
    if forecasts.challenger is not None:
        arrays["challenger"] = forecasts.challenger.astype(np.float32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(arrays, temporary, metadata={"told": json.dumps(header)})
    temporary.replace(path)


def read_forecasts(path: Path) -> StoredForecasts | None:
    """Return the stored forecasts; None if the file is missing or unreadable."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["told"])
            arrays = {name: _wide(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - file is not a mapping
            return StoredForecasts(
                tuple(header["names"]), arrays["end"], header["step_s"], arrays["values"], arrays["past_s"],
                header["model"], header["version"], arrays.get("challenger"), header["challenger_version"],
            )  # fmt: skip
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _wide(array: Any) -> Any:  # noqa: ANN401 - an array of any dtype
    return array.astype(np.float64) if array.dtype == np.float32 else array
