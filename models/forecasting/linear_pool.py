"""Linear forecasts of many series at once: shared coefficients and each series' departure from them.

Hierarchical ridge regression in scale-free units (Gelman and Hill, Data Analysis Using Regression, 2006,
chapter 12): the coefficients of a series are shrunk towards those of the pool, less so with more history.
Horizons are grouped in buckets of geometrically growing size. Iteratively reweighted least squares reduces
the weight of large errors, so that the forecast is close to a median and bursts move no coefficient.
"""

from dataclasses import dataclass

import numpy as np

from trimtab.models.contracts import Bools, Floats, Ints
from trimtab.models.forecasting.panel_features import DAY_NS, FEATURES, History, features

_COLUMN = {name: k for k, name in enumerate(FEATURES)}
REGRESSOR_PAIRS = (
    ("last", "level_15m"), ("level_15m", "level_1h"), ("level_1h", "level_3h"), ("level_3h", "level_6h"),
    ("level_6h", "level_day"), ("level_day", "level_week"), ("days", "level_week"), ("day_1", "days"),
    ("day_2", "days"), ("day_3", "days"), ("day_raw", "day_1"), ("day_wide", "day_1"),
    ("level_1h", "past_day"), ("level_1h", "past_days"), ("level_3h", "past_day_3h"),
    ("week_1", "days"), ("weeks", "days"), ("level_1h", "past_week"), ("level_1h", "past_weeks"),
)  # fmt: skip
"""Each regressor is the difference of two levels or lags; 0 if one of them is not known."""
FOLDS = 4
BUCKET_GROWTH = 1.6
REWEIGHTING_ROUNDS = 3
"""Iterations of the reweighted least squares."""
POOL_PULL = 0.1
"""Shrinkage towards the pool, as a share of a series' rows."""
POOL_RIDGE = 1e-3
"""Ridge penalty of the pool."""
MIN_ROWS = 40
"""With fewer origins a bucket is not fitted."""


@dataclass(frozen=True, slots=True)
class OriginRows:
    """Origins of one horizon bucket, the same number for each series, in time order.

    origin     : (n_series, n_rows) int64, row of the origin
    ahead      : (n_series, n_rows) int64, steps from the origin to the target
    is_known   : (n_series, n_rows) bool, whether the target is known
    features   : (n_series, n_rows, len(FEATURES))
    regressors : (n_series, n_rows, n_pairs), scale-free
    target     : (n_series, n_rows) value minus the last hour's level, scale-free; 0 if not known
    """

    origin: Ints
    ahead: Ints
    is_known: Bools
    features: Floats
    regressors: Floats
    target: Floats


@dataclass(frozen=True, slots=True)
class SeriesFits:
    """Fit of each series for one bucket, scale-free.

    coefficients : (n_series, n_pairs)
    held_out     : (n_series, n_rows) cross-validated forecasts: the fit leaves out the row's block of rows
    """

    coefficients: Floats
    held_out: Floats


def bucket_edges(longest: int) -> Ints:
    """Return the bucket edges: bucket k holds the horizons edges[k] + 1 .. edges[k + 1], in steps.

    >>> bucket_edges(12).tolist()
    [0, 1, 2, 3, 5, 8, 12]
    """
    edges = [0, 1]
    while edges[-1] < longest:
        edges.append(min(max(edges[-1] + 1, round(edges[-1] * BUCKET_GROWTH)), longest))
    return np.array(edges, np.int64)


