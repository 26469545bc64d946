"""Scores of an entity's series, row by row -> one score of the entity, on the same scale.

The series that are furthest out speak together: the mean log tail probability of the smallest of them (the
rank truncated product of Dudbridge and Koeleman, "Rank truncated product of P-values", Genetic Epidemiology
2003). What breaks in one entity seldom shows in all of its series within one row, so a series counts on,
fading, after it was out. How often that happens to a healthy entity is learnt from its own past, as for a
channel of a series: series of one entity are anything but independent.
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
"""Where none of its series is out now, an entity's score comes from here no nearer than to `CLOSE`."""
HALF_LIFE_ALARMS_AND_ROWS = (4.0, 4096.0)
"""Its past counts half after so many alarms that are allowed, and so many rows at least."""


@njit(cache=True)
def rank_truncated_mean(depths, known):
    """(mean depth of the furthest series, how many are asked for each of them)."""
    asked = np.count_nonzero(known)
    most = max(round(math.sqrt(asked)), 1)
    return np.sort(depths)[-most:].mean(), asked / most


@njit(cache=True)
def damped(score):
    """The score while none of its series is out: in the same order, below what holds an alarm open."""
    over = score - DAMPED_ABOVE
    return DAMPED_ABOVE + (CLOSE_AT - DAMPED_ABOVE) * over / (over + 1.0) if over > 0.0 else score


@njit(cache=True)
def entity_run(scores, log_budget, horizon, tails, out):
    """Any number of rows of one entity into out, (n_rows,)."""
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
        depth, choices = rank_truncated_mean(depths, known)
        rarity = -log_budget * depth - math.log(choices)
        score = max(combined_log_rate(0, rarity, tails) / log_budget, 0.0)
        learn_tails(0, no_channel, rarity, score > 1.0, log_budget, horizon, no_channel, tails)
        out[k] = score if highest > 1.0 else damped(score)


def entity_score(scores: Floats, budget: float) -> Floats:
    """One anomaly_score a row: above 1 = rarer, for the entity as a whole, than the false-alarm budget.

    scores : (n_rows, n_series) anomaly_score of successive rows; NaN = no sample, or learning: not asked
    budget : alarms that are allowed a row, which score 1 stands for, 0 < budget < 1
    Gives (n_rows,) float64, NaN where no series has a score. Row i depends on rows up to i only.

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
