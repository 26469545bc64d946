"""Conversion between domain types and table rows. Unknown numbers are NaN in types and NULL in rows."""

import json
import math
from collections.abc import Mapping
from typing import Any

from trimtab.engine.types import Anomaly, ApiKey, Direction, Feedback, SeriesInfo, SeriesKey, Verdict

Row = Mapping[str, Any]


def nan_to_null(value: float) -> float | None:
    """Return a number for the database; NaN becomes None (NULL).

    >>> nan_to_null(float("nan")) is None, nan_to_null(2.0)
    (True, 2.0)
    """
    number = float(value)
    return None if math.isnan(number) else number


def _null_to_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def series_row(info: SeriesInfo) -> dict[str, Any]:
    """Return the row of table `series`, without its epoch."""
    key = info.key
    return {
        "id": key.id, "source": key.source, "metric": key.metric, "labels": _to_json(key.labels),
        "unit": info.unit, "kind": info.kind, "help": info.help,
    }  # fmt: skip


def series_from_row(row: Row) -> SeriesInfo:
    """Return the series of a row."""
    labels = tuple((name, value) for name, value in json.loads(row["labels"]))
    key = SeriesKey(row["source"], row["metric"], labels)
    return SeriesInfo(key, row["unit"], row["kind"], row["help"])


def anomaly_row(anomaly: Anomaly) -> dict[str, Any]:
    """Return the row of table `anomalies`, without its epoch."""
    return {
        "id": anomaly.id, "series_id": anomaly.series_id, "series": anomaly.series,
        "series_lower": anomaly.series.lower(), "source": anomaly.source,
        "start_ns": int(anomaly.start), "end_ns": None if anomaly.end is None else int(anomaly.end),
        "peak_ns": int(anomaly.peak_time), "score": nan_to_null(anomaly.score),
        "direction": str(anomaly.direction),
        "value": nan_to_null(anomaly.value), "expected": nan_to_null(anomaly.expected),
        "lower_bound": nan_to_null(anomaly.lower), "upper_bound": nan_to_null(anomaly.upper),
        "detectors": _to_json(list(anomaly.detectors)), "reason": anomaly.reason,
        "labels": _to_json(anomaly.labels),
    }  # fmt: skip


def anomaly_from_row(row: Row) -> Anomaly:
    """Return the anomaly of a row."""
    return Anomaly(
        id=row["id"], series_id=row["series_id"], series=row["series"], source=row["source"],
        start=row["start_ns"], end=row["end_ns"], peak_time=row["peak_ns"], score=_null_to_nan(row["score"]),
        direction=Direction(row["direction"]), value=_null_to_nan(row["value"]),
        expected=_null_to_nan(row["expected"]), lower=_null_to_nan(row["lower_bound"]),
        upper=_null_to_nan(row["upper_bound"]), detectors=tuple(json.loads(row["detectors"])),
        reason=row["reason"], labels=json.loads(row["labels"]),
    )  # fmt: skip


def feedback_row(feedback: Feedback) -> dict[str, Any]:
    """Return the row of table `feedback`, without its epoch."""
    return {
        "anomaly_id": feedback.anomaly_id, "author": feedback.author, "verdict": str(feedback.verdict),
        "note": feedback.note, "time_ns": int(feedback.time),
    }  # fmt: skip


def feedback_from_row(row: Row) -> Feedback:
    """Return the feedback of a row."""
    return Feedback(row["anomaly_id"], Verdict(row["verdict"]), row["note"], row["author"], row["time_ns"])


def api_key_row(key: ApiKey) -> dict[str, Any]:
    """Return the row of table `api_keys`: hash and prefix, never the secret."""
    return {
        "id": key.id, "name": key.name, "prefix": key.prefix, "hash": key.hash,
        "scopes": _to_json(list(key.scopes)), "created_ns": int(key.created),
        "expires_ns": key.expires, "revoked_ns": key.revoked,
    }  # fmt: skip


def api_key_from_row(row: Row) -> ApiKey:
    """Return the API key of a row."""
    return ApiKey(
        row["id"], row["name"], row["prefix"], row["hash"], tuple(json.loads(row["scopes"])),
        row["created_ns"], row["expires_ns"], row["revoked_ns"],
    )  # fmt: skip
