"""Scores of an entity's series -> one score of the entity, on the same scale.

The tail probabilities behind the scores combine by their harmonic mean (Wilson, "The harmonic mean p-value
for combining dependent tests", PNAS 2019): one series far out speaks for the entity, corrected for how many
were asked; many a little out add up; dependence between the series does no harm.
"""

import numpy as np

from trimtab.models.contracts import Floats


def entity_score(scores: Floats, budget: float) -> Floats:
    """One anomaly_score a row: above 1 = rarer, for the entity as a whole, than the false-alarm budget.

    scores : (n_rows, n_series) anomaly_score, log(p) / log(budget); NaN = no sample, or learning: not asked
    budget : tail probability that score 1 stands for, 0 < budget < 1
    Gives (n_rows,) float64, NaN where no series has a score.

    >>> entity_score(np.array([[2.0, 0.0], [np.nan, 1.5], [np.nan, np.nan]]), 0.001).round(2).tolist()
    [1.9, 1.5, nan]
    """
    depth = scores * -np.log(budget)
    asked = np.isfinite(scores)
    count = asked.sum(axis=1)
    most = np.max(depth, axis=1, where=asked, initial=0.0)
    raised = np.exp(depth - most[:, None], where=asked, out=np.zeros_like(depth))
    total = np.where(count > 0, raised.sum(axis=1), np.nan)
    log_p = np.log(np.maximum(count, 1)) - most - np.log(total)
    return np.asarray(np.maximum(log_p / np.log(budget), 0.0))
