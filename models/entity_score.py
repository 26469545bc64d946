"""Score of an entity: the scores of its series, row by row, combined to one score on the same scale.

The score is the mean log tail probability of the most unusual series (the rank truncated product of Dudbridge
and Koeleman, "Rank truncated product of P-values", Genetic Epidemiology 2003). A failure of an entity seldom
shows in all of its series within one row, so the score of a series decays slowly after an excursion.
The combination is calibrated on the entity's own history, like a channel of a series, because the series of
one entity are not independent.
"""

import math

import numpy as np
from numba import njit

from trimtab.models.bank import StateArrays
from trimtab.models.calibration.alarms import CLOSE_AT
from trimtab.models.calibration.event_score import fade
from trimtab.models.calibration.tail_probability import tail_fields
from trimtab.models.contracts import Floats
from trimtab.models.scoring_kernel import combined_log_rate, learn_tails

DAMPED_ABOVE = 0.8
"""If none of its series is above 1 now, an entity's higher scores are compressed to stay below `CLOSE_AT`."""
HALF_LIFE_ALARMS_AND_ROWS = (4.0, 4096.0)
"""History loses half its weight after this number of budgeted alarms, but not before this number of rows."""


@njit(cache=True)
def rank_truncated_mean(depths, known):
    """Return (mean depth of the most unusual series, number of scored series per selected one)."""
    n_known = np.count_nonzero(known)
    n_selected = max(round(math.sqrt(n_known)), 1)
    return np.sort(depths)[-n_selected:].mean(), n_known / n_selected


@njit(cache=True)
def damped(score):
    """Compress a score above DAMPED_ABOVE to stay below CLOSE_AT, preserving order."""
    excess = score - DAMPED_ABOVE
    return DAMPED_ABOVE + (CLOSE_AT - DAMPED_ABOVE) * excess / (excess + 1.0) if excess > 0.0 else score


@njit(cache=True)
def entity_run(scores, log_budget, horizon, tails, out):
    """Score the rows of one entity into out, (n_rows,)."""
    depths = np.zeros(scores.shape[1])
    known = np.zeros(scores.shape[1], np.bool_)
    no_channel = np.empty(0)
    for k in range(scores.shape[0]):
        highest = -math.inf
        for j in range(scores.shape[1]):
            depths[j] = fade(depths[j])
            s = scores[k, j]
            if math.isfinite(s):
                known[j] = True
                depths[j] = max(depths[j], s)
                highest = max(highest, s)
        if highest == -math.inf:
            continue
        depth, n_choices = rank_truncated_mean(depths, known)
        rarity = -log_budget * depth - math.log(n_choices)
        score = max(combined_log_rate(0, rarity, tails) / log_budget, 0.0)
        learn_tails(0, no_channel, rarity, score > 1.0, log_budget, horizon, no_channel, tails)
        out[k] = score if highest > 1.0 else damped(score)


def entity_score(scores: Floats, budget: float) -> Floats:
    """Return one anomaly_score per row; above 1 = rarer, for the whole entity, than the false-alarm budget.

    scores : (n_rows, n_series) anomaly_score of consecutive rows; NaN = no sample, or still learning
    budget : alarms allowed per row, the rate that score 1 stands for, 0 < budget < 1

    Returns (n_rows,) float64, NaN where no series has a score. Row i depends on rows up to i only.

    >>> entity_score(np.array([[0.1, 0.2], [2.0, 0.0], [np.nan, np.nan]]), 0.001).round(2).tolist()
    [0.1, 1.9, nan]
    """
    out = np.full(len(scores), np.nan)
    alarms, rows = HALF_LIFE_ALARMS_AND_ROWS
    entity_run(
        np.require(scores, np.float64, ["C"]), math.log(budget), max(alarms / budget, rows),
        tuple(StateArrays(tail_fields(1), 1).values.values()), out,
    )  # fmt: skip
    return out
