"""The same time of the day before, with the errors that this made so far."""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from trimtab.models.contracts import Floats, Ints, Panel, State
from trimtab.models.forecasting.linear_stage import known_quantiles
from trimtab.models.forecasting.panel_features import History, history_of, steps_of
from trimtab.models.forecasting.quantile_levels import check_quantiles
from trimtab.models.forecasting.seasons import season_of

ERRORS_DAYS = 14
LEAST_S = 1800.0
"""Below this much history nothing is said."""
DECAY_S = 3600.0
"""How long the present departure from the season lasts."""
SMOOTH_S = 1800.0
"""Half width of the window about a time of the day whose median is its value: no burst is repeated.

From one day of history its error over a day is .59 of what repeating the last value has; with the mean of a
quarter of an hour either way .62.
"""
UNSEEN = 2.0
"""Errors that were not seen yet, in departures of the values from their median; .98 lie within."""


def empirical_quantiles(y: Floats, lag: int, quantiles: Sequence[float], most: int) -> Floats:
    """(n_quantiles,) of the changes over `lag` rows of one series, the last `most` of them; NaN = too few."""
    change = (y[lag:] - y[:-lag])[-most:]
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
        history = history_of(panel.y, panel.end, panel.step_s)
        season = season_of(panel.y, panel.step_s)
        out = np.full((len(wanted), horizon, len(season)), np.nan)
        for i in range(len(season)):
            if history.length[i] * panel.step_s >= LEAST_S and history.length[i] > 2:
                out[:, :, i] = _one(history, i, int(season[i]), horizon, wanted) + history.middle[i]
        return out

    def state(self) -> State:
        """Nothing is learnt."""
        return {}

    def restore(self, state: State) -> None:
        """There is nothing to take over."""


def _one(history: History, i: int, season: int, horizon: int, quantiles: tuple[float, ...]) -> Floats:
    y, day = history.y[i, history.first[i] :], history.day
    if not season:
        return _by_changes(y, horizon, quantiles)
    at = len(y) - season + np.arange(horizon) % season
    half = min(steps_of(SMOOTH_S, history.step_s), season // 8)
    about = medians_about(y, at, half)
    about = np.where(np.isnan(about), _median(y[-season:]), about)
    hour = steps_of(3600, history.step_s)
    ago = y[max(len(y) - season - hour, 0) : len(y) - season]
    departure = _median(y[-hour:]) - _median(ago if len(ago) else y[: half + 1])
    fades = np.exp(-np.arange(1, horizon + 1) * history.step_s / DECAY_S)
    middle = about + np.nan_to_num(departure) * fades
    if len(y) >= 1.25 * season:
        errors = empirical_quantiles(y, season, quantiles, ERRORS_DAYS * day)
        errors -= empirical_quantiles(y, season, (0.5,), ERRORS_DAYS * day)
    else:
        errors = _wider_than_seen(y, quantiles)
    out: Floats = middle + errors[:, None]
    return out


def _wider_than_seen(y: Floats, quantiles: tuple[float, ...]) -> Floats:
    """One season shows no error of a season: as far as values lay from their median, and more."""
    known = y[np.isfinite(y)]
    if len(known) < 2:
        return np.full(len(quantiles), np.nan)
    return np.asarray(UNSEEN * (np.quantile(known, quantiles) - np.median(known)), np.float64)


def medians_about(y: Floats, at: Ints, half: int) -> Floats:
    """(n_at,) median of what is known up to `half` rows to either side of each row; NaN where nothing is.

    >>> medians_about(np.array([1.0, 2.0, 9.0, np.nan]), np.array([0, 1, 3]), 1).tolist()
    [1.5, 2.0, 9.0]
    """
    windows = sliding_window_view(np.pad(y, half, constant_values=np.nan), 2 * half + 1)
    return known_quantiles(windows[at], (0.5,))[:, 0]


def _median(y: Floats) -> float:
    known = y[np.isfinite(y)]
    return float(np.median(known)) if len(known) else np.nan


def _by_changes(y: Floats, horizon: int, quantiles: tuple[float, ...]) -> Floats:
    """The last value, and how far values moved over as many rows; beyond half the past as over that half."""
    known = np.flatnonzero(np.isfinite(y))
    last = float(y[known[-1]])
    lags: Ints = np.minimum(np.arange(1, horizon + 1), max(len(y) // 2, 1))
    table = {int(lag): empirical_quantiles(y, int(lag), quantiles, len(y)) for lag in np.unique(lags)}
    zero = {int(lag): empirical_quantiles(y, int(lag), (0.5,), len(y)) for lag in table}
    return last + np.stack([table[int(lag)] - zero[int(lag)] for lag in lags], axis=1)
