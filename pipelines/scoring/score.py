"""Score recorded series causally, row by row, with the scorer of the live engine."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from trimtab.models.catalogue import RIVER_PREFIX, detector_class, detector_names
from trimtab.models.contracts import Detector, Floats
from trimtab.models.entity_score import entity_score
from trimtab.models.errors import ModelError
from trimtab.models.scorer import Scorer
from trimtab.pipelines.errors import RecordingWarning
from trimtab.pipelines.io.durations import positive_duration_s
from trimtab.pipelines.io.recording import INTERVAL_SPACINGS, RESULT_COLUMNS, Block, Recording, read_frame

MAX_CELLS = 4_000_000
"""Values scored at a time, approximately; bounds memory."""

DetectorSpec = str | Callable[[int], Detector]
"""The name of a detector in the catalogue, or a function from the number of series to a detector."""
ProgressCallback = Callable[[int, int], None]
"""Called with (series done, series in total)."""


def score(
    frame: pd.DataFrame,
    *,
    detectors: Any = "default",  # noqa: ANN401 - names and river objects; river is not imported for types only
    false_alarms_per_week: float = 1.0,
    interval: str | float = "1m",
) -> pd.DataFrame:
    """Score recorded series causally: the score of row i depends on rows up to i only.

    frame     : long (`unique_id|series|file`, `ds|timestamp|t`, `y|value`) or wide (a time column, then one
                column per series; with a column `entity`, one block of rows per entity); NaN = no sample
    detectors : "default", a name from `trimtab.models.catalogue.detector_names()`, "river:NAME", a river
                anomaly detector or forecaster (cloned for each series), or a list of these
    false_alarms_per_week : allowed anomaly intervals per healthy series and week
    interval  : time between rows, used where the time column counts rows: "1m", or seconds

    Returns the same rows with columns added: to a long table anomaly_score, yhat, yhat_lower and yhat_upper
                                              (in
    the unit of y); to a wide one `anomaly_score:<column>` for each series and anomaly_score for the entity or
    the whole table. A score above 1 is an anomaly; NaN = no sample, or still learning.
    Raises InputError that names row, column, value and what is allowed; UnknownModelError for an unknown
    detector. Warns with RecordingWarning if times repeat or step back.

    >>> frame = pd.DataFrame({"ds": range(200), "y": [1.0, 1.2] * 100})
    >>> frame.loc[199, "y"] = 9.0
    >>> bool(score(frame)["anomaly_score"].iloc[-1] > 1)
    True
    """
    recording = read_frame(frame, positive_duration_s(interval, "interval"))
    if recording.warning:
        warnings.warn(recording.warning, RecordingWarning, stacklevel=2)
    columns = score_recording(recording, detectors, false_alarms_per_week)
    return frame.assign(**columns)


def score_recording(
    recording: Recording,
    detectors: Any = "default",  # noqa: ANN401 - as `score`
    false_alarms_per_week: float = 1.0,
    progress: ProgressCallback | None = None,
) -> dict[str, Floats]:
    """Return the columns that `score` adds, each (n_rows,) float64 in row order."""
    run = _ScoringRun(
        parse_detectors(detectors),
        false_alarms_per_week,
        progress,
        sum(len(b.names) for b in recording.blocks),
    )
    columns = _empty_columns(recording)
    for batch in _batches(recording.blocks):
        results = run.scores(batch)
        for block, arrays in zip(batch, results, strict=True):
            _fill_columns(columns, recording.layout.form, block, arrays, run.budget(block))
    return columns


def parse_detectors(detectors: Any) -> tuple[DetectorSpec, ...]:  # noqa: ANN401 - as `score`
    """Validate one or several detectors and return them as a tuple of specs.

    "river:NAME" is river's detector of that name, half-space trees behind a scaler to 0..1.
    Raises UnknownModelError for an unknown name, ModelError for an object that is not a detector.

    >>> parse_detectors(["default", "ew_zscore"])
    ('default', 'ew_zscore')
    """
    given = detectors if isinstance(detectors, list | tuple) else [detectors]
    if not given:
        raise ModelError(f"no detector given; there are default, {', '.join(detector_names())}")
    return tuple(_parse_detector(one) for one in given)


def _parse_detector(one: Any) -> DetectorSpec:  # noqa: ANN401 - as `score`
    if isinstance(one, str):
        if one != "default" and not one.startswith(RIVER_PREFIX):
            detector_class(one)
        return one
    if hasattr(one, "learn_one"):
        return partial(_river_bank, model=one, name=f"{RIVER_PREFIX}{one}")
    raise ModelError(f"{one!r} is neither a name from the catalogue nor a river estimator")


def _river_bank(n_series: int, *, model: Any, name: str) -> Detector:  # noqa: ANN401 - river's
    from trimtab.models.river_bank import river_detector

    return river_detector(n_series, model, name)


@dataclass(slots=True)
class _ScoringRun:
    """The settings and the progress that all batches of a recording share."""

    members: tuple[DetectorSpec, ...]
    false_alarms_per_week: float
    progress: ProgressCallback | None
    total: int
    done: int = field(default=0)

    def scorer(self, n_series: int, interval_s: float) -> Scorer:
        chosen = tuple(one if isinstance(one, str) else one(n_series) for one in self.members)
        return Scorer(n_series, interval_s, chosen, self.false_alarms_per_week)

    def budget(self, block: Block) -> float:
        return Scorer(1, block.interval_s, "default", self.false_alarms_per_week).budget

    def scores(self, batch: Sequence[Block]) -> list[Floats]:
        """Return for each block the RESULT_COLUMNS as (4, n_rows, n_series)."""
        first = batch[0]
        values = np.concatenate([block.values for block in batch], axis=1)
        out = np.empty((len(RESULT_COLUMNS), *values.shape))
        width = max(MAX_CELLS // max(len(values), 1), 1)
        for begin in range(0, values.shape[1], width):
            part = values[:, begin : begin + width]
            scores = self.scorer(part.shape[1], first.interval_s).run(part, first.times)
            for k, name in enumerate(RESULT_COLUMNS):
                out[k, :, begin : begin + width] = getattr(scores, name)
            self.done += part.shape[1]
            if self.progress is not None:
                self.progress(self.done, self.total)
        out[:, :INTERVAL_SPACINGS] = np.nan
        return np.split(out, np.cumsum([len(block.names) for block in batch])[:-1], axis=2)


def _batches(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Group blocks with identical times: scoring many series per tick costs little more than scoring one."""

    def times(block: Block) -> tuple[int, bytes]:
        return len(block.times), block.times.tobytes()

    same: dict[tuple[int, bytes], list[Block]] = {}
    for block in blocks:
        same.setdefault(times(block), []).append(block)
    for group in same.values():
        share = max(MAX_CELLS // max(group[0].values.size, 1), 1)
        for begin in range(0, len(group), share):
            yield group[begin : begin + share]


def _empty_columns(recording: Recording) -> dict[str, Floats]:
    names = list(RESULT_COLUMNS)
    if recording.layout.form == "wide":
        names = [*(f"anomaly_score:{column}" for column in recording.layout.values), RESULT_COLUMNS[0]]
    return {name: np.full(recording.n_rows, np.nan) for name in names}


def _fill_columns(columns: dict[str, Floats], form: str, block: Block, arrays: Floats, budget: float) -> None:
    if form == "long":
        for name, values in zip(RESULT_COLUMNS, arrays, strict=True):
            columns[name][block.rows] = values[:, 0]
        return
    for k, name in enumerate(block.names):
        columns[f"anomaly_score:{name}"][block.rows] = arrays[0, :, k]
    columns[RESULT_COLUMNS[0]][block.rows] = entity_score(arrays[0], budget)
