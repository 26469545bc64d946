"""Outer quantiles of a learnt forecast, widened by what a day ago would have missed by.

Trees narrow what lies far out: they are judged by rows like those that they learnt, and the load goes on to
what they have not seen. Averaging quantiles over forecasts widens them again: Lichtendahl, Grushka-Cockayne
and Winkler, Is It Better to Average Probabilities or Quantiles?, Management Science 59, 2013.
"""

import numpy as np

from trimtab.models.contracts import Floats
from trimtab.models.forecasting.linear_stage import known_quantiles
from trimtab.models.forecasting.panel_features import History
from trimtab.models.forecasting.quantile_levels import LEVELS

SHARE = 0.4
"""Weight of the naive errors, from FULL_S on; none up to NONE_S ahead."""
NONE_S, FULL_S = 3600.0, 6 * 3600.0
STRETCH = {0.05: 1.0, 0.95: 1.0, 0.99: 1.15}
"""The levels that are widened, and by how much before they are averaged.

Measured on 33 loads at 5 origins: without, .021 of a day's values lay above q0.99 and .879 within q0.05 ..
q0.95; the naive errors alone made that .019 and .907 (pinball loss at 0.99 .908 and .890 of the naive one),
a stretch of 1.15 with a share of .3 .015 and .905. On either half of the loads alike.
"""
ERRORS_DAYS = 14


def naive_errors(history: History) -> Floats:
    """(n_series, n_levels) changes from a day to the next about their median; NaN = unknown."""
    day = history.day
    if history.steps <= day:
        return np.full((len(history.y), len(LEVELS)), np.nan)
    change = (history.y[:, day:] - history.y[:, :-day])[:, -ERRORS_DAYS * day :]
    found = known_quantiles(change, LEVELS)
    return found - found[:, [LEVELS.index(0.5)]]


def widen(values: Floats, history: History) -> Floats:
    """(n_levels, horizon, n_series) with the outer levels of STRETCH farther from the middle.

    values : (n_levels, horizon, n_series), the levels are LEVELS; where no day's change is known, only
             stretched
    """
    out, middle = values.copy(), values[LEVELS.index(0.5)]
    errors = naive_errors(history)
    ahead_s = np.arange(1, values.shape[1] + 1) * history.step_s
    share = SHARE * np.clip((ahead_s - NONE_S) / (FULL_S - NONE_S), 0.0, 1.0)[:, None]
    for level, stretch in STRETCH.items():
        k = LEVELS.index(level)
        own = stretch * (values[k] - middle)
        naive = np.where(np.isnan(errors[:, k]), own, errors[:, k])
        out[k] = middle + (1.0 - share) * own + share * naive
    return out
