"""Outer quantiles of a learnt forecast, widened by what a day ago would have missed by.

Trees narrow what lies far out: they are judged by rows like those that they learnt, and the load goes on to
what they have not seen. Averaging quantiles over forecasts widens them again: Lichtendahl, Grushka-Cockayne
and Winkler, Is It Better to Average Probabilities or Quantiles?, Management Science 59, 2013.
"""

import numpy as np

from trimtab.models.contracts import Floats
from trimtab.models.forecasting.linear_stage import nan_quantiles
from trimtab.models.forecasting.panel_features import History
from trimtab.models.forecasting.quantile_levels import QUANTILE_LEVELS

MAX_NAIVE_SHARE = 0.4
"""Weight of the naive errors, from FULL_S on; none up to NONE_S ahead."""
NAIVE_FROM_S, NAIVE_FULL_S = 3600.0, 6 * 3600.0
STRETCH = {0.05: 1.0, 0.95: 1.0, 0.99: 1.15}
"""The levels that are widened, and by how much before they are averaged.

Measured on 33 loads at 5 origins: without, .021 of a day's values lay above q0.99 and .879 within q0.05 ..
q0.95; the naive errors alone made that .019 and .907 (pinball loss at 0.99 .908 and .890 of the naive one),
a stretch of 1.15 with a share of .3 .015 and .905. On either half of the loads alike.
"""
MAX_ERROR_DAYS = 14


def naive_error_quantiles(history: History) -> Floats:
    """(n_series, n_levels) changes from a day to the next about their median; NaN = unknown."""
    day = history.steps_per_day
    if history.n_steps <= day:
        return np.full((len(history.y), len(QUANTILE_LEVELS)), np.nan)
    change = (history.y[:, day:] - history.y[:, :-day])[:, -MAX_ERROR_DAYS * day :]
    found = nan_quantiles(change, QUANTILE_LEVELS)
    return found - found[:, [QUANTILE_LEVELS.index(0.5)]]


def widen_tails(values: Floats, history: History) -> Floats:
    """(n_levels, horizon, n_series) with the outer levels of STRETCH farther from the middle.

    values : (n_levels, horizon, n_series), the levels are LEVELS; where no day's change is known, only
             stretched
    """
    out, middle = values.copy(), values[QUANTILE_LEVELS.index(0.5)]
    errors = naive_error_quantiles(history)
    ahead_s = np.arange(1, values.shape[1] + 1) * history.step_s
    share = (
        MAX_NAIVE_SHARE * np.clip((ahead_s - NAIVE_FROM_S) / (NAIVE_FULL_S - NAIVE_FROM_S), 0.0, 1.0)[:, None]
    )
    for level, stretch in STRETCH.items():
        k = QUANTILE_LEVELS.index(level)
        own = stretch * (values[k] - middle)
        naive = np.where(np.isnan(errors[:, k]), own, errors[:, k])
        out[k] = middle + (1.0 - share) * own + share * naive
    return out
