"""JSON responses and their schemas: unknown values are null, times are ISO 8601 UTC."""

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.types import Anomaly, ApiKey, Feedback, SeriesView, SourceStatus, iso

Json = dict[str, object]

TIME_FIELDS = frozenset(
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
    """Serialize to JSON: non-finite numbers become null, numpy arrays become lists.

    >>> to_json({"value": float("nan")})
    b'{"value":null}'
    """
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(body: object, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(to_json(body), status, media_type="application/json")


def with_iso_times(data: Mapping[str, object]) -> Json:
    """Return a copy with the time fields (int64 ns UTC) as ISO 8601; `since` 0 becomes None.

    >>> with_iso_times({"start": 1_500_000_000, "end": None})
    {'start': '1970-01-01T00:00:01.500Z', 'end': None}
    """
    body = dict(data)
    for name in TIME_FIELDS & body.keys():
        time = body[name]
        if isinstance(time, int):
            body[name] = None if name == "since" and time == 0 else _cached_iso(time)
    return body


_cached_iso = lru_cache(4096)(iso)


def event_json(event: Mapping[str, object]) -> Json:
    """Return an event with ISO 8601 times, also for nested mappings and lists of mappings.

    >>> event_json({"id": "a", "shadow": {"time": 0}})
    {'id': 'a', 'shadow': {'time': '1970-01-01T00:00:00.000Z'}}
    >>> event_json({"id": "a", "suspects": ({"moved": 0},)})
    {'id': 'a', 'suspects': [{'moved': '1970-01-01T00:00:00.000Z'}]}
    """
    body = with_iso_times(event)
    for name, value in body.items():
        if isinstance(value, tuple | list):
            body[name] = [with_iso_times(part) if isinstance(part, Mapping) else part for part in value]
        elif isinstance(value, Mapping):
            body[name] = with_iso_times(value)
    return body


def _fields_json(record: object, names: tuple[str, ...]) -> Json:
    return with_iso_times({name: getattr(record, name) for name in names})


def series_json(view: SeriesView) -> Json:
    """Return a series as JSON."""
    return _fields_json(view, _SERIES)


def anomaly_json(anomaly: Anomaly) -> Json:
    """Return an anomaly as JSON."""
    return _fields_json(anomaly, _ANOMALY)


def feedback_json(feedback: Feedback) -> Json:
    """Return feedback as JSON."""
    return _fields_json(feedback, _FEEDBACK)


def source_json(status: SourceStatus) -> Json:
    """Return the status of a source as JSON."""
    return _fields_json(status, _SOURCE)


def key_json(key: ApiKey) -> Json:
    """Return an API key as JSON, without its hash."""
    return _fields_json(key, _KEY)


class JsonShape(BaseModel):
    """Base class of the response schemas of the OpenAPI document."""

    model_config = ConfigDict(title=None)


class Series(JsonShape):
    """A series with its newest tick."""

    id: str = Field(examples=["3f0c2a9be1d84756a0b1c2d3e4f50617"])
    series: str = Field(examples=['cpu_busy_ratio{core="1"}'])
    source: str = Field(examples=["host"])
    metric: str
    labels: dict[str, str]
    unit: str = Field(examples=["ratio"])
    kind: str = Field(examples=["gauge"])
    time: str | None = Field(examples=["2026-01-01T00:00:00.000Z"])
    value: float | None
    anomaly_score: float | None = Field(description="Above 1 = rarer than the false-alarm budget allows.")
    yhat: float | None
    yhat_lower: float | None
    yhat_upper: float | None
    learning_s: float = Field(description="Approximate seconds until it is scored; 0 = scored.")
    anomaly_id: str | None
    detector: str | None


class SeriesPage(JsonShape):
    """A page of series."""

    items: list[Series]
    total: int
    next: str | None = Field(description="`after` of the next page; null = last page.")


class Columns(JsonShape):
    """Scores as columns, oldest first."""

    time: list[str]
    value: list[float | None]
    anomaly_score: list[float | None]
    yhat: list[float | None]
    yhat_lower: list[float | None]
    yhat_upper: list[float | None]


class Scores(JsonShape):
    """Scores of one series."""

    id: str
    series: str
    unit: str
    columns: Columns


class FeedbackShape(JsonShape):
    """Feedback of an operator on an anomaly."""

    verdict: Literal["right", "wrong"]
    note: str
    author: str
    time: str


class AnomalyShape(JsonShape):
    """A period in which one series deviated from its expected behaviour."""

    id: str = Field(examples=["01JGFJJZ000000000000000000"])
    series_id: str
    series: str
    source: str
    start: str
    end: str | None = Field(description="null = still open.")
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
    """An anomaly with its feedback."""

    feedback: list[FeedbackShape]


class AnomalyPage(JsonShape):
    """A page of anomalies, newest first."""

    items: list[AnomalyShape]
    next: str | None


class Source(JsonShape):
    """Status of a source."""

    name: str
    state: Literal["starting", "up", "unknown"]
    interval_s: float
    series: int
    since: str | None
    detail: str
    left_out: int
    warm_progress: float | None


class Status(JsonShape):
    """Status of the engine."""

    version: str
    acts: bool = Field(description="Whether the engine runs incidents, recommendations and actions.")
    ready: bool
    waiting_for: str
    engine: dict[str, float | int | str]
    sources: list[Source]


class Health(JsonShape):
    """Health, for probes."""

    status: Literal["ok", "ready", "starting", "failing"]
    waiting_for: str = ""
    problem: str = Field("", description='Why the engine is unhealthy; "" = healthy.')


class Session(JsonShape):
    """The authenticated caller."""

    name: str
    scopes: list[str]
    csrf: str | None = Field(
        description="Value of X-CSRF-Token for a browser's writes; null with a Bearer key."
    )


class Key(JsonShape):
    """An API key without its secret."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created: str
    expires: str | None
    revoked: str | None


class NewKey(Key):
    """A newly created API key."""

    secret: str | None = Field(
        description="Returned only once; null in the response to a repeated Idempotency-Key."
    )


class KeyList(JsonShape):
    """All API keys, newest first."""

    items: list[Key]


class ProblemShape(JsonShape):
    """A problem (RFC 9457)."""

    type: str = Field(examples=["urn:trimtab:problem:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str
    trace_id: str
