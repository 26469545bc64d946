"""What a score adds to what its series told before.

An excursion is one event, and its first samples tell of it. A sample that goes on with it, without being
worse by `GROWTH` than the worst so far, is still unusual, but no news: it is told between 1 and 1 + REST,
so that what begins or gets worse stands out from what lasts (NAB counts so: Lavin and Ahmad, "Evaluating
real-time anomaly detection algorithms", ICMLA 2015). After the excursion the score fades from `GLOW`: what
was unusual a moment ago is more likely to be so again. Whether a score is above 1 never changes, nor
whether it keeps an alarm open.
"""

import numpy as np
from numba import njit

from trimtab.models.bank import StateField
from trimtab.models.calibration.alarms import CLOSE_AT

WORSENING_RATIO = 1.1
"""A score is news when it is this multiple of what was told, or of 1 where nothing was."""
MAX_ONGOING_EXCESS = 0.1
"""By how much a score that is no news is above 1, at most."""
FADE_FROM = CLOSE_AT
"""Where the least that is told starts to fade after an excursion: it keeps no alarm open."""
FADE_PER_SAMPLE = 0.99
"""What was told counts so much less at each usual sample: half after 69."""
NEGLIGIBLE = 1e-6
"""Below this it counts nothing (subnormal numbers are slow)."""


def event_score_fields() -> dict[str, StateField]:
    """State: told, by how much the worst score was above 1; glow, the least that is told. Both fade."""
    return {"told": StateField(np.float64), "glow": StateField(np.float64)}


@njit(cache=True)
def fade(value):
    """What is left of a value after one more usual sample."""
    return FADE_PER_SAMPLE * value if value > NEGLIGIBLE else 0.0


@njit(cache=True)
def starts_or_worsens(score, told):
    """Whether a score above 1 begins an event, or makes it worse."""
    return score >= WORSENING_RATIO * (1.0 + told)


@njit(cache=True)
def event_score(i, score, told, glow):
    """What is told of this score."""
    if not score > 1.0:
        return max(score, fade(glow[i]))
    if starts_or_worsens(score, told[i]):
        return score
    over = score - 1.0
    return 1.0 + over * MAX_ONGOING_EXCESS / (over + MAX_ONGOING_EXCESS)


@njit(cache=True)
def learn_event_score(i, score, told, glow):
    """Keep in mind that this score was told."""
    if score > 1.0:
        glow[i] = FADE_FROM
        if starts_or_worsens(score, told[i]):
            told[i] = score - 1.0
        return
    told[i] = fade(told[i])
    glow[i] = fade(glow[i])