def change_scale(history: History) -> Floats:
    """Return (n_series,) scales: the mean absolute change from one day to the next.

    The mean absolute deviation if that is unknown or zero; a billionth of its level for a constant
    series, which is then forecast to stay constant.
    """
    y, steps_per_day = history.y, history.steps_per_day
    is_sample = np.isfinite(y)
    change = (
        np.abs(y[:, steps_per_day:] - y[:, :-steps_per_day])
        if y.shape[1] > steps_per_day
        else np.empty((len(y), 0))
    )
    is_known = np.isfinite(change)
    by_day = np.where(is_known, change, 0.0).sum(axis=1) / np.maximum(is_known.sum(axis=1), 1)
    spread = np.where(is_sample, np.abs(y), 0.0).sum(axis=1) / np.maximum(is_sample.sum(axis=1), 1)
    scale = np.where((is_known.sum(axis=1) > steps_per_day // 4) & (by_day > 0), by_day, spread)
    minimum = 1e-9 * np.abs(history.mean)
    return np.where(scale > minimum, scale, np.where(minimum > 0, minimum, 1.0))


def regressors(x: Floats, scale: Floats) -> Floats:
    """Return (..., n_pairs) differences in units of the scale (...)."""
    pairs = [x[..., _COLUMN[a]] - x[..., _COLUMN[b]] for a, b in REGRESSOR_PAIRS]
    return np.nan_to_num(np.stack(pairs, axis=-1), nan=0.0) / scale[..., None]


def origin_level(x: Floats) -> Floats:
    """Return the level that a forecast starts from: mean of the last hour, or of the last day if empty."""
    hour = x[..., _COLUMN["level_1h"]]
    return np.where(np.isnan(hour), x[..., _COLUMN["level_day"]], hour)


def sample_origins(
    history: History, scale: Floats, bucket: tuple[int, int], per_series: int, min_history: int, max_age: int
) -> OriginRows:
    """Sample origins evenly over the last `max_age` rows, each with `min_history` rows before it.

    bucket     : (low, high), the horizons low + 1 .. high in steps
    per_series : number of origins per series
    """
    low, high = bucket
    n, last_origin = len(history.y), history.n_steps - 1 - high
    first_origin = np.maximum(history.first_row + min_history, history.n_steps - max_age)
    span = np.maximum(last_origin - first_origin, 0)
    origin = first_origin[:, None] + np.round(span[:, None] * np.linspace(0.0, 1.0, per_series)).astype(
        np.int64
    )
    origin = np.clip(origin, 0, max(history.n_steps - 1 - high, 0))
    ahead = np.broadcast_to(low + 1 + (np.arange(per_series) * 7919) % (high - low), (n, per_series)).astype(
        np.int64
    )
    has_span = span >= min(MIN_ROWS, per_series)
    series = np.repeat(np.arange(n), per_series)
    x = features(history, series, origin.ravel(), ahead.ravel()).reshape(n, per_series, -1)
    value = np.take_along_axis(history.y, np.minimum(origin + ahead, history.n_steps - 1), axis=1)
    gap = (value - origin_level(x)) / scale[:, None]
    is_known = np.isfinite(gap) & has_span[:, None]
    return OriginRows(origin, ahead, is_known, x, regressors(x, scale[:, None]), np.where(is_known, gap, 0.0))


def fit_pool(rows: OriginRows) -> tuple[Floats, Floats]:
    """Return shared coefficients and the spread of each regressor, both (n_pairs,); 0 if no row is known."""
    x, y = rows.regressors[rows.is_known], rows.target[rows.is_known]
    p = x.shape[1]
    if len(y) < MIN_ROWS:
        return np.zeros(p), np.ones(p)
    spread = np.sqrt((x**2).mean(axis=0))
    spread = np.where(spread > 0, spread, 1.0)
    x = x / spread
    weight = np.ones(len(y))
    shared: Floats = np.zeros(p)
    for _ in range(REWEIGHTING_ROUNDS):
        weighted = x * weight[:, None]
        solution = np.linalg.solve(weighted.T @ x / len(y) + POOL_RIDGE * np.eye(p), weighted.T @ y / len(y))
        shared = np.asarray(solution, np.float64)
        error = np.abs(y - x @ shared)
        weight = 1.0 / np.maximum(error, 0.3 * np.median(error) + 1e-9)
        weight /= weight.mean()
    return shared / spread, spread


def fit_series(rows: OriginRows, shared: Floats, spread: Floats) -> SeriesFits:
    """Fit each series' coefficients, shrunk towards the shared ones."""
    n, n_rows, p = rows.regressors.shape
    x = rows.regressors / spread
    residual = np.where(rows.is_known, rows.target - rows.regressors @ shared, 0.0)
    size = np.abs(np.where(rows.is_known, residual, np.nan))
    usual = np.full(n, 1.0)
    has_rows = rows.is_known.any(axis=1)
    usual[has_rows] = np.nanmedian(size[has_rows], axis=1)
    weight = np.minimum(1.0, 1.5 * usual[:, None] / np.maximum(np.abs(residual), 1e-12)) * rows.is_known
    block = (np.arange(n_rows) * FOLDS) // n_rows
    gram, moment = np.zeros((FOLDS, n, p, p)), np.zeros((FOLDS, n, p))
    for k in range(FOLDS):
        part = x[:, block == k]
        weighted = (part * weight[:, block == k, None]).transpose(0, 2, 1)
        gram[k] = weighted @ part
        moment[k] = (weighted @ residual[:, block == k, None])[..., 0]
    pull = (POOL_PULL * weight.sum(axis=1) + 1e-9)[:, None, None] * np.eye(p)
    gram_sum, moment_sum = gram.sum(axis=0), moment.sum(axis=0)
    departures = np.linalg.solve(gram_sum + pull, moment_sum[..., None])[..., 0]
    held_out = np.empty((n, n_rows))
    for k in range(FOLDS):
        solution = np.linalg.solve(gram_sum - gram[k] + pull, (moment_sum - moment[k])[..., None])
        held_out[:, block == k] = (x[:, block == k] @ solution)[..., 0]
    return SeriesFits(shared + departures / spread, held_out + rows.regressors @ shared)


def weekday(times: Ints) -> Ints:
    """Return the weekday of nanoseconds UTC, Monday = 0."""
    return np.asarray((times // DAY_NS + 3) % 7, np.int64)
