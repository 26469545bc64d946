"""Forecast of series in their first day: reversion to their median, with pooled errors of such forecasts."""

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
"""Training origins have at least this much history, because the spread is not reliable earlier."""
MIN_SPREAD_RATIO = 0.2
"""Origins with a spread below this share of the final spread are not used for training."""
LAST_VALUE_DECAY_S, LEVEL_DECAY_S = 3600.0, 4 * 3600.0
"""Decay of the last value to the last hour's level, and of that level to the median."""
UNSEEN_ERROR_QUANTILES = (-2.5, 0.0, 1.6, 2.6, 7.0)
"""Minimum error quantiles, in spreads, for horizons that no series covers twice; one per QUANTILE_LEVELS.

The first hours of a load show little of its daily spread: from 12 hours of history, 0.98 of the values of
the next day lie below the last of these.
"""
_LEVEL_SIGNS = np.sign(np.array(QUANTILE_LEVELS) - 0.5)
MAX_PIECES = 400
ORIGINS_PER_PIECE = 24


class ColdStart:
    """Reversion to the median, with error quantiles in spreads of a series for each horizon bucket.

    longest_s : longest horizon of the horizon buckets in seconds
    """

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self.arrays: State = {}

    def fit(self, history: History) -> None:
        """Cut the series into pieces of two days; learn the forecast errors after a piece's first hours."""
        pieces = _two_day_pieces(history)
        spread = running_spread(pieces)
        errors: list[Floats] = []
        widest = np.zeros(len(QUANTILE_LEVELS))
        longest_seen = (pieces.n_steps - seconds_to_steps(MIN_ORIGIN_HISTORY_S, pieces.step_s)) // 2
        for low, high in pairwise(bucket_edges(seconds_to_steps(self.longest_s, history.step_s)).tolist()):
            scaled = _scaled_errors(pieces, spread, low, high) if high <= longest_seen else np.empty(0)
            is_known = len(scaled) >= MIN_ROWS
            quantiles = (
                np.quantile(scaled - np.median(scaled), QUANTILE_LEVELS)
                if is_known
                else np.array(UNSEEN_ERROR_QUANTILES)
            )
            widest = _LEVEL_SIGNS * np.maximum(np.abs(widest), quantiles * _LEVEL_SIGNS)
            errors.append(widest)
        self.arrays = {"errors": np.stack(errors), "step_s": np.array([history.step_s])}

    def predict(self, history: History, horizon: int) -> Floats:
        """Return (n_levels, horizon, n_series) forecasts relative to the series' mean.

        NaN with less than half an hour of history.
        """
        n = len(history.y)
        ahead = np.tile(np.arange(1, horizon + 1), n)
        origin = np.full(n * horizon, history.n_steps - 1)
        middle = reverting_forecast(history, np.repeat(np.arange(n), horizon), origin, ahead).reshape(
            n, horizon
        )
        edges = bucket_edges(seconds_to_steps(self.longest_s, history.step_s))
        bucket = np.minimum(np.searchsorted(edges, np.arange(1, horizon + 1)) - 1, len(edges) - 2)
        errors = self.arrays["errors"].astype(np.float64)[bucket]
        out = middle.T[None] + errors.T[:, :, None] * running_spread(history)[:, -1]
        out[:, :, history.length * history.step_s < MIN_HISTORY_S] = np.nan
        return np.asarray(out, np.float64)

    def state(self) -> State:
        """Return a copy of the learned errors."""
        return {name: array.copy() for name, array in self.arrays.items()}

    def restore(self, state: State) -> None:
        """Replace the learned errors. Raises StateError if they do not fit."""
        check_arrays(state, {"step_s": (1,)}, "cold start")
        step_s = float(state["step_s"][0])
        if step_s <= 0:
            raise StateError(f"cold start: step_s is {step_s:g}; must be above 0 seconds")
        n = len(bucket_edges(seconds_to_steps(self.longest_s, step_s))) - 1
        check_arrays(state, {"errors": (n, len(QUANTILE_LEVELS))}, "cold start")
        self.arrays = {name: state[name].copy() for name in ("errors", "step_s")}


