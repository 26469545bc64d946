"""The JSON that goes out: unknown is null, times are ISO 8601 UTC."""

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.types import Anomaly, ApiKey, Feedback, SeriesView, SourceStatus, iso

Json = dict[str, object]

TIMES = frozenset(
    {
        "time", "start", "end", "peak_time", "since", "created", "expires", "revoked", "moved", "approved",
        "scheduled", "started", "ended", "until", "made", "stored", "trained_until",
    }
)  # fmt: skip
_SERIES = tuple(field.name for field in fields(SeriesView))
_ANOMALY = tuple(field.name for field in fields(Anomaly))
_SOURCE = tuple(field.name for field in fields(SourceStatus))
_KEY = tuple(field.name for field in fields(ApiKey) if field.name != "hash")
_FEEDBACK = ("verdict", "note", "author", "time")


def to_json(body: object) -> bytes:
    """JSON without NaN: numbers that are not finite become null, numpy arrays become lists.

    >>> to_json({"value": float("nan")})
    b'{"value":null}'
    """
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(body: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(to_json(body), status, media_type="application/json")


def wire(data: Mapping[str, object]) -> Json:
    """Fields of a noun as they go out; a time that is int64 ns becomes ISO 8601, `since` 0 is unknown.

    >>> wire({"start": 1_500_000_000, "end": None})
    {'start': '1970-01-01T00:00:01.500Z', 'end': None}
    """
    body = dict(data)
    for name in TIMES & body.keys():
        time = body[name]
        if isinstance(time, int):
            body[name] = None if name == "since" and time == 0 else _iso(time)
    return body


_iso = lru_cache(4096)(iso)


def told(event: Mapping[str, object]) -> Json:
    """An event as it goes out: as `wire`, and so for every noun in it, or in a list of it.

    >>> told({"id": "a", "shadow": {"time": 0}})
    {'id': 'a', 'shadow': {'time': '1970-01-01T00:00:00.000Z'}}
    >>> told({"id": "a", "suspects": ({"moved": 0},)})
    {'id': 'a', 'suspects': [{'moved': '1970-01-01T00:00:00.000Z'}]}
    """
    body = wire(event)
    for name, value in body.items():
        if isinstance(value, tuple | list):
            body[name] = [wire(part) if isinstance(part, Mapping) else part for part in value]
        elif isinstance(value, Mapping):
            body[name] = wire(value)
    return body


def _wire_fields(noun: object, names: tuple[str, ...]) -> Json:
    return wire({name: getattr(noun, name) for name in names})


def series_json(view: SeriesView) -> Json:
    """Series."""
    return _wire_fields(view, _SERIES)


def anomaly_json(anomaly: Anomaly) -> Json:
    """Anomaly."""
    return _wire_fields(anomaly, _ANOMALY)


def feedback_json(feedback: Feedback) -> Json:
    """Feedback of one anomaly."""
    return _wire_fields(feedback, _FEEDBACK)


def source_json(status: SourceStatus) -> Json:
    """Source."""
    return _wire_fields(status, _SOURCE)


def key_json(key: ApiKey) -> Json:
    """Key, without its hash."""
    return _wire_fields(key, _KEY)


class Shape(BaseModel):
    """An answer as /api-docs describes it."""

    model_config = ConfigDict(title=None)


class Series(Shape):
    """A series as it is now."""

    id: str = Field(examples=["3f0c2a9be1d84756a0b1c2d3e4f50617"])
    series: str = Field(examples=['cpu_busy_ratio{core="1"}'])
    source: str = Field(examples=["host"])
    metric: str
    labels: dict[str, str]
    unit: str = Field(examples=["ratio"])
    kind: str = Field(examples=["gauge"])
    time: str | None = Field(examples=["2026-01-01T00:00:00.000Z"])
    value: float | None
    anomaly_score: float | None = Field(description="Above 1 = rarer than the false-alarm budget.")
    yhat: float | None
    yhat_lower: float | None
    yhat_upper: float | None
    learning_s: float = Field(description="Seconds until it is scored, about; 0 = it is scored.")
    anomaly_id: str | None
    detector: str | None


class SeriesPage(Shape):
    """A page of series."""

    items: list[Series]
    total: int
    next: str | None = Field(description="`after` of the next page; null = this is the last.")


class Columns(Shape):
    """Scores by column, oldest first."""

    time: list[str]
    value: list[float | None]
    anomaly_score: list[float | None]
    yhat: list[float | None]
    yhat_lower: list[float | None]
    yhat_upper: list[float | None]


class Scores(Shape):
    """Scores of one series."""

    id: str
    series: str
    unit: str
    columns: Columns


class FeedbackShape(Shape):
    """A person's word on an anomaly."""

    verdict: Literal["right", "wrong"]
    note: str
    author: str
    time: str


class AnomalyShape(Shape):
    """A stretch of time in which one series behaved unlike itself."""

    id: str = Field(examples=["01JGFJJZ000000000000000000"])
    series_id: str
    series: str
    source: str
    start: str
    end: str | None = Field(description="null = it goes on.")
    peak_time: str
    score: float
    direction: Literal["above", "below", "absent"]
    value: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    detectors: list[str]
    reason: str
    labels: dict[str, str]


class AnomalyDetail(AnomalyShape):
    """With what people said."""

    feedback: list[FeedbackShape]


class AnomalyPage(Shape):
    """A page of anomalies, newest first."""

    items: list[AnomalyShape]
    next: str | None


class Source(Shape):
    """How a source does."""

    name: str
    state: Literal["starting", "up", "unknown"]
    interval_s: float
    series: int
    since: str | None
    detail: str
    left_out: int
    warm_progress: float | None


class Status(Shape):
    """How the engine does."""

    version: str
    acts: bool = Field(description="Whether there are incidents, recommendations and actions here.")
    ready: bool
    waiting_for: str
    engine: dict[str, float | int | str]
    sources: list[Source]


class Health(Shape):
    """Health for probes."""

    status: Literal["ok", "ready", "starting", "failing"]
    waiting_for: str = ""
    problem: str = Field("", description='What makes the engine unfit, "" = nothing.')


class Session(Shape):
    """Who is logged in."""

    name: str
    scopes: list[str]
    csrf: str | None = Field(description="For X-CSRF-Token of a browser's writes; null with a Bearer key.")


class Key(Shape):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created: str
    expires: str | None
    revoked: str | None


class NewKey(Key):
    """A key that was just made."""

    secret: str | None = Field(description="Shown this once; null where an Idempotency-Key repeats the call.")


class KeyList(Shape):
    """Every key, newest first."""

    items: list[Key]


class ProblemShape(Shape):
    """RFC 9457 problem."""

    type: str = Field(examples=["urn:trimtab:problem:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str
    trace_id: str
