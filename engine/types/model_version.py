"""Forecasts, models with their versions, and training runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trimtab.engine.types.series import Floats, Ints
from trimtab.models.forecasting.confidence import ConfidenceGrade


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast of one series.

    id      : id of the series
    made    : int64 ns UTC of the newest sample used
    start   : int64 ns UTC of the first row, one step after `made`; the rows are `step_s` seconds apart
    values  : quantile, such as "0.95" -> (horizon,) float64 in the series' unit
    model   : name of the model, such as "load" or "seasonal_naive"; version "" = not a registered model
    confidence : a word of `trimtab.models.forecasting.confidence`
    past_s  : seconds of history used
    """

    id: str
    series: str
    source: str
    unit: str
    made: int
    start: int
    step_s: float
    values: Mapping[str, Floats]
    model: str
    version: str
    confidence: ConfidenceGrade
    past_s: float


@dataclass(frozen=True, slots=True)
class PastForecast:
    """Past forecasts of one series, each made `lead_s` seconds before its time.

    id      : id of the series
    times   : (n,) int64 ns UTC, oldest first, at most one day
    values  : quantile -> (n,) float64 in the series' unit
    """

    id: str
    lead_s: float
    times: Ints
    values: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version of a model.

    role    : "champion", "challenger", "previous", or "" = stored only
    stored, trained_until : int64 ns UTC
    figures : evaluation metrics by name
    live    : error of its past forecasts relative to seasonal naive; None = unknown
    said    : result of the promotion gate
    """

    version: str
    role: str
    kind: str
    forecaster: str
    stored: int
    trained_until: int | None
    size_bytes: int
    figures: Mapping[str, float | None]
    live: float | None
    said: str


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model with its versions.

    serving : version that forecasts now; "" = seasonal naive
    made    : int64 ns UTC of the newest forecasts; None = no forecasts
    error   : error of the serving version, like `ModelVersion.live`
    refused : version -> why it is rejected
    problem : why forecasts or the registry are out of date; "" = they are not
    """

    id: str
    serving: str
    made: int | None
    series: int
    error: float | None
    versions: tuple[ModelVersion, ...]
    refused: Mapping[str, str]
    registry: str
    problem: str = ""


class RunState(StrEnum):
    """State of a pipeline run."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its process was killed; the next run resumes from its checkpoint."""


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """A run of a pipeline.

    started, ended : int64 ns UTC
    progress : 0..1
    said     : result of the run, or what a waiting run waits for
    version  : model version that it produced; "" = none
    """

    id: str
    pipeline: str
    state: RunState
    by: str
    started: int
    ended: int | None = None
    stage: str = ""
    progress: float = 0.0
    said: str = ""
    version: str = ""
    promoted: bool = False
    figures: Mapping[str, float | None] = field(default_factory=dict)