def reverting_forecast(history: History, series: Ints, origin: Ints, ahead: Ints) -> Floats:
    """Return (n_rows,) forecasts: the last value decays to the last hour's level, and that to the median.

    The median of up to a day is used because bursts pull a mean away from the usual load: in the first
    12 hours the error over a day, relative to repeating the last value, was 0.77 instead of 0.86 with a mean.
    """
    x = features(history, series, origin, ahead)
    usual = trailing_medians(history, series, origin, history.steps_per_day)
    hour = np.where(np.isnan(x[:, _HOUR]), usual, x[:, _HOUR])
    last = np.where(np.isnan(x[:, _LAST]), hour, x[:, _LAST])
    seconds = ahead * history.step_s
    reversion = 1.0 - np.exp(-seconds / LEVEL_DECAY_S)
    return np.asarray(
        hour + (last - hour) * np.exp(-seconds / LAST_VALUE_DECAY_S) + reversion * (usual - hour), np.float64
    )


def running_spread(history: History) -> Floats:
    """Return (n_series, n_steps) standard deviations of the samples up to each row."""
    y = np.where(np.isfinite(history.y), history.y, 0.0)
    n = np.maximum(history.running_count[:, 1:], 1)
    mean = history.running_sum[:, 1:] / n
    return np.sqrt(np.maximum(np.cumsum(y**2, axis=1) / n - mean**2, 0.0))


def _two_day_pieces(history: History) -> History:
    """Return pieces of two days, the newest first, at most MAX_PIECES; a shorter panel is one piece."""
    length = min(2 * history.steps_per_day, history.n_steps)
    count = max(min(history.n_steps // length, MAX_PIECES // max(len(history.y), 1)), 1)
    ends = [history.n_steps - k * length for k in range(count)]
    y = np.concatenate([history.y[:, end - length : end] for end in ends])[:MAX_PIECES]
    y = y[np.isfinite(y).any(axis=1)]
    return build_history(y.T, np.zeros(len(y), np.int64), history.step_s)


def _scaled_errors(pieces: History, spread: Floats, low: int, high: int) -> Floats:
    """Return (n,) errors in spreads, from origins of three hours to a day after the start of a piece."""
    n, day = len(pieces.y), pieces.steps_per_day
    first_origin = pieces.first_row + min(
        seconds_to_steps(MIN_ORIGIN_HISTORY_S, pieces.step_s), pieces.n_steps // 4
    )
    last_origin = np.maximum(np.minimum(pieces.n_steps - 1 - high, pieces.first_row + day), first_origin)
    origin = first_origin[:, None] + np.round(
        (last_origin - first_origin)[:, None] * np.linspace(0, 1, ORIGINS_PER_PIECE)
    ).astype(np.int64)
    origin = np.clip(origin, 0, pieces.n_steps - 1)
    ahead = np.broadcast_to(
        low + 1 + (np.arange(ORIGINS_PER_PIECE) * 7919) % (high - low), origin.shape
    ).astype(np.int64)
    middle = reverting_forecast(
        pieces, np.repeat(np.arange(n), ORIGINS_PER_PIECE), origin.ravel(), ahead.ravel()
    ).reshape(origin.shape)
    origin_spread = np.take_along_axis(spread, origin, axis=1)
    actual = np.take_along_axis(pieces.y, np.minimum(origin + ahead, pieces.n_steps - 1), axis=1)
    is_usable = (
        (origin + ahead < pieces.n_steps)
        & np.isfinite(actual - middle)
        & (origin_spread > MIN_SPREAD_RATIO * spread[:, -1:])
    )
    return np.asarray(((actual - middle)[is_usable] / origin_spread[is_usable]), np.float64)
