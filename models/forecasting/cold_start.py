"""What series do in their first day: back to their median, with the errors that this made so far."""

from itertools import pairwise

import numpy as np

from trimtab.models.contracts import Floats, Ints, State
from trimtab.models.errors import StateError
from trimtab.models.forecasting.linear_pool import LEAST_ROWS, bucket_edges
from trimtab.models.forecasting.panel_features import VALUES, History, features, history_of, medians, steps_of
from trimtab.models.forecasting.quantile_levels import LEVELS
from trimtab.models.forecasting.state_checks import check_arrays

_LAST, _HOUR = (VALUES.index(name) for name in ("last", "level_1h"))
LEAST_S = 1800.0
SETTLED_S = 3 * 3600.0
"""Origins that teach have so much history: before, the spread is not yet a measure."""
ALIVE = 0.2
"""Origins whose spread is below this share of what it becomes teach nothing."""
FADES_S, RETURNS_S = 3600.0, 4 * 3600.0
"""The last value gives way to the last hour's level, and that to the median."""
UNSEEN = (-2.5, 0.0, 1.6, 2.6, 7.0)
"""LEVELS of the errors over horizons that no series was seen over twice, in spreads, at least.

Within hours a load shows little of the spread of its day: from 12 hours, .98 of the values of the next day
lie below the last of them.
"""
_SIDE = np.sign(np.array(LEVELS) - 0.5)
MOST_PIECES = 400
ORIGINS = 24


class YoungPool:
    """Reversion to the median, and the quantiles of its errors in spreads of a series, a bucket of horizons.

    longest_s : horizon that the buckets reach, in seconds
    """

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self.arrays: State = {}

    def fit(self, history: History) -> None:
        """Cut the series into pieces of two days, and see how each goes on from its first hours."""
        pieces = _pieces(history)
        spread = spread_so_far(pieces)
        errors: list[Floats] = []
        before = np.zeros(len(LEVELS))
        seen = (pieces.steps - steps_of(SETTLED_S, pieces.step_s)) // 2
        for low, high in pairwise(bucket_edges(steps_of(self.longest_s, history.step_s)).tolist()):
            miss = _errors(pieces, spread, low, high) if high <= seen else np.empty(0)
            known = len(miss) >= LEAST_ROWS
            found = np.quantile(miss - np.median(miss), LEVELS) if known else np.array(UNSEEN)
            before = _SIDE * np.maximum(np.abs(before), found * _SIDE)
            errors.append(before)
        self.arrays = {"errors": np.stack(errors), "step_s": np.array([history.step_s])}

    def predict(self, history: History, horizon: int) -> Floats:
        """(n_levels, horizon, n_series) about the series' middle; NaN below half an hour of history."""
        n = len(history.y)
        ahead = np.tile(np.arange(1, horizon + 1), n)
        now = np.full(n * horizon, history.steps - 1)
        middle = reverting(history, np.repeat(np.arange(n), horizon), now, ahead).reshape(n, horizon)
        edges = bucket_edges(steps_of(self.longest_s, history.step_s))
        bucket = np.minimum(np.searchsorted(edges, np.arange(1, horizon + 1)) - 1, len(edges) - 2)
        errors = self.arrays["errors"].astype(np.float64)[bucket]
        out = middle.T[None] + errors.T[:, :, None] * spread_so_far(history)[:, -1]
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
        check_arrays(state, {"errors": (n, len(LEVELS))}, "young pool")
        self.arrays = {name: state[name].copy() for name in ("errors", "step_s")}


def reverting(history: History, series: Ints, now: Ints, ahead: Ints) -> Floats:
    """(n_rows,) the last value, giving way to the last hour's level, and that to the median of up to a day.

    Bursts pull a mean away from where a load usually is: in the first 12 hours the mean erred .86 of what
    repeating the last value does over a day, the median .77.
    """
    x = features(history, series, now, ahead)
    usual = medians(history, series, now, history.day)
    hour = np.where(np.isnan(x[:, _HOUR]), usual, x[:, _HOUR])
    last = np.where(np.isnan(x[:, _LAST]), hour, x[:, _LAST])
    seconds = ahead * history.step_s
    back = 1.0 - np.exp(-seconds / RETURNS_S)
    return np.asarray(hour + (last - hour) * np.exp(-seconds / FADES_S) + back * (usual - hour), np.float64)


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
    ends = [history.steps - k * length for k in range(count)]
    y = np.concatenate([history.y[:, end - length : end] for end in ends])[:MOST_PIECES]
    y = y[np.isfinite(y).any(axis=1)]
    return history_of(y.T, np.zeros(len(y), np.int64), history.step_s)


def _errors(pieces: History, spread: Floats, low: int, high: int) -> Floats:
    """(n,) errors in spreads, from origins of three hours to a day after the begin of a piece."""
    n, day = len(pieces.y), pieces.day
    begin = pieces.first + min(steps_of(SETTLED_S, pieces.step_s), pieces.steps // 4)
    latest = np.maximum(np.minimum(pieces.steps - 1 - high, pieces.first + day), begin)
    now = begin[:, None] + np.round((latest - begin)[:, None] * np.linspace(0, 1, ORIGINS)).astype(np.int64)
    now = np.clip(now, 0, pieces.steps - 1)
    ahead = np.broadcast_to(low + 1 + (np.arange(ORIGINS) * 7919) % (high - low), now.shape).astype(np.int64)
    middle = reverting(pieces, np.repeat(np.arange(n), ORIGINS), now.ravel(), ahead.ravel()).reshape(
        now.shape
    )
    unit = np.take_along_axis(spread, now, axis=1)
    value = np.take_along_axis(pieces.y, np.minimum(now + ahead, pieces.steps - 1), axis=1)
    ok = (now + ahead < pieces.steps) & np.isfinite(value - middle) & (unit > ALIVE * spread[:, -1:])
    return np.asarray(((value - middle)[ok] / unit[ok]), np.float64)
