"""Seasonal naive forecast: the same time of the previous season, with its empirical errors."""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from trimtab.models.contracts import Floats, Ints, Panel, State
from trimtab.models.forecasting.linear_stage import nan_quantiles
from trimtab.models.forecasting.panel_features import History, build_history, seconds_to_steps
from trimtab.models.forecasting.quantile_levels import check_quantiles
from trimtab.models.forecasting.seasons import find_seasons

MAX_ERROR_DAYS = 14
MIN_HISTORY_S = 1800.0
"""With less history the forecast is NaN."""
DEPARTURE_DECAY_S = 3600.0
"""Time constant of the decay of the current departure from the season."""
MEDIAN_HALF_WIDTH_S = 1800.0
"""Half width of the median window around a time of the day, so that bursts are not repeated.

With one day of history the error over a day is 0.59 of that of repeating the last value, against 0.62 with
a mean over a quarter of an hour on either side.
"""
UNSEEN_ERROR_FACTOR = 2.0
"""Assumed size of unknown errors, in distances of the values from their median; 0.98 of errors lie within."""


def change_quantiles(y: Floats, lag: int, quantiles: Sequence[float], max_changes: int) -> Floats:
    """Return (n_quantiles,) of the last `max_changes` changes over `lag` rows of a series; NaN if too few."""
    change = (y[lag:] - y[:-lag])[-max_changes:]
    change = change[np.isfinite(change)]
    if len(change) < 2:
        return np.full(len(quantiles), np.nan)
    return np.asarray(np.quantile(change, quantiles), np.float64)


class SeasonalNaive:
    """Values of the last season plus the current departure, which decays; quantiles from empirical errors.

    With less than a day of history: the last value. Hyndman and Athanasopoulos, Forecasting, 3rd ed., 5.2
    and 5.5.
    """

    def fit(self, panel: Panel) -> None:
        """Do nothing: series share no parameters."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """Return (n_quantiles, horizon, n_series) forecasts; NaN with less than half an hour of history."""
        levels = check_quantiles(quantiles)
        history = build_history(panel.y, panel.end, panel.step_s)
        season = find_seasons(panel.y, panel.step_s)
        out = np.full((len(levels), horizon, len(season)), np.nan)
        for i in range(len(season)):
            if history.length[i] * panel.step_s >= MIN_HISTORY_S and history.length[i] > 2:
                out[:, :, i] = _forecast_series(history, i, int(season[i]), horizon, levels) + history.mean[i]
        return out

    def state(self) -> State:
        """Return an empty state."""
        return {}

    def restore(self, state: State) -> None:
        """Do nothing: there is no learned state."""


def _forecast_series(
    history: History, i: int, season: int, horizon: int, quantiles: tuple[float, ...]
) -> Floats:
    y, steps_per_day = history.y[i, history.first_row[i] :], history.steps_per_day
    if not season:
        return _forecast_last_value(y, horizon, quantiles)
    rows = len(y) - season + np.arange(horizon) % season
    half_width = min(seconds_to_steps(MEDIAN_HALF_WIDTH_S, history.step_s), season // 8)
    usual = window_medians(y, rows, half_width)
    usual = np.where(np.isnan(usual), _known_median(y[-season:]), usual)
    hour_rows = seconds_to_steps(3600, history.step_s)
    same_hour = y[max(len(y) - season - hour_rows, 0) : len(y) - season]
    departure = _known_median(y[-hour_rows:]) - _known_median(
        same_hour if len(same_hour) else y[: half_width + 1]
    )
    decay = np.exp(-np.arange(1, horizon + 1) * history.step_s / DEPARTURE_DECAY_S)
    middle = usual + np.nan_to_num(departure) * decay
    if len(y) >= 1.25 * season:
        errors = change_quantiles(y, season, quantiles, MAX_ERROR_DAYS * steps_per_day)
        errors -= change_quantiles(y, season, (0.5,), MAX_ERROR_DAYS * steps_per_day)
    else:
        errors = _widened_value_quantiles(y, quantiles)
    out: Floats = middle + errors[:, None]
    return out


def _widened_value_quantiles(y: Floats, quantiles: tuple[float, ...]) -> Floats:
    """Return widened quantiles of the values, because one season shows no errors of a season."""
    known = y[np.isfinite(y)]
    if len(known) < 2:
        return np.full(len(quantiles), np.nan)
    return np.asarray(UNSEEN_ERROR_FACTOR * (np.quantile(known, quantiles) - np.median(known)), np.float64)


def window_medians(y: Floats, rows: Ints, half_width: int) -> Floats:
    """Return (n_rows,) medians of the samples within `half_width` rows of each row; NaN if there is none.

    >>> window_medians(np.array([1.0, 2.0, 9.0, np.nan]), np.array([0, 1, 3]), 1).tolist()
    [1.5, 2.0, 9.0]
    """
    windows = sliding_window_view(np.pad(y, half_width, constant_values=np.nan), 2 * half_width + 1)
    return nan_quantiles(windows[rows], (0.5,))[:, 0]


def _known_median(y: Floats) -> float:
    known = y[np.isfinite(y)]
    return float(np.median(known)) if len(known) else np.nan


def _forecast_last_value(y: Floats, horizon: int, quantiles: tuple[float, ...]) -> Floats:
    """Forecast the last value with the changes over the same lag; lags are limited to half the history."""
    known = np.flatnonzero(np.isfinite(y))
    last = float(y[known[-1]])
    lags: Ints = np.minimum(np.arange(1, horizon + 1), max(len(y) // 2, 1))
    changes = {int(lag): change_quantiles(y, int(lag), quantiles, len(y)) for lag in np.unique(lags)}
    medians = {int(lag): change_quantiles(y, int(lag), (0.5,), len(y)) for lag in changes}
    return last + np.stack([changes[int(lag)] - medians[int(lag)] for lag in lags], axis=1)
