"""JSON and response schemas of the control loop's types, both derived from the dataclasses."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model

from trimtab.engine.api.shapes.json_shapes import TIME_FIELDS, Json, JsonShape, with_iso_times
from trimtab.engine.ports import TargetView, ToolView
from trimtab.engine.types import (
    Action,
    AuditRow,
    Change,
    Forecast,
    Incident,
    Knob,
    KnobReading,
    ModelView,
    PastForecast,
    Pause,
    PipelineRun,
    Recommendation,
    ToolAction,
)
from trimtab.engine.types.series import iso
from trimtab.models.forecasting.confidence import ConfidenceGrade

_OPTIONAL = (Union, types.UnionType)


def record_json(record: Any) -> Json:  # noqa: ANN401 - any dataclass
    """Return a dataclass as JSON, including nested dataclasses; times become ISO 8601.

    >>> record_json(Pause(on=False))
    {'on': False, 'by': '', 'since': None, 'reason': ''}
    """
    return with_iso_times({field.name: _json_value(getattr(record, field.name)) for field in fields(record)})


def _json_value(value: object) -> object:
    if is_dataclass(value):
        return record_json(value)
    if isinstance(value, tuple | list):
        return [_json_value(part) for part in value]
    return value


def page_json(found: Sequence[Any], limit: int) -> Json:
    """Return a page of at most `limit` records; `found` holds one more if there is a next page."""
    following = found[limit - 1].id if len(found) > limit else None
    return {"items": [record_json(record) for record in found[:limit]], "next": following}


def target_json(view: TargetView) -> Json:
    """Return a target as JSON, each knob with its reading."""
    knobs = [knob_json(view, knob, reading) for knob, reading in view.knobs]
    return {**record_json(view), "metrics": dict(view.metrics), "knobs": knobs}


def knob_json(view: TargetView, knob: Knob, reading: KnobReading | None) -> Json:
    """Return a knob of a target with its reading; None = not readable."""
    return {
        "tool": view.tool,
        "target": view.target,
        "knob": record_json(knob),
        "reading": None if reading is None else record_json(reading),
    }


def tool_json(view: ToolView) -> Json:
    """Return a tool as JSON."""
    return {**record_json(view), "modes": dict(view.modes)}


def forecast_json(forecast: Forecast) -> Json:
    """Return a forecast as JSON; each quantile is a list of rows."""
    return {
        **record_json(forecast),
        "values": {quantile: rows.tolist() for quantile, rows in forecast.values.items()},
    }


def past_forecast_json(forecast: PastForecast) -> Json:
    """Return past forecasts as JSON; the times and each quantile are lists of rows."""
    return {
        "id": forecast.id,
        "lead_s": forecast.lead_s,
        "times": [iso(time) for time in forecast.times.tolist()],
        "values": {quantile: rows.tolist() for quantile, rows in forecast.values.items()},
    }


def model_json(view: ModelView) -> Json:
    """Return a model as JSON, with its versions."""
    versions = [{**record_json(version), "figures": dict(version.figures)} for version in view.versions]
    return {**record_json(view), "versions": versions, "refused": dict(view.refused)}


def run_json(run: PipelineRun) -> Json:
    """Return a pipeline run as JSON."""
    return {**record_json(run), "figures": dict(run.figures)}


@lru_cache(64)
def make_shape(record: type, name: str = "") -> type[JsonShape]:
    """Return the response schema of a dataclass."""
    hints = get_type_hints(record)
    made: dict[str, Any] = {f.name: (_field_type(f.name, hints[f.name]), ...) for f in fields(record)}
    summary = (record.__doc__ or "").split("\n")[0]
    shape: type[JsonShape] = create_model(
        name or record.__name__, __base__=JsonShape, __doc__=summary, **made
    )
    return shape


def _field_type(name: str, hint: Any) -> Any:  # noqa: ANN401 - a type or a generic alias
    if get_origin(hint) in _OPTIONAL:
        return Union[tuple(_field_type(name, part) for part in get_args(hint))]  # noqa: UP007 - made of parts
    if name in TIME_FIELDS and hint is int:
        return str | None if name == "since" else str
    if get_origin(hint) is tuple or get_origin(hint) is Sequence:
        return list[_field_type("", get_args(hint)[0])]  # type: ignore[misc]  # a type that is known only now
    if get_origin(hint) is Mapping:
        return dict[get_args(hint)]  # type: ignore[misc]  # as above
    return make_shape(hint) if isinstance(hint, type) and is_dataclass(hint) else hint


def make_page_shape(shape: type[JsonShape], name: str) -> type[JsonShape]:
    """Return the response schema of a page of `shape`."""
    made: dict[str, Any] = {
        "items": (list[shape], ...),  # type: ignore[valid-type]  # a type that is known only now
        "next": (str | None, Field(description="`after` of the next page; null = last page.")),
    }
    page: type[JsonShape] = create_model(name, __base__=JsonShape, __doc__="A page, newest first.", **made)
    return page


def example_response(
    shape: type[JsonShape], example: object, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: schema and example."""
    return {status: {"model": shape, "content": {"application/json": {"example": example}}}}


IncidentShape = make_shape(Incident)
ChangeShape = make_shape(Change)
RecommendationShape = make_shape(Recommendation)
ActionShape = make_shape(Action)
AuditRowShape = make_shape(AuditRow)
PauseShape = make_shape(Pause)
ModelShape = make_shape(ModelView, "Model")
PipelineRunShape = make_shape(PipelineRun)
ToolShape = make_shape(ToolView, "Tool")


class ForecastShape(JsonShape):
    """Forecast of one series."""

    id: str = Field(description="Id of the series.")
    series: str
    source: str
    unit: str
    made: str = Field(description="Time of the newest sample used.")
    start: str = Field(description="Time of the first row; the rows are `step_s` seconds apart.")
    step_s: float
    values: dict[str, list[float | None]] = Field(
        description="Quantile -> values by row, in the series' unit."
    )
    model: str
    version: str = Field(description="Empty = seasonal naive, not a registered model.")
    confidence: ConfidenceGrade
    past_s: float = Field(description="Seconds of history used.")


class ForecastBeforeShape(JsonShape):
    """Past forecasts of one series."""

    id: str = Field(description="Id of the series.")
    lead_s: float = Field(description="Seconds between making a forecast and its time.")
    times: list[str]
    values: dict[str, list[float | None]] = Field(
        description="Quantile -> values by row, in the series' unit."
    )


class KnobShape(JsonShape):
    """A knob of one target."""

    tool: str
    target: str
    knob: make_shape(Knob)  # type: ignore[valid-type]  # derived from the dataclass
    reading: make_shape(KnobReading) | None  # type: ignore[valid-type]  # as above


class TargetShape(JsonShape):
    """Current state of one target of a tool."""

    tool: str
    target: str
    metrics: dict[str, float | None] = Field(description="In base units: bytes, seconds, ratio 0..1.")
    knobs: list[KnobShape]
    actions: list[make_shape(ToolAction)]  # type: ignore[valid-type]  # derived from the dataclass
    problem: str = Field(description="Why values could not be read; empty = all were read.")
