"""How much a change is expected to move a figure, with an interval that says how little is known."""

import math

LEAST, USUAL, MOST = 0.15, 0.5, 2.0
"""Exponents of a cache's misses over its size: barely any reuse, the square-root rule, nearly all fits."""


def hit_ratio_after(hit_ratio: float, growth: float) -> tuple[float, float, float]:
    """(expected, low, high) hit ratio of a cache that grows by a factor.

    Misses fall as a power of the size; the square root is the usual one (Hartstein et al., "Cache miss
    behavior: is it sqrt(2)?", 2006), and the interval holds what traces of caches show beside it.

    hit_ratio : 0..1, now;  growth : new size over old size, > 0

    >>> [round(x, 3) for x in hit_ratio_after(0.6, 2.0)]
    [0.717, 0.639, 0.9]
    """
    misses = 1.0 - hit_ratio
    expected, low, high = (1.0 - misses * growth**-power for power in (USUAL, LEAST, MOST))
    return expected, min(low, high), max(low, high)


def memory_after_restart(now: float, at_start: float | None) -> tuple[float, float, float]:
    """(expected, low, high) bytes of a process after a restart.

    at_start : what it took after an earlier start; None = never seen, then a wide guess

    >>> memory_after_restart(900.0, 200.0)
    (200.0, 100.0, 400.0)
    """
    if at_start is None or not math.isfinite(at_start):
        return 0.5 * now, 0.05 * now, 0.95 * now
    return at_start, 0.5 * at_start, min(2.0 * at_start, now)
