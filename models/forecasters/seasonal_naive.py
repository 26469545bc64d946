"""The same time of the day before, with the errors that this made so far."""

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
"""Below this much history nothing is said."""
DEPARTURE_DECAY_S = 3600.0
"""How long the present departure from the season lasts."""
MEDIAN_HALF_WIDTH_S = 1800.0
"""Half width of the window about a time of the day whose median is its value: no burst is repeated.

From one day of history its error over a day is .59 of what repeating the last value has; with the mean of a
quarter of an hour either way .62.
"""
UNSEEN_ERROR_FACTOR = 2.0
"""Errors that were not seen yet, in departures of the values from their median; .98 lie within."""


def change_quantiles(y: Floats, lag: int, quantiles: Sequence[float], max_changes: int) -> Floats:
    """(n_quantiles,) of the changes over `lag` rows of one series, the last `most` of them; NaN = too few."""
    change = (y[lag:] - y[:-lag])[-max_changes:]
    change = change[np.isfinite(change)]
    if len(change) < 2:
        return np.full(len(quantiles), np.nan)
    return np.asarray(np.quantile(change, quantiles), np.float64)


class SeasonalNaive:
    """Last season's values, the present departure from them fading out; empirical errors.

    Below a day of history: the last value. Hyndman and Athanasopoulos, Forecasting, 3rd ed., 5.2 and 5.5.
    """

    def fit(self, panel: Panel) -> None:
        """Nothing is shared between series."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(n_quantiles, horizon, n_series); NaN below half an hour of history."""
        wanted = check_quantiles(quantiles)
        history = build_history(panel.y, panel.end, panel.step_s)
        season = find_seasons(panel.y, panel.step_s)
        out = np.full((len(wanted), horizon, len(season)), np.nan)
        for i in range(len(season)):
            if history.length[i] * panel.step_s >= MIN_HISTORY_S and history.length[i] > 2:
                out[:, :, i] = _forecast_series(history, i, int(season[i]), horizon, wanted) + history.mean[i]
        return out

    def state(self) -> State:
        """Nothing is learnt."""
        return {}

    def restore(self, state: State) -> None:
        """There is nothing to take over."""


def _forecast_series(
    history: History, i: int, season: int, horizon: int, quantiles: tuple[float, ...]
) -> Floats:
    y, day = history.y[i, history.first_row[i] :], history.steps_per_day
    if not season:
        return _forecast_last_value(y, horizon, quantiles)
    at = len(y) - season + np.arange(horizon) % season
    half = min(seconds_to_steps(MEDIAN_HALF_WIDTH_S, history.step_s), season // 8)
    about = window_medians(y, at, half)
    about = np.where(np.isnan(about), _known_median(y[-season:]), about)
    hour = seconds_to_steps(3600, history.step_s)
    ago = y[max(len(y) - season - hour, 0) : len(y) - season]
    departure = _known_median(y[-hour:]) - _known_median(ago if len(ago) else y[: half + 1])
    fades = np.exp(-np.arange(1, horizon + 1) * history.step_s / DEPARTURE_DECAY_S)
    middle = about + np.nan_to_num(departure) * fades
    if len(y) >= 1.25 * season:
        errors = change_quantiles(y, season, quantiles, MAX_ERROR_DAYS * day)
        errors -= change_quantiles(y, season, (0.5,), MAX_ERROR_DAYS * day)
    else:
        errors = _widened_value_quantiles(y, quantiles)
    out: Floats = middle + errors[:, None]
    return out


def _widened_value_quantiles(y: Floats, quantiles: tuple[float, ...]) -> Floats:
    """One season shows no error of a season: as far as values lay from their median, and more."""
    known = y[np.isfinite(y)]
    if len(known) < 2:
        return np.full(len(quantiles), np.nan)
    return np.asarray(UNSEEN_ERROR_FACTOR * (np.quantile(known, quantiles) - np.median(known)), np.float64)


def window_medians(y: Floats, rows: Ints, half_width: int) -> Floats:
    """(n_at,) median of what is known up to `half` rows to either side of each row; NaN where nothing is.

    >>> window_medians(np.array([1.0, 2.0, 9.0, np.nan]), np.array([0, 1, 3]), 1).tolist()
    [1.5, 2.0, 9.0]
    """
    windows = sliding_window_view(np.pad(y, half_width, constant_values=np.nan), 2 * half_width + 1)
    return nan_quantiles(windows[rows], (0.5,))[:, 0]


def _known_median(y: Floats) -> float:
    known = y[np.isfinite(y)]
    return float(np.median(known)) if len(known) else np.nan


def _forecast_last_value(y: Floats, horizon: int, quantiles: tuple[float, ...]) -> Floats:
    """The last value, and how far values moved over as many rows; beyond half the past as over that half."""
    known = np.flatnonzero(np.isfinite(y))
    last = float(y[known[-1]])
    lags: Ints = np.minimum(np.arange(1, horizon + 1), max(len(y) // 2, 1))
    table = {int(lag): change_quantiles(y, int(lag), quantiles, len(y)) for lag in np.unique(lags)}
    zero = {int(lag): change_quantiles(y, int(lag), (0.5,), len(y)) for lag in table}
    return last + np.stack([table[int(lag)] - zero[int(lag)] for lag in lags], axis=1)
