"""What series do in their first day: back to their median, with the errors that this made so far."""

from itertools import pairwise

import numpy as np

from trimtab.models.contracts import Floats, Ints, State
from trimtab.models.errors import StateError
from trimtab.models.forecasting.linear_pool import MIN_ROWS, bucket_edges
from trimtab.models.forecasting.panel_features import (
    FEATURES,
    History,
    build_history,
    features,
    seconds_to_steps,
    trailing_medians,
)
from trimtab.models.forecasting.quantile_levels import QUANTILE_LEVELS
from trimtab.models.forecasting.state_checks import check_arrays

_LAST, _HOUR = (FEATURES.index(name) for name in ("last", "level_1h"))
MIN_HISTORY_S = 1800.0
MIN_ORIGIN_HISTORY_S = 3 * 3600.0
"""Origins that teach have so much history: before, the spread is not yet a measure."""
MIN_SPREAD_RATIO = 0.2
"""Origins whose spread is below this share of what it becomes teach nothing."""
LAST_VALUE_DECAY_S, LEVEL_DECAY_S = 3600.0, 4 * 3600.0
"""The last value gives way to the last hour's level, and that to the median."""
UNSEEN_ERROR_QUANTILES = (-2.5, 0.0, 1.6, 2.6, 7.0)
"""LEVELS of the errors over horizons that no series was seen over twice, in spreads, at least.

Within hours a load shows little of the spread of its day: from 12 hours, .98 of the values of the next day
lie below the last of them.
"""
_LEVEL_SIGNS = np.sign(np.array(QUANTILE_LEVELS) - 0.5)
MAX_PIECES = 400
ORIGINS_PER_PIECE = 24


class ColdStart:
    """Reversion to the median, and the quantiles of its errors in spreads of a series, a bucket of horizons.

    longest_s : horizon that the buckets reach, in seconds
    """

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self.arrays: State = {}

    def fit(self, history: History) -> None:
        """Cut the series into pieces of two days, and see how each goes on from its first hours."""
        pieces = _two_day_pieces(history)
        spread = running_spread(pieces)
        errors: list[Floats] = []
        before = np.zeros(len(QUANTILE_LEVELS))
        seen = (pieces.n_steps - seconds_to_steps(MIN_ORIGIN_HISTORY_S, pieces.step_s)) // 2
        for low, high in pairwise(bucket_edges(seconds_to_steps(self.longest_s, history.step_s)).tolist()):
            miss = _scaled_errors(pieces, spread, low, high) if high <= seen else np.empty(0)
            known = len(miss) >= MIN_ROWS
            found = (
                np.quantile(miss - np.median(miss), QUANTILE_LEVELS)
                if known
                else np.array(UNSEEN_ERROR_QUANTILES)
            )
            before = _LEVEL_SIGNS * np.maximum(np.abs(before), found * _LEVEL_SIGNS)
            errors.append(before)
        self.arrays = {"errors": np.stack(errors), "step_s": np.array([history.step_s])}

    def predict(self, history: History, horizon: int) -> Floats:
        """(n_levels, horizon, n_series) about the series' middle; NaN below half an hour of history."""
        n = len(history.y)
        ahead = np.tile(np.arange(1, horizon + 1), n)
        now = np.full(n * horizon, history.n_steps - 1)
        middle = reverting_forecast(history, np.repeat(np.arange(n), horizon), now, ahead).reshape(n, horizon)
        edges = bucket_edges(seconds_to_steps(self.longest_s, history.step_s))
        bucket = np.minimum(np.searchsorted(edges, np.arange(1, horizon + 1)) - 1, len(edges) - 2)
        errors = self.arrays["errors"].astype(np.float64)[bucket]
        out = middle.T[None] + errors.T[:, :, None] * running_spread(history)[:, -1]
        out[:, :, history.length * history.step_s < MIN_HISTORY_S] = np.nan
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
        n = len(bucket_edges(seconds_to_steps(self.longest_s, step_s))) - 1
        check_arrays(state, {"errors": (n, len(QUANTILE_LEVELS))}, "young pool")
        self.arrays = {name: state[name].copy() for name in ("errors", "step_s")}


def reverting_forecast(history: History, series: Ints, now: Ints, ahead: Ints) -> Floats:
    """(n_rows,) the last value, giving way to the last hour's level, and that to the median of up to a day.

    Bursts pull a mean away from where a load usually is: in the first 12 hours the mean erred .86 of what
    repeating the last value does over a day, the median .77.
    """
    x = features(history, series, now, ahead)
    usual = trailing_medians(history, series, now, history.steps_per_day)
    hour = np.where(np.isnan(x[:, _HOUR]), usual, x[:, _HOUR])
    last = np.where(np.isnan(x[:, _LAST]), hour, x[:, _LAST])
    seconds = ahead * history.step_s
    back = 1.0 - np.exp(-seconds / LEVEL_DECAY_S)
    return np.asarray(
        hour + (last - hour) * np.exp(-seconds / LAST_VALUE_DECAY_S) + back * (usual - hour), np.float64
    )


def running_spread(history: History) -> Floats:
    """(n_series, n_steps) standard deviation of the samples up to each row."""
    y = np.where(np.isfinite(history.y), history.y, 0.0)
    n = np.maximum(history.running_count[:, 1:], 1)
    mean = history.running_sum[:, 1:] / n
    return np.sqrt(np.maximum(np.cumsum(y**2, axis=1) / n - mean**2, 0.0))


def _two_day_pieces(history: History) -> History:
    """Two days each, the newest first, MOST_PIECES in all; the panel itself where it is shorter."""
    length = min(2 * history.steps_per_day, history.n_steps)
    count = max(min(history.n_steps // length, MAX_PIECES // max(len(history.y), 1)), 1)
    ends = [history.n_steps - k * length for k in range(count)]
    y = np.concatenate([history.y[:, end - length : end] for end in ends])[:MAX_PIECES]
    y = y[np.isfinite(y).any(axis=1)]
    return build_history(y.T, np.zeros(len(y), np.int64), history.step_s)


def _scaled_errors(pieces: History, spread: Floats, low: int, high: int) -> Floats:
    """(n,) errors in spreads, from origins of three hours to a day after the begin of a piece."""
    n, day = len(pieces.y), pieces.steps_per_day
    begin = pieces.first_row + min(seconds_to_steps(MIN_ORIGIN_HISTORY_S, pieces.step_s), pieces.n_steps // 4)
    latest = np.maximum(np.minimum(pieces.n_steps - 1 - high, pieces.first_row + day), begin)
    now = begin[:, None] + np.round((latest - begin)[:, None] * np.linspace(0, 1, ORIGINS_PER_PIECE)).astype(
        np.int64
    )
    now = np.clip(now, 0, pieces.n_steps - 1)
    ahead = np.broadcast_to(low + 1 + (np.arange(ORIGINS_PER_PIECE) * 7919) % (high - low), now.shape).astype(
        np.int64
    )
    middle = reverting_forecast(
        pieces, np.repeat(np.arange(n), ORIGINS_PER_PIECE), now.ravel(), ahead.ravel()
    ).reshape(now.shape)
    unit = np.take_along_axis(spread, now, axis=1)
    value = np.take_along_axis(pieces.y, np.minimum(now + ahead, pieces.n_steps - 1), axis=1)
    ok = (
        (now + ahead < pieces.n_steps)
        & np.isfinite(value - middle)
        & (unit > MIN_SPREAD_RATIO * spread[:, -1:])
    )
    return np.asarray(((value - middle)[ok] / unit[ok]), np.float64)
