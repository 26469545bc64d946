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

from trimtab.models.bank import Field
from trimtab.models.calibration.alarms import CLOSE

GROWTH = 1.1
"""A score is news when it is this multiple of what was told, or of 1 where nothing was."""
REST = 0.1
"""By how much a score that is no news is above 1, at most."""
GLOW = CLOSE
"""Where the least that is told starts to fade after an excursion: it keeps no alarm open."""
FADE = 0.99
"""What was told counts so much less at each usual sample: half after 69."""
FORGOTTEN = 1e-6
"""Below this it counts nothing (subnormal numbers are slow)."""


def fields() -> dict[str, Field]:
    """State: told, by how much the worst score was above 1; glow, the least that is told. Both fade."""
    return {"told": Field(np.float64), "glow": Field(np.float64)}


@njit(cache=True)
def faded(value):
    """What is left of a value after one more usual sample."""
    return FADE * value if value > FORGOTTEN else 0.0


@njit(cache=True)
def is_news(score, told):
    """Whether a score above 1 begins an event, or makes it worse."""
    return score >= GROWTH * (1.0 + told)


@njit(cache=True)
def news(i, score, told, glow):
    """What is told of this score."""
    if not score > 1.0:
        return max(score, faded(glow[i]))
    if is_news(score, told[i]):
        return score
    over = score - 1.0
    return 1.0 + over * REST / (over + REST)


@njit(cache=True)
def tell(i, score, told, glow):
    """Keep in mind that this score was told."""
    if score > 1.0:
        glow[i] = GLOW
        if is_news(score, told[i]):
            told[i] = score - 1.0
        return
    told[i] = faded(told[i])
    glow[i] = faded(glow[i])
