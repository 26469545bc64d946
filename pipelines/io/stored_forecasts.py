"""Forecasts of many series as arrays, kept as one small file."""

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
    """What is expected of many series.

    end        : (n_series,) int64 ns UTC, the newest sample that is known of each
    values     : (n_quantiles, horizon, n_series), NaN = nothing can be said
    past_s     : (n_series,) seconds of history
    challenger : as values, of the model that runs beside; None = there is none
    refused    : version -> why it is not trusted, where that is new
    unfit      : version -> why it could not be asked, see `asked.unfit`
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


def write_forecasts(path: Path, ahead: StoredForecasts) -> None:
    """Write it, whole or not at all."""
    from safetensors.numpy import save_file

    told = {
        "names": list(ahead.names), "step_s": ahead.step_s, "model": ahead.model, "version": ahead.version,
        "challenger_version": ahead.challenger_version,
    }  # fmt: skip
    arrays: dict[str, Any] = {
        "end": ahead.end,
        "values": ahead.values.astype(np.float32),
        "past_s": ahead.history_s,
    }
    if ahead.challenger is not None:
        arrays["challenger"] = ahead.challenger.astype(np.float32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(arrays, part, metadata={"told": json.dumps(told)})
    part.replace(path)


def read_forecasts(path: Path) -> StoredForecasts | None:
    """What was written; None where there is nothing that can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            told = json.loads(file.metadata()["told"])
            arrays = {name: _wide(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return StoredForecasts(
                tuple(told["names"]), arrays["end"], told["step_s"], arrays["values"], arrays["past_s"],
                told["model"], told["version"], arrays.get("challenger"), told["challenger_version"],
            )  # fmt: skip
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _wide(array: Any) -> Any:  # noqa: ANN401 - an array of any kind
    return array.astype(np.float64) if array.dtype == np.float32 else array
