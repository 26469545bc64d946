"""How forecasts turned out: the error of what serves and of the challenger, drift, and the end of a shadow.

One forecast at a time is the reference: it is held against what came until it is `watch_s` old; then its
error is kept, and the newest forecast takes its place.
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

DRIFT_RATIO, MAX_KEPT = 1.5, 200
"""Times its error at the gate at which a model is told to have drifted; errors that are kept."""
_REFERENCE, _ERRORS = "reference.safetensors", "errors.json"


@dataclass(frozen=True, slots=True)
class LiveAccuracy:
    """The error of one reference, in seasonal naive errors (pinball); None = not known.

    time     : int64 ns UTC of its end
    rows     : steps that were compared
    """

    time: int
    rows: int
    version: str
    error: float | None
    challenger_version: str
    challenger: float | None


def update_live_accuracy(
    folder: Path, named: NamedPanel, ahead: StoredForecasts, watch_s: float
) -> tuple[LiveAccuracy | None, list[LiveAccuracy]]:
    """How the reference and those before it turned out; a newer forecast becomes reference when due.

    Gives (the reference now, None = nothing to compare yet; those that are over, oldest first).
    """
    over = past_accuracies(folder)
    reference = read_forecasts(folder / _REFERENCE)
    if reference is None or reference.step_s != ahead.step_s:  # rows of another step are not compared
        write_forecasts(folder / _REFERENCE, ahead)
        return None, over
    seen = measure_accuracy(reference, named)
    changed = (reference.version, reference.challenger_version) != (ahead.version, ahead.challenger_version)
    if changed or (seen is not None and seen.rows * reference.step_s >= watch_s):
        if seen is not None:
            over = [*over, seen][-MAX_KEPT:]
            write_json(folder / _ERRORS, [asdict(one) for one in over])
        write_forecasts(folder / _REFERENCE, ahead)
    return seen, over


def past_accuracies(folder: Path) -> list[LiveAccuracy]:
    """The errors that are kept, oldest first."""
    try:
        return [LiveAccuracy(**one) for one in json.loads((folder / _ERRORS).read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def measure_accuracy(reference: StoredForecasts, named: NamedPanel) -> LiveAccuracy | None:
    """A forecast against what came since; None = nothing did."""
    panel, horizon = named.panel, reference.values.shape[1]
    step = round(panel.step_s * NS)
    place = {name: k for k, name in enumerate(named.names)}
    actual = np.full((horizon, len(reference.names)), np.nan)
    scale = np.full(len(reference.names), np.nan)
    scales = naive_scale(panel.y, panel.step_s)
    for k, name in enumerate(reference.names):
        if name in place:
            column = place[name]
            came = int((panel.end[column] - reference.end[k]) // step)
            rows = min(max(came, 0), horizon, panel.y.shape[0])
            begin = panel.y.shape[0] - came
            if rows and begin >= 0:
                actual[:rows, k] = panel.y[begin : begin + rows, column]
            scale[k] = scales[column]
    known = np.flatnonzero(np.isfinite(actual).any(axis=1))
    if not len(known):
        return None
    beside = None if reference.challenger is None else _error(reference.challenger, actual, scale)
    return LiveAccuracy(
        int(panel.end.max()), int(known[-1]) + 1, reference.version, _error(reference.values, actual, scale),
        reference.challenger_version, beside,
    )  # fmt: skip


def _error(ahead: Floats, actual: Floats, scale: Floats) -> float | None:
    found = mean_scaled_loss(np.asarray(ahead, np.float64), actual, scale, np.arange(actual.shape[0]))
    return found if math.isfinite(found) else None


def has_drifted(over: Sequence[LiveAccuracy], version: str, expected: float | None) -> bool:
    """Whether what serves errs much more than it did at the gate, in the last two references.

    >>> bad = LiveAccuracy(0, 72, "3", 0.9, "", None)
    >>> has_drifted([bad, bad], "3", 0.4), has_drifted([bad], "3", 0.4), has_drifted([bad, bad], "3", 0.8)
    (True, False, False)
    """
    own = [one.error for one in over if one.version == version and one.error is not None][-2:]
    return expected is not None and len(own) == 2 and min(own) > DRIFT_RATIO * expected


def shadow_result(
    over: Sequence[LiveAccuracy], champion: str, challenger: str, shadow_s: float, step_s: float
) -> str | None:
    """Whether a challenger that ran beside the champion may take its place: "" = yes, words = why not.

    None = it has not run beside it for long enough.

    >>> shadow_result([LiveAccuracy(0, 72, "3", 0.5, "4", 0.4)], "3", "4", 3600.0, 60.0)
    ''
    """
    own = [
        (one.rows, one.error, one.challenger)
        for one in over
        if (one.version, one.challenger_version) == (champion, challenger)
    ]
    if sum(rows for rows, _, _ in own) * step_s < shadow_s:
        return None
    told = [(rows, mine, other) for rows, other, mine in own if mine is not None and other is not None]
    if not told:
        return "nothing that it forecast could be compared with what came"
    mine, other = (sum(row[0] * row[k] for row in told) / sum(row[0] for row in told) for k in (1, 2))
    if mine > MAX_LOSS_RATIO * other:
        return f"beside the champion its loss was {mine:.3g}, that of the champion {other:.3g}"
    return ""
