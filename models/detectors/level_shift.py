"""Level shift: whether the last few samples together lie elsewhere than the series did before.

The distance of each sample from a slow centre becomes a tail probability over the series' own history. The
smallest and second smallest distances of the window are judged as order statistics (Berk and Jones, 1979), so
that a single spike is no shift and a single outlier does not hide one.
"""

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from trimtab.models.bank import Bank, StateField

WINDOW_SAMPLES = 5
"""Number of samples judged together."""
HUBER_CLIP = 3.0
"""A sample moves the centre at most as if it were this many spreads away (Huber, 1964)."""
RELATIVE_TOLERANCE = 1e-12
"""Relative distance up to which two values count as equal."""
N_DISTANCES = 3
"""Number of distances (1, 2 and 4 spreads) with a known share of samples beyond, for each side."""
PRIOR_SAMPLES = 30.0
"""Weight of the initial shares in samples."""
SHARE_RATE_RATIO = 0.1
"""Learning rate of the shares relative to that of the centre."""


@njit(cache=True)
def distance_in_spreads(i, x, centre, spread):
    """Return the signed distance from the centre in spreads; infinite if the series was constant."""
    gap = x - centre[i]
    if abs(gap) <= RELATIVE_TOLERANCE * abs(centre[i]):
        return 0.0
    return gap / spread[i] if spread[i] > 0.0 else math.copysign(math.inf, gap)


@njit(cache=True)
def log_tail_share(z, share):
    """Return the log of the share of samples farther out than z > 0 on one side.

    share : shares beyond 1, 2 and 4 spreads; interpolated in between
    """
    log_low = math.log(0.5)
    low = 0.0
    for j in range(N_DISTANCES):
        high = 2.0**j
        log_high = math.log(share[j])
        if z <= high:
            return log_low + (log_high - log_low) * (z - low) / (high - low)
        low = high
        log_low = log_high
    return log_low


@njit(cache=True)
def _surprise(nearest, second, share):
    """Return -log of the probability that all, or all but one, samples lie this far out; 0 if they do not."""
    value = 0.0
    if nearest > 0.0:
        value = -WINDOW_SAMPLES * log_tail_share(nearest, share)
    if second > 0.0:
        q = log_tail_share(second, share)
        value = max(value, -(WINDOW_SAMPLES - 1) * q - math.log(WINDOW_SAMPLES))
    return max(value, 0.0)


@njit(cache=True)
def shift_score(i, x, centre, spread, seen, share, recent, place):
    """Return the signed surprise of the window that ends in x; nan until the window is full."""
    if not math.isfinite(x) or seen[i] < WINDOW_SAMPLES:
        return math.nan
    low1 = math.inf
    low2 = math.inf
    high1 = -math.inf
    high2 = -math.inf
    for j in range(WINDOW_SAMPLES):
        z = distance_in_spreads(i, x, centre, spread) if j == place[i] else recent[i, j]
        if z < low1:
            low1, low2 = z, low1
        elif z < low2:
            low2 = z
        if z > high1:
            high1, high2 = z, high1
        elif z > high2:
            high2 = z
    return _surprise(low1, low2, share[i, 0]) - _surprise(-high1, -high2, share[i, 1])


@njit(cache=True)
def shift_observe(i, x, centre, spread, recent, place):
    """Add x to the window, also while the level may not be learnt."""
    if math.isfinite(x):
        recent[i, place[i]] = distance_in_spreads(i, x, centre, spread)
        place[i] = (place[i] + 1) % WINDOW_SAMPLES


@njit(cache=True)
def shift_learn(i, x, alpha, centre, spread, wide, seen, share):
    """Move centre, spread and shares towards x; the first samples have equal weight."""
    if not math.isfinite(x):
        return
    if seen[i] == 0.0:
        centre[i] = x
    z = distance_in_spreads(i, x, centre, spread)
    seen[i] += 1.0
    rate = max(alpha, 1.0 / seen[i])
    gap = x - centre[i]
    max_gap = HUBER_CLIP * spread[i] if seen[i] > 8.0 and spread[i] > 0.0 else math.inf
    centre[i] += rate * min(max(gap, -max_gap), max_gap)
    wide[i] += rate * (abs(gap) - wide[i])
    deviation = min(abs(gap), 4.0 * spread[i]) if seen[i] > 8.0 else abs(gap)
    spread[i] = max(spread[i] + rate * (deviation - spread[i]), 0.1 * wide[i])
    share_rate = max(SHARE_RATE_RATIO * alpha, 1.0 / (seen[i] + PRIOR_SAMPLES))
    for side in range(2):
        outward = z if side == 0 else -z
        for j in range(N_DISTANCES):
            share[i, side, j] += share_rate * ((1.0 if outward > 2.0**j else 0.0) - share[i, side, j])
            share[i, side, j] = max(share[i, side, j], 1e-4)


@njit(cache=True)
def shift_recentre(i, x, centre, recent):
    """Restart from x after a declared level shift."""
    centre[i] = x
    recent[i, :] = 0.0


@njit(cache=True)
def shift_run(x, t, where, gate, learning, out, centre, spread, wide, seen, share, recent, place, alpha):
    """Kernel of the bank; see `trimtab.models.bank.Bank`."""
    for k in range(x.shape[0]):
        for i in range(x.shape[1]):
            s = shift_score(i, x[k, i], centre, spread, seen, share, recent, place)
            out[k, i] = s
            if learning and where[k, i]:
                shift_observe(i, x[k, i], centre, spread, recent, place)
                if not abs(s) > gate[i]:
                    shift_learn(i, x[k, i], alpha, centre, spread, wide, seen, share)


class LevelShift(Bank):
    """Compares a short window with a slow level; detects a lasting shift within WINDOW_SAMPLES samples.

    alpha : learning rate of the slow level per tick

    >>> import numpy as np
    >>> bank = LevelShift(n_series=1, alpha=0.01)
    >>> x = np.r_[np.tile([1.0, 2.0, 3.0], 100), np.full(5, 9.0)][:, None]
    >>> s = bank.run(x, np.arange(305))[:, 0]
    >>> bool(s[-1] > 2 * np.nanmax(np.abs(s[:300])))
    True
    """

    def __init__(self, n_series: int, alpha: float = 0.005) -> None:
        self.alpha = alpha
        super().__init__(n_series)

    def fields(self) -> dict[str, StateField]:
        """Return the state fields.

        centre, spread, wide : slow level, clipped and plain mean deviation, in the series' unit
        seen                 : number of samples
        share                : share of samples beyond 1, 2 and 4 spreads above and below, 0..1
        recent, place        : ring of distances in spreads, and its next position
        """
        return {
            "centre": StateField(np.float64),
            "spread": StateField(np.float64),
            "wide": StateField(np.float64),
            "seen": StateField(np.float64),
            "share": StateField(np.float32, 0.05, (2, N_DISTANCES)),
            "recent": StateField(np.float64, 0.0, (WINDOW_SAMPLES,)),
            "place": StateField(np.int32),
        }

    def kernel(self) -> Callable[..., None]:
        """Return the compiled kernel."""
        run: Callable[..., None] = shift_run
        return run

    def parameters(self) -> tuple[float]:
        """Return the learning rate."""
        return (self.alpha,)
