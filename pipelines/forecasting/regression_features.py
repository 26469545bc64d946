"""Features for regressors: what is known of a series at an origin, for each row ahead.

Values are in units of the series' own level, so that one model serves all series.
"""

import numpy as np

from trimtab.models.contracts import Floats, Ints, Panel

FEATURES = (
    "hours_ahead", "last", "mean_1h", "mean_1d", "yesterday", "last_week", "hour_sin", "hour_cos", "weekend",
)  # fmt: skip
_HOUR_S, _DAY_S = 3600.0, 86_400.0
_NS = 1_000_000_000


def series_levels(y: Floats, step_s: float) -> Floats:
    """Return (n_series,) mean absolute value over the last day, the unit of features; 1 = unknown."""
    with np.errstate(invalid="ignore", divide="ignore"):
        last = np.abs(y[-max(round(_DAY_S / step_s), 1) :])
        known = np.isfinite(last)
        mean = np.where(known, last, 0.0).sum(axis=0) / known.sum(axis=0)
    return np.asarray(np.where(mean > 0, mean, 1.0), np.float64)


def regression_features(panel: Panel, ahead: Ints) -> Floats:
    """Return (n_series * n_ahead, n_features) of the rows `ahead` after the last one, series by series.

    An unknown feature is replaced by the last known value, or by 0.

    >>> panel = Panel(np.ones((10, 2)), np.zeros(2, np.int64), 3600.0, np.ones(2, np.bool_))
    >>> regression_features(panel, np.array([1, 2])).shape
    (4, 9)
    """
    y, step_s = panel.y, panel.step_s
    level = series_levels(y, step_s)
    day, week, hour = (max(round(s / step_s), 1) for s in (_DAY_S, 7 * _DAY_S, _HOUR_S))
    last = _recent_means(y, 1)
    own = np.stack([last, _recent_means(y, hour), _recent_means(y, day)], axis=1)
    times = panel.end[:, None] + ahead[None, :] * round(step_s * _NS)
    hours = (times % round(_DAY_S * _NS)) / (_NS * _DAY_S) * 2 * np.pi
    weekend = (times // round(_DAY_S * _NS) + 4) % 7 // 5 == 1
    n, k = y.shape[1], len(ahead)
    columns = [
        np.tile(ahead * step_s / _HOUR_S, n),
        *(np.repeat(column / level, k) for column in own.T),
        (_seasonal_values(y, ahead, day).T / level[:, None]).ravel(),
        (_seasonal_values(y, ahead, week).T / level[:, None]).ravel(),
        np.sin(hours).ravel(), np.cos(hours).ravel(), weekend.ravel().astype(np.float64),
    ]  # fmt: skip
    table = np.stack(columns, axis=1)
    filled: Floats = np.where(np.isfinite(table), table, np.nan_to_num(table[:, 1:2]))
    return filled


def regression_targets(y: Floats, level: Floats) -> Floats:
    """Return actual values in levels, (n_series * n_ahead,), ordered as `regression_features`."""
    return np.asarray((y / level).T.ravel(), np.float64)


def _seasonal_values(y: Floats, ahead: Ints, season: int) -> Floats:
    """Return (n_ahead, n_series) values whole seasons before the rows ahead; NaN = not recorded."""
    back = season * -(-ahead // season) - ahead
    rows = len(y) - 1 - back
    return np.where((rows >= 0)[:, None], y[np.maximum(rows, 0)], np.nan)


def _recent_means(y: Floats, rows: int) -> Floats:
    last = y[-rows:]
    known = np.isfinite(last)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, last, 0.0).sum(axis=0) / known.sum(axis=0), np.float64)
