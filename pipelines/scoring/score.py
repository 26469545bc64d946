"""Recorded series through the scorer: the same code as live, row by row, causal."""

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
"""Values that are scored at once, about: bounds memory."""

DetectorSpec = str | Callable[[int], Detector]
"""A detector by its name in the catalogue, or what makes one for so many series."""
ProgressCallback = Callable[[int, int], None]
"""Told (series done, series in all)."""


def score(
    frame: pd.DataFrame,
    *,
    detectors: Any = "default",  # noqa: ANN401 - names and river objects; river is not imported for its types
    false_alarms_per_week: float = 1.0,
    interval: str | float = "1m",
) -> pd.DataFrame:
    """Causal scores of recorded series: row i depends on rows up to i only.

    frame     : long (`unique_id|series|file`, `ds|timestamp|t`, `y|value`) or wide (a time column, then one
                column a series; with a column `entity`, a block of rows an entity); NaN = no sample
    detectors : "default", a name from `trimtab.models.catalogue.detector_names()`, "river:NAME", a river anomaly
                detector or forecaster (cloned for each series), or a list of such
    false_alarms_per_week : anomaly intervals that a healthy series may show in a week
    interval  : how long a row is where the time column counts rows: "1m", or seconds

    Gives the same rows with columns added: of a long table anomaly_score, yhat, yhat_lower, yhat_upper (in
    the unit of y); of a wide one `anomaly_score:<column>` for each series and anomaly_score for the entity,
    or the table, as a whole. Above 1 is an anomaly; NaN = no sample, or still learning.
    Raises InputError that names row, column, value and what is wanted; UnknownModelError for a detector
    that nobody has. Warns with RecordingWarning when times repeat or step back.

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
    """The columns that `score` adds, each (n_rows,) float64 in the rows' order."""
    run = _Run(
        parse_detectors(detectors),
        false_alarms_per_week,
        progress,
        sum(len(b.names) for b in recording.blocks),
    )
    columns = _empty(recording)
    for batch in _batches(recording.blocks):
        results = run.scores(batch)
        for block, arrays in zip(batch, results, strict=True):
            _fill(columns, recording.layout.form, block, arrays, run.budget(block))
    return columns


def parse_detectors(detectors: Any) -> tuple[DetectorSpec, ...]:  # noqa: ANN401 - as `score`
    """One or several detectors, as a scorer of any number of series can be given them.

    "river:NAME" is river's own detector of that name, half-space trees behind a scaler to 0..1.
    Raises UnknownModelError for a name that nobody has, ModelError for what is no detector.

    >>> parse_detectors(["default", "ew_zscore"])
    ('default', 'ew_zscore')
    """
    given = detectors if isinstance(detectors, list | tuple) else [detectors]
    if not given:
        raise ModelError(f"no detector given; there are default, {', '.join(detector_names())}")
    return tuple(_member(one) for one in given)


def _member(one: Any) -> DetectorSpec:  # noqa: ANN401 - as `score`
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
class _Run:
    """What is the same for every batch."""

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
        """Of each block (4, n_rows, n_series): the columns of RESULTS."""
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
    """Blocks with the very same times together: many series a tick cost little more than one."""

    def times(block: Block) -> tuple[int, bytes]:
        return len(block.times), block.times.tobytes()

    same: dict[tuple[int, bytes], list[Block]] = {}
    for block in blocks:
        same.setdefault(times(block), []).append(block)
    for group in same.values():
        share = max(MAX_CELLS // max(group[0].values.size, 1), 1)
        for begin in range(0, len(group), share):
            yield group[begin : begin + share]


def _empty(recording: Recording) -> dict[str, Floats]:
    names = list(RESULT_COLUMNS)
    if recording.layout.form == "wide":
        names = [*(f"anomaly_score:{column}" for column in recording.layout.values), RESULT_COLUMNS[0]]
    return {name: np.full(recording.n_rows, np.nan) for name in names}


def _fill(columns: dict[str, Floats], form: str, block: Block, arrays: Floats, budget: float) -> None:
    if form == "long":
        for name, values in zip(RESULT_COLUMNS, arrays, strict=True):
            columns[name][block.rows] = values[:, 0]
        return
    for k, name in enumerate(block.names):
        columns[f"anomaly_score:{name}"][block.rows] = arrays[0, :, k]
    columns[RESULT_COLUMNS[0]][block.rows] = entity_score(arrays[0], budget)
