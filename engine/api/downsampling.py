"""Downsampling of scores for charts; extremes are kept."""

import numpy as np

from trimtab.engine.ports import ScoreLog
from trimtab.engine.types import Floats, Ints, ScoreRows

CHUNK_ROWS = 100_000
_ROWS_PER_BUCKET = 4


def read_downsampled(log: ScoreLog, series_id: str, since: int, until: int, points: int) -> ScoreRows:
    """Return at most `points` rows of [since, until), int64 ns UTC; reads in chunks to bound memory."""
    kept: list[ScoreRows] = []
    begin = since
    while True:
        rows = log.read(series_id, begin, until, CHUNK_ROWS)
        kept.append(downsample(rows, points))
        if len(rows.times) < CHUNK_ROWS:
            return downsample(_concatenate(kept), points) if len(kept) > 1 else kept[0]
        begin = int(rows.times[-1]) + 1


def downsample(rows: ScoreRows, points: int) -> ScoreRows:
    """Return at most `points` rows: per time bucket the lowest, highest, highest-scored and last row.

    >>> n = np.arange(100)
    >>> spike = np.where(n == 37, 9.0, 0.0)
    >>> float(downsample(ScoreRows(n, spike, *[np.full(100, np.nan)] * 4), 12).value.max())
    9.0
    """
    n = len(rows.times)
    if n <= points:
        return rows
    edges = np.linspace(rows.times[0], rows.times[-1] + 1, max(1, points // _ROWS_PER_BUCKET) + 1)
    bucket = np.clip(np.searchsorted(edges, rows.times, "right") - 1, 0, len(edges) - 2)
    keep = np.unique(
        np.concatenate(
            [
                _max_row_per_bucket(bucket, rows.value),
                _max_row_per_bucket(bucket, -rows.value),
                _max_row_per_bucket(bucket, rows.anomaly_score),
                np.append(np.flatnonzero(np.diff(bucket)), n - 1),
            ]
        )
    )
    return ScoreRows(*(column[keep] for column in _columns(rows)))


def _max_row_per_bucket(bucket: Ints, column: Floats) -> Ints:
    """Return the row index of the highest value per bucket; NaN counts as lowest."""
    order = np.lexsort((np.where(np.isnan(column), -np.inf, column), bucket))
    sorted_bucket = bucket[order]
    ends = np.append(np.flatnonzero(np.diff(sorted_bucket)), len(order) - 1)
    return np.asarray(order[ends], np.int64)


def _columns(rows: ScoreRows) -> tuple[Ints, Floats, Floats, Floats, Floats, Floats]:
    return rows.times, rows.value, rows.anomaly_score, rows.yhat, rows.yhat_lower, rows.yhat_upper


def _concatenate(parts: list[ScoreRows]) -> ScoreRows:
    columns = zip(*(_columns(part) for part in parts), strict=True)
    times, *rest = (np.concatenate(column) for column in columns)
    return ScoreRows(times, *rest)
