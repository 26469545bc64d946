"""Forecasts, the models that make them, and the runs that train those."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trimtab.engine.types.series import Floats, Ints
from trimtab.models.forecasting.confidence import ConfidenceGrade


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a series is expected to do.

    id      : of the series
    made    : int64 ns UTC, the newest sample that it knows
    start   : of the first row, one step after `made`; the others follow by `step_s`
    values  : quantile, as "0.95" -> (horizon,) float64 in the series' unit
    model   : who made it, as "load" or "seasonal_naive"; version "" = it is no registered one
    confidence : in the words of `models.confidence`, as `trimtab forecast` says it
    past_s  : seconds of history that it stands on
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
    """What a series had been expected to do, each row as it was forecast `lead_s` before.

    id      : of the series
    times   : (n,) int64 ns UTC, oldest first, of a day at most
    values  : quantile -> (n,) float64 in the series' unit
    """

    id: str
    lead_s: float
    times: Ints
    values: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version that could serve.

    role    : "champion", "challenger", "previous", or "" = kept
    live    : its error over forecasts whose time has come, in seasonal naive errors; None = not known yet
    said    : of the gate
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
    """A model as people see it.

    serving : the version that forecasts now; "" = seasonal naive does
    error   : of what serves, as `ModelVersion.live`
    refused : version -> why it is not trusted
    problem : what keeps forecasts or the registry from being up to date; "" = nothing
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
    """How a run of a pipeline does."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its process was killed; the next run goes on with what it left."""


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """A run of a pipeline.

    progress : 0..1
    said     : what came of it; of one that waits, for what
    version  : of the model that it made; "" = none
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
