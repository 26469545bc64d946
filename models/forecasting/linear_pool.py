"""Linear forecasts of many series at once: what all share, and how far each departs from it.

Hierarchical ridge regression in scale-free units (Gelman and Hill, Data Analysis Using Regression, 2006,
chapter 12): the coefficients of a series are drawn towards those of the pool, the more the less it has shown.
Horizons are taken in buckets that grow geometrically. Errors are weighed down as they grow (iteratively
reweighted least squares), so that the forecast is near a median and a burst moves no coefficient.
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
"""Each regressor is a difference of two levels or lags; one that is not known says nothing: 0."""
FOLDS = 4
BUCKET_GROWTH = 1.6
REWEIGHTING_ROUNDS = 3
"""Of reweighting."""
POOL_PULL = 0.1
"""Pull towards the pool, as a share of a series' own rows."""
POOL_RIDGE = 1e-3
"""Ridge penalty of the pool."""
MIN_ROWS = 40
"""Origins below which a bucket is not fitted."""


@dataclass(frozen=True, slots=True)
class OriginRows:
    """Origins of one bucket of horizons, as many for each series; those of a series in time order.

    now, ahead : (n_series, n_rows) int64
    ok         : (n_series, n_rows) bool, whether the target is known
    x          : (n_series, n_rows, len(VALUES)) features
    regressors : (n_series, n_rows, n_pairs) scale-free
    target     : (n_series, n_rows) the value less the level of the last hour, scale-free; 0 where not ok
    """

    origin: Ints
    ahead: Ints
    is_known: Bools
    features: Floats
    regressors: Floats
    target: Floats


@dataclass(frozen=True, slots=True)
class SeriesFits:
    """The fit of each series for one bucket, scale-free.

    coefficients : (n_series, n_pairs)
    held_out     : (n_series, n_rows) the forecast of a fit that left the row's block of rows out
    """

    coefficients: Floats
    held_out: Floats


def bucket_edges(longest: int) -> Ints:
    """Bucket k holds the horizons edges[k] + 1 .. edges[k + 1].

    >>> bucket_edges(12).tolist()
    [0, 1, 2, 3, 5, 8, 12]
    """
    edges = [0, 1]
    while edges[-1] < longest:
        edges.append(min(max(edges[-1] + 1, round(edges[-1] * BUCKET_GROWTH)), longest))
    return np.array(edges, np.int64)


def change_scale(history: History) -> Floats:
    """(n_series,) scale of each series: mean absolute change from a day to the next.

    The mean absolute deviation where that is not known or zero; a billionth of its level for a constant
    series, so that it is forecast to stay.
    """
    y, day = history.y, history.steps_per_day
    there = np.isfinite(y)
    change = np.abs(y[:, day:] - y[:, :-day]) if y.shape[1] > day else np.empty((len(y), 0))
    known = np.isfinite(change)
    by_day = np.where(known, change, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    spread = np.where(there, np.abs(y), 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    scale = np.where((known.sum(axis=1) > day // 4) & (by_day > 0), by_day, spread)
    least = 1e-9 * np.abs(history.mean)
    return np.where(scale > least, scale, np.where(least > 0, least, 1.0))


def regressors(x: Floats, scale: Floats) -> Floats:
    """(..., n_pairs) differences in units of the scale (...)."""
    pairs = [x[..., _COLUMN[a]] - x[..., _COLUMN[b]] for a, b in REGRESSOR_PAIRS]
    return np.nan_to_num(np.stack(pairs, axis=-1), nan=0.0) / scale[..., None]


def origin_level(x: Floats) -> Floats:
    """What a forecast starts from: the mean of the last hour, or of the last day where that is empty."""
    hour = x[..., _COLUMN["level_1h"]]
    return np.where(np.isnan(hour), x[..., _COLUMN["level_day"]], hour)


def sample_origins(
    history: History, scale: Floats, bucket: tuple[int, int], per_series: int, min_history: int, max_age: int
) -> OriginRows:
    """Origins spread evenly over the last `most` rows, each with `least` rows of history before it."""
    low, high = bucket
    n, last = len(history.y), history.n_steps - 1 - high
    begin = np.maximum(history.first_row + min_history, history.n_steps - max_age)
    room = np.maximum(last - begin, 0)
    now = begin[:, None] + np.round(room[:, None] * np.linspace(0.0, 1.0, per_series)).astype(np.int64)
    now = np.clip(now, 0, max(history.n_steps - 1 - high, 0))
    ahead = np.broadcast_to(low + 1 + (np.arange(per_series) * 7919) % (high - low), (n, per_series)).astype(
        np.int64
    )
    enough = room >= min(MIN_ROWS, per_series)
    series = np.repeat(np.arange(n), per_series)
    x = features(history, series, now.ravel(), ahead.ravel()).reshape(n, per_series, -1)
    value = np.take_along_axis(history.y, np.minimum(now + ahead, history.n_steps - 1), axis=1)
    gap = (value - origin_level(x)) / scale[:, None]
    ok = np.isfinite(gap) & enough[:, None]
    return OriginRows(now, ahead, ok, x, regressors(x, scale[:, None]), np.where(ok, gap, 0.0))


def fit_pool(rows: OriginRows) -> tuple[Floats, Floats]:
    """Shared coefficients and the spread of each regressor, both (n_pairs,); zeros where no row is known."""
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
        weighed = x * weight[:, None]
        found = np.linalg.solve(weighed.T @ x / len(y) + POOL_RIDGE * np.eye(p), weighed.T @ y / len(y))
        shared = np.asarray(found, np.float64)
        miss = np.abs(y - x @ shared)
        weight = 1.0 / np.maximum(miss, 0.3 * np.median(miss) + 1e-9)
        weight /= weight.mean()
    return shared / spread, spread


def fit_series(rows: OriginRows, shared: Floats, spread: Floats) -> SeriesFits:
    """Each series' own coefficients, drawn towards the shared ones."""
    n, per, p = rows.regressors.shape
    x = rows.regressors / spread
    rest = np.where(rows.is_known, rows.target - rows.regressors @ shared, 0.0)
    size = np.abs(np.where(rows.is_known, rest, np.nan))
    usual = np.full(n, 1.0)
    some = rows.is_known.any(axis=1)
    usual[some] = np.nanmedian(size[some], axis=1)
    weight = np.minimum(1.0, 1.5 * usual[:, None] / np.maximum(np.abs(rest), 1e-12)) * rows.is_known
    block = (np.arange(per) * FOLDS) // per
    gram, moment = np.zeros((FOLDS, n, p, p)), np.zeros((FOLDS, n, p))
    for k in range(FOLDS):
        part = x[:, block == k]
        weighed = (part * weight[:, block == k, None]).transpose(0, 2, 1)
        gram[k] = weighed @ part
        moment[k] = (weighed @ rest[:, block == k, None])[..., 0]
    pull = (POOL_PULL * weight.sum(axis=1) + 1e-9)[:, None, None] * np.eye(p)
    whole, sums = gram.sum(axis=0), moment.sum(axis=0)
    own = np.linalg.solve(whole + pull, sums[..., None])[..., 0]
    held_out = np.empty((n, per))
    for k in range(FOLDS):
        without = np.linalg.solve(whole - gram[k] + pull, (sums - moment[k])[..., None])
        held_out[:, block == k] = (x[:, block == k] @ without)[..., 0]
    return SeriesFits(shared + own / spread, held_out + rows.regressors @ shared)


def weekday(times: Ints) -> Ints:
    """Day of the week of nanoseconds UTC, Monday = 0."""
    return np.asarray((times // DAY_NS + 3) % 7, np.int64)
