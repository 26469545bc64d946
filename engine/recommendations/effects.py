"""Expected effects of changes, with intervals for their uncertainty."""

import math

LOW_EXPONENT, USUAL_EXPONENT, HIGH_EXPONENT = 0.15, 0.5, 2.0
"""Exponents of the miss ratio over the cache size: little reuse, the square-root rule, nearly all fits."""


def hit_ratio_after(hit_ratio: float, growth: float) -> tuple[float, float, float]:
    """Return (expected, low, high) hit ratio, 0..1, of a cache whose size grows by a factor.

    The miss ratio falls as a power of the size, usually the square root (Hartstein et al., "Cache miss
    behavior: is it sqrt(2)?", 2006); the interval covers the exponents of other cache traces.

    hit_ratio : current hit ratio, 0..1
    growth    : new size / old size, > 0

    >>> [round(x, 3) for x in hit_ratio_after(0.6, 2.0)]
    [0.717, 0.639, 0.9]
    """
    misses = 1.0 - hit_ratio
    expected, low, high = (
        1.0 - misses * growth**-power for power in (USUAL_EXPONENT, LOW_EXPONENT, HIGH_EXPONENT)
    )
    return expected, min(low, high), max(low, high)


def memory_after_restart(now: float, at_start: float | None) -> tuple[float, float, float]:
    """Return (expected, low, high) memory of a process after a restart, bytes.

    at_start : memory after an earlier start, bytes; None = unknown, which gives a wide interval

    >>> memory_after_restart(900.0, 200.0)
    (200.0, 100.0, 400.0)
    """
    if at_start is None or not math.isfinite(at_start):
        return 0.5 * now, 0.05 * now, 0.95 * now
    return at_start, 0.5 * at_start, min(2.0 * at_start, now)
