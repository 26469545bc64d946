"""What series do in their first day, learnt from the first hours of pieces of all series."""

from itertools import pairwise

import numpy as np

from trimtab.models.contracts import Floats, State
from trimtab.models.errors import StateError
from trimtab.models.forecast_levels import LEVELS
from trimtab.models.linear_pool import LEAST_ROWS, Rows, bucket_edges, fit_pool, origin_level, regressors
from trimtab.models.panel_features import VALUES, History, features, history_of, steps_of
from trimtab.models.pooled_state import check_arrays

PAIRS_USED = ("last", "level_15m", "level_1h", "level_3h", "level_6h", "level_day")
LEAST_S = 1800.0
MOST_PIECES = 1500
ORIGINS = 40


class YoungPool:
    """A pooled linear forecast from levels alone, and the quantiles of its errors, a bucket of horizons each.

    longest_s : horizon that the buckets reach, in seconds
    """

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self.arrays: State = {}

    def fit(self, history: History) -> None:
        """Cut the series into pieces of two days, and learn how each goes on from its first hours."""
        pieces = _pieces(history)
        spread = spread_so_far(pieces)
        edges = bucket_edges(steps_of(self.longest_s, history.step_s)).tolist()
        coefficients: list[Floats] = []
        errors: list[Floats] = []
        for low, high in pairwise(edges):
            rows = _sample(pieces, spread, low, high)
            if rows.ok.sum() < LEAST_ROWS and coefficients:
                coefficients.append(coefficients[-1])
                errors.append(errors[-1])
                continue
            shared, _ = fit_pool(rows)
            miss = (rows.target - rows.regressors @ shared)[rows.ok]
            coefficients.append(shared)
            errors.append(np.quantile(miss, LEVELS) if len(miss) else np.zeros(len(LEVELS)))
        self.arrays = {
            "shared": np.stack(coefficients),
            "errors": np.stack(errors),
            "step_s": np.array([history.step_s]),
        }

    def predict(self, history: History, horizon: int) -> Floats:
        """(n_levels, horizon, n_series) about the series' middle; NaN below half an hour of history."""
        n = len(history.y)
        series, ahead = np.repeat(np.arange(n), horizon), np.tile(np.arange(1, horizon + 1), n)
        now = np.full(n * horizon, history.steps - 1)
        x = young(features(history, series, now, ahead)).reshape(n, horizon, -1)
        spread = np.maximum(spread_so_far(history)[:, -1], 1e-12)[:, None]
        edges = bucket_edges(steps_of(self.longest_s, history.step_s))
        bucket = np.minimum(np.searchsorted(edges, np.arange(1, horizon + 1)) - 1, len(edges) - 2)
        shared, errors = (self.arrays[k].astype(np.float64)[bucket] for k in ("shared", "errors"))
        gap = np.einsum("nhp,hp->nh", regressors(x, np.broadcast_to(spread, x.shape[:2])), shared)
        out = (origin_level(x) + gap * spread)[None] + errors.T[:, None, :] * spread
        out = out.transpose(0, 2, 1)
        out[:, :, history.length * history.step_s < LEAST_S] = np.nan
        return np.asarray(out, np.float64)

    def state(self) -> State:
        """A copy of what was learnt."""
        return {name: array.copy() for name, array in self.arrays.items()}

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        check_arrays(state, {"step_s": (1,)}, "young pool")
        step_s = float(state["step_s"][0])
        if step_s <= 0:
            raise StateError(f"young pool: step_s is {step_s:g}; wanted seconds above 0")
        n = len(bucket_edges(steps_of(self.longest_s, step_s))) - 1
        check_arrays(state, {"shared": (n, -1), "errors": (n, len(LEVELS))}, "young pool")
        self.arrays = {name: state[name].copy() for name in ("shared", "errors", "step_s")}


def young(x: Floats) -> Floats:
    """Features without a day's and a week's lags."""
    keep = np.array([name in PAIRS_USED for name in VALUES])
    return np.where(keep, x, np.nan)


def spread_so_far(history: History) -> Floats:
    """(n_series, n_steps) standard deviation of the samples up to each row."""
    y = np.where(np.isfinite(history.y), history.y, 0.0)
    n = np.maximum(history.count[:, 1:], 1)
    mean = history.total[:, 1:] / n
    return np.sqrt(np.maximum(np.cumsum(y**2, axis=1) / n - mean**2, 0.0))


def _pieces(history: History) -> History:
    """Two days each, the newest first, MOST_PIECES in all; the panel itself where it is shorter."""
    length = min(2 * history.day, history.steps)
    count = max(min(history.steps // length, MOST_PIECES // max(len(history.y), 1)), 1)
    pieces = [
        history.y[:, history.steps - (k + 1) * length : history.steps - k * length] for k in range(count)
    ]
    y = np.concatenate(pieces)[:MOST_PIECES]
    y = y[np.isfinite(y).mean(axis=1) > 0.02]
    return history_of(y.T, np.zeros(len(y), np.int64), history.step_s)


def _sample(pieces: History, spread: Floats, low: int, high: int) -> Rows:
    """Origins from half an hour to a day after the begin of a piece."""
    n, day = len(pieces.y), pieces.day
    least = steps_of(LEAST_S, pieces.step_s)
    latest = np.maximum(np.minimum(pieces.steps - 1 - high, pieces.first + day), pieces.first + least)
    begin = pieces.first + least
    now = begin[:, None] + np.round((latest - begin)[:, None] * np.linspace(0, 1, ORIGINS)).astype(np.int64)
    now = np.clip(now, 0, pieces.steps - 1)
    ahead = np.broadcast_to(low + 1 + (np.arange(ORIGINS) * 7919) % (high - low), now.shape).astype(np.int64)
    x = young(features(pieces, np.repeat(np.arange(n), ORIGINS), now.ravel(), ahead.ravel()))
    x = x.reshape(n, ORIGINS, -1)
    unit = np.take_along_axis(spread, now, axis=1)
    inside = now + ahead < pieces.steps
    value = np.take_along_axis(pieces.y, np.minimum(now + ahead, pieces.steps - 1), axis=1)
    ok = inside & np.isfinite(value) & (unit > 0)
    unit = np.where(unit > 0, unit, 1.0)
    gap = (value - origin_level(x)) / unit
    ok &= np.isfinite(gap)
    return Rows(now, ahead, ok, x, regressors(x, unit), np.where(ok, gap, 0.0))
