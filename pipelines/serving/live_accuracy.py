"""Accuracy of served forecasts: live errors, drift, and the end of a shadow phase.

One forecast at a time is the reference. It is compared with the actual values until it is `watch_s` seconds
old; then its error is stored and the newest forecast becomes the reference.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trimtab.models.contracts import Floats
from trimtab.pipelines.forecasting.backtest_load import mean_scaled_loss, naive_scale
from trimtab.pipelines.io.panel import NS, NamedPanel
from trimtab.pipelines.io.stored_forecasts import StoredForecasts, read_forecasts, write_forecasts
from trimtab.pipelines.training.pipeline_runs import write_json
from trimtab.pipelines.training.promotion_gate import MAX_LOSS_RATIO

DRIFT_RATIO = 1.5
"""A model has drifted if its error exceeds this times its error at the gate."""
MAX_KEPT = 200
"""Number of stored accuracies."""
_REFERENCE_FILE, _ERRORS_FILE = "reference.safetensors", "errors.json"


@dataclass(frozen=True, slots=True)
class LiveAccuracy:
    """The error of one reference forecast, as pinball loss in seasonal naive errors; None = unknown.

    time               : int64 ns UTC of the newest compared value
    rows               : compared steps
    version            : version that served
    error              : its error
    challenger_version : version of the challenger; "" = none
    challenger         : error of the challenger
    """

    time: int
    rows: int
    version: str
    error: float | None
    challenger_version: str
    challenger: float | None


def update_live_accuracy(
    folder: Path, named_panel: NamedPanel, forecasts: StoredForecasts, watch_s: float
) -> tuple[LiveAccuracy | None, list[LiveAccuracy]]:
    """Measure the reference forecast and replace it by the newest forecast when it is old enough.

    folder  : folder of the reference and the stored errors
    watch_s : seconds of values that a reference is compared with

    Returns (accuracy of the current reference, None = nothing to compare yet; stored accuracies, oldest
    first).
    """
    finished = past_accuracies(folder)
    reference = read_forecasts(folder / _REFERENCE_FILE)
    if reference is None or reference.step_s != forecasts.step_s:  # another step cannot be compared
        write_forecasts(folder / _REFERENCE_FILE, forecasts)
        return None, finished
    accuracy = measure_accuracy(reference, named_panel)
    newest_versions = (forecasts.version, forecasts.challenger_version)
    changed = (reference.version, reference.challenger_version) != newest_versions
    if changed or (accuracy is not None and accuracy.rows * reference.step_s >= watch_s):
        if accuracy is not None:
            finished = [*finished, accuracy][-MAX_KEPT:]
            write_json(folder / _ERRORS_FILE, [asdict(one) for one in finished])
        write_forecasts(folder / _REFERENCE_FILE, forecasts)
    return accuracy, finished


def past_accuracies(folder: Path) -> list[LiveAccuracy]:
    """Return the stored accuracies, oldest first."""
    try:
        return [LiveAccuracy(**one) for one in json.loads((folder / _ERRORS_FILE).read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def measure_accuracy(reference: StoredForecasts, named_panel: NamedPanel) -> LiveAccuracy | None:
    """Compare a forecast with the values recorded since; None = there are none."""
    panel, horizon = named_panel.panel, reference.values.shape[1]
    step = round(panel.step_s * NS)
    column_of = {name: k for k, name in enumerate(named_panel.names)}
    actual = np.full((horizon, len(reference.names)), np.nan)
    scale = np.full(len(reference.names), np.nan)
    scales = naive_scale(panel.y, panel.step_s)
    for k, name in enumerate(reference.names):
        if name in column_of:
            column = column_of[name]
            rows_since = int((panel.end[column] - reference.end[k]) // step)
            rows = min(max(rows_since, 0), horizon, panel.y.shape[0])
            begin = panel.y.shape[0] - rows_since
            if rows and begin >= 0:
                actual[:rows, k] = panel.y[begin : begin + rows, column]
            scale[k] = scales[column]
    known = np.flatnonzero(np.isfinite(actual).any(axis=1))
    if not len(known):
        return None
    error, challenger_error = (
        None if values is None else _scaled_error(values, actual, scale)
        for values in (reference.values, reference.challenger)
    )
    return LiveAccuracy(
        int(panel.end.max()), int(known[-1]) + 1, reference.version, error, reference.challenger_version,
        challenger_error,
    )  # fmt: skip


def _scaled_error(forecasts: Floats, actual: Floats, scale: Floats) -> float | None:
    found = mean_scaled_loss(np.asarray(forecasts, np.float64), actual, scale, np.arange(actual.shape[0]))
    return found if math.isfinite(found) else None


def has_drifted(finished: Sequence[LiveAccuracy], version: str, expected: float | None) -> bool:
    """Return whether the last two errors of the version exceed DRIFT_RATIO times its error at the gate.

    expected : pinball loss of the version at the gate; None = unknown, which is no drift

    >>> bad = LiveAccuracy(0, 72, "3", 0.9, "", None)
    >>> has_drifted([bad, bad], "3", 0.4), has_drifted([bad], "3", 0.4), has_drifted([bad, bad], "3", 0.8)
    (True, False, False)
    """
    matching = [one.error for one in finished if one.version == version and one.error is not None][-2:]
    return expected is not None and len(matching) == 2 and min(matching) > DRIFT_RATIO * expected


def shadow_result(
    finished: Sequence[LiveAccuracy], champion: str, challenger: str, shadow_s: float, step_s: float
) -> str | None:
    """Return "" if the challenger may become champion, why not, or None if it is too early.

    shadow_s : required seconds of comparison
    step_s   : seconds per row

    >>> shadow_result([LiveAccuracy(0, 72, "3", 0.5, "4", 0.4)], "3", "4", 3600.0, 60.0)
    ''
    """
    matching = [
        (one.rows, one.error, one.challenger)
        for one in finished
        if (one.version, one.challenger_version) == (champion, challenger)
    ]
    if sum(rows for rows, _, _ in matching) * step_s < shadow_s:
        return None
    compared = [
        (rows, challenger_error, champion_error)
        for rows, champion_error, challenger_error in matching
        if challenger_error is not None and champion_error is not None
    ]
    if not compared:
        return "none of its forecasts could be compared with actual values"
    challenger_error, champion_error = (
        sum(row[0] * row[k] for row in compared) / sum(row[0] for row in compared) for k in (1, 2)
    )
    if challenger_error > MAX_LOSS_RATIO * champion_error:
        return f"its loss in the shadow phase was {challenger_error:.3g}, the champion's {champion_error:.3g}"
    return ""
