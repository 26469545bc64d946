"""Scores of events: an anomaly scores high when it begins or gets worse, and just above 1 while it lasts.

A sample that continues an excursion without exceeding the worst score so far by `WORSENING_RATIO` is still
unusual but carries no new information. Its score is compressed into 1 .. 1 + MAX_ONGOING_EXCESS, so that
beginning and worsening events stand out. The Numenta Anomaly Benchmark counts events the same way (Lavin and
Ahmad, "Evaluating real-time anomaly detection algorithms", ICMLA 2015). After an excursion the score fades
from `FADE_FROM`, because a recurrence is more likely. The compression changes neither whether a score is
above 1 nor whether it keeps an alarm open.
"""

import numpy as np
from numba import njit

from trimtab.models.bank import StateField
from trimtab.models.calibration.alarms import CLOSE_AT

WORSENING_RATIO = 1.1
"""A score starts or worsens an event from this multiple of the worst score so far (1 if there is none)."""
MAX_ONGOING_EXCESS = 0.1
"""Upper bound of (score - 1) while an event lasts without getting worse."""
FADE_FROM = CLOSE_AT
"""The score floor after an excursion starts to fade from here, low enough to keep no alarm open."""
FADE_PER_SAMPLE = 0.99
"""Factor by which the worst score and the floor fade with each usual sample: half after 69 samples."""
NEGLIGIBLE = 1e-6
"""Smaller values become 0, because subnormal numbers are slow."""


def event_score_fields() -> dict[str, StateField]:
    """Return the state fields.

    told : how far the worst score of the event was above 1, fading
    glow : floor of the score after an excursion, fading
    """
    return {"told": StateField(np.float64), "glow": StateField(np.float64)}


@njit(cache=True)
def fade(value):
    """Return the value after one more usual sample."""
    return FADE_PER_SAMPLE * value if value > NEGLIGIBLE else 0.0


@njit(cache=True)
def starts_or_worsens(score, worst_excess):
    """Return whether a score above 1 starts an event or makes it worse."""
    return score >= WORSENING_RATIO * (1.0 + worst_excess)


@njit(cache=True)
def event_score(i, score, worst_excess, floor):
    """Return the event score of a calibrated score of series i."""
    if not score > 1.0:
        return max(score, fade(floor[i]))
    if starts_or_worsens(score, worst_excess[i]):
        return score
    excess = score - 1.0
    return 1.0 + excess * MAX_ONGOING_EXCESS / (excess + MAX_ONGOING_EXCESS)


@njit(cache=True)
def learn_event_score(i, score, worst_excess, floor):
    """Update the event state of series i with its calibrated score."""
    if score > 1.0:
        floor[i] = FADE_FROM
        if starts_or_worsens(score, worst_excess[i]):
            worst_excess[i] = score - 1.0
        return
    worst_excess[i] = fade(worst_excess[i])
    floor[i] = fade(floor[i])
