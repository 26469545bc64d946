"""Whether the last few samples together lie elsewhere than the series did before.

Each sample's distance from a slow centre becomes a tail probability over the series' own past; the smallest
and the second smallest distance of the window are then judged as order statistics (Berk and Jones, 1979), so
that one spike is no shift and one straggler no veto.
"""

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from trimtab.models.bank import Bank, StateField

WINDOW_SAMPLES = 5
"""Samples looked at together."""
HUBER_CLIP = 3.0
"""A sample moves the centre at most as if it lay this many spreads away (Huber, 1964)."""
RELATIVE_TOLERANCE = 1e-12
"""Relative distance below which two values are the same."""
N_DISTANCES = 3
"""Distances 1, 2 and 4 spreads, at which the share of samples beyond is known for either side."""
PRIOR_SAMPLES = 30.0
"""Samples that the assumed shares count for."""
SHARE_RATE_RATIO = 0.1
"""Pace of the shares, in paces of the centre."""


@njit(cache=True)
def distance_in_spreads(i, x, centre, spread):
    """Signed distance from the centre in spreads; infinite off a constant."""
    gap = x - centre[i]
    if abs(gap) <= RELATIVE_TOLERANCE * abs(centre[i]):
        return 0.0
    return gap / spread[i] if spread[i] > 0.0 else math.copysign(math.inf, gap)


@njit(cache=True)
def log_tail_share(z, share):
    """Log of the share of samples further out than z > 0 on one side; share holds it at 1, 2 and 4."""
    before = math.log(0.5)
    low = 0.0
    for j in range(N_DISTANCES):
        high = 2.0**j
        here = math.log(share[j])
        if z <= high:
            return before + (here - before) * (z - low) / (high - low)
        low = high
        before = here
    return before


@njit(cache=True)
def _surprise(nearest, second, share):
    """-log of the chance that all, or all but one, of the window lie so far out; 0 where they do not."""
    value = 0.0
    if nearest > 0.0:
        value = -WINDOW_SAMPLES * log_tail_share(nearest, share)
    if second > 0.0:
        q = log_tail_share(second, share)
        value = max(value, -(WINDOW_SAMPLES - 1) * q - math.log(WINDOW_SAMPLES))
    return max(value, 0.0)


@njit(cache=True)
def shift_score(i, x, centre, spread, seen, share, recent, place):
    """Signed surprise of the window that ends in x; nan while it is not full."""
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
    """Put x into the window, also where the level itself may not be learnt."""
    if math.isfinite(x):
        recent[i, place[i]] = distance_in_spreads(i, x, centre, spread)
        place[i] = (place[i] + 1) % WINDOW_SAMPLES


@njit(cache=True)
def shift_learn(i, x, alpha, centre, spread, wide, seen, share):
    """Move centre, spread and shares towards x; the first samples count evenly."""
    if not math.isfinite(x):
        return
    if seen[i] == 0.0:
        centre[i] = x
    z = distance_in_spreads(i, x, centre, spread)
    seen[i] += 1.0
    pace = max(alpha, 1.0 / seen[i])
    gap = x - centre[i]
    room = HUBER_CLIP * spread[i] if seen[i] > 8.0 and spread[i] > 0.0 else math.inf
    centre[i] += pace * min(max(gap, -room), room)
    wide[i] += pace * (abs(gap) - wide[i])
    miss = min(abs(gap), 4.0 * spread[i]) if seen[i] > 8.0 else abs(gap)
    spread[i] = max(spread[i] + pace * (miss - spread[i]), 0.1 * wide[i])
    slow = max(SHARE_RATE_RATIO * alpha, 1.0 / (seen[i] + PRIOR_SAMPLES))
    for side in range(2):
        out = z if side == 0 else -z
        for j in range(N_DISTANCES):
            share[i, side, j] += slow * ((1.0 if out > 2.0**j else 0.0) - share[i, side, j])
            share[i, side, j] = max(share[i, side, j], 1e-4)


@njit(cache=True)
def shift_recentre(i, x, centre, recent):
    """A lasting shift was declared: run on from x."""
    centre[i] = x
    recent[i, :] = 0.0


@njit(cache=True)
def shift_run(x, t, where, gate, learning, out, centre, spread, wide, seen, share, recent, place, alpha):
    """The bank's kernel; see `trimtab.models.bank.Bank`."""
    for k in range(x.shape[0]):
        for i in range(x.shape[1]):
            s = shift_score(i, x[k, i], centre, spread, seen, share, recent, place)
            out[k, i] = s
            if learning and where[k, i]:
                shift_observe(i, x[k, i], centre, spread, recent, place)
                if not abs(s) > gate[i]:
                    shift_learn(i, x[k, i], alpha, centre, spread, wide, seen, share)


class LevelShift(Bank):
    """Short window against a long memory: finds a lasting shift within WINDOW samples.

    alpha : pace of the long memory, per tick

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
        """State: centre, spread, wide in the series' unit; share 0..1; recent, a ring in spreads."""
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
        """The compiled kernel."""
        run: Callable[..., None] = shift_run
        return run

    def parameters(self) -> tuple[float]:
        """The pace."""
        return (self.alpha,)
