"""Builders for series, anomalies and ticks, and the start time of the fake clock."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trimtab.engine.types import Anomaly, Direction, SeriesKey, SeriesView, TickScores

START = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z in int64 ns: the start of the fake clock."""
SECOND = 1_000_000_000


def series_view(key: SeriesKey, **changed: Any) -> SeriesView:
    """Return the view of a scored, healthy series."""
    view = SeriesView(
        id=key.id, series=str(key), source=key.source, metric=key.metric, labels=dict(key.labels),
        unit="", kind="gauge", time=START, value=1.0, anomaly_score=0.1, yhat=1.0, yhat_lower=0.5,
        yhat_upper=1.5, learning_s=0.0, anomaly_id=None, detector="ew_zscore",
    )  # fmt: skip
    return replace(view, **changed)


def anomaly_of(key: SeriesKey, anomaly_id: str, **changed: Any) -> Anomaly:
    """Return an open anomaly of a series."""
    anomaly = Anomaly(
        id=anomaly_id, series_id=key.id, series=str(key), source=key.source, start=START, end=None,
        peak_time=START, score=1.5, direction=Direction.ABOVE, value=9.0, expected=1.0, lower=0.5, upper=1.5,
        detectors=("ew_zscore",), labels=dict(key.labels),
    )  # fmt: skip
    return replace(anomaly, **changed)


def tick_scores(source: str, time: int, values: Sequence[float], **columns: Sequence[float]) -> TickScores:
    """Return a scored tick; columns that are not given are NaN."""
    n = len(values)
    given = {name: np.asarray(column, np.float64) for name, column in columns.items()}
    rest = {
        name: given.get(name, np.full(n, np.nan))
        for name in ("anomaly_score", "yhat", "yhat_lower", "yhat_upper")
    }
    return TickScores(
        source=source, time=time, values=np.asarray(values, np.float64), detector=np.full(n, -1), **rest
    )
