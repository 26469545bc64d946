"""Half-space trees on one value: how empty the last window was where the value lies.

Tan, Ting and Liu, 2011, "Fast anomaly detection for streaming data". On one-dimensional input every node of a
tree is an interval between two cuts, and the cuts are the same for all series of a bank. So a series needs
no trees of its own: a table says how many samples of the reference window lie below each cut, in order, and
the mass of any node is the difference of two of its entries.
"""

import math
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from trimtab.models.bank import Bank, StateField
from trimtab.models.contracts import Floats
from trimtab.models.errors import ModelError

TILE_SERIES = 16
"""Series whose state stays in the processor's cache while a run goes through all its ticks."""
PADDING = 0.15
"""A cut keeps this share of its interval's width away from both ends."""
BUCKETS_PER_CUT = 2
"""Buckets a cut, in the table from which the search for a value starts."""
SPARSE_SHARE = 0.1
"""A node with less than this share of the window is not descended into."""
RANGE_MARGIN = 0.5
"""Room on both sides of the running range, as a share of its width, so that values beyond it stand alone."""
RANGE_MEMORY = 0.5
"""How much of an older, wider range is kept at each new reference window."""

Forest = tuple[Floats, npt.NDArray[np.int32], npt.NDArray[np.uint16]]


@njit(cache=True)
def _bucket_index(z, cuts, buckets):
    """Which of the equal parts between the first and the last cut holds z; never falls as z rises."""
    reach = z - cuts[0]
    width = cuts[cuts.shape[0] - 1] - cuts[0]
    if not reach > 0.0:
        return 0
    return buckets - 1 if reach >= width else int(reach / width * (buckets - 1))


@njit(cache=True)
def _interval_index(x, low, high, cuts, guide, scaled):
    """How many cuts lie at or below x."""
    z = (x - low) / (high - low) if scaled else x
    cell = int(guide[_bucket_index(z, cuts, guide.shape[0])])
    while cell < cuts.shape[0] and cuts[cell] <= z:
        cell += 1
    return cell


@njit(cache=True)
def _tree_mass(leaf, below, window, sparse):
    """Sum of mass * 2**depth from the root to the first sparse node; goes on to the leaf, adding nothing."""
    mass, alive, total, depth, span = window, -1, window, 1, below.shape[0] >> 1
    while span > 0:
        start = leaf & ~(span - 1)
        alive &= -int(mass >= sparse)
        mass = int(below[start + span]) - int(below[start])
        total += (mass << depth) & alive
        depth += 1
        span >>= 1
    return total


@njit(cache=True)
def half_space_score(i, x, t, recent, filled, goal, below, low, high, cuts, guide, leaves, scaled, exact):
    """Between 0 and 1, higher = emptier; nan for no number and in the first window (exact: 0)."""
    if not math.isfinite(x):
        return math.nan
    n_trees, size = below.shape[1], below.shape[2] - 1
    window = int(below[i, 0, size])
    if window == 0:
        return 0.0 if exact else math.nan
    cell = _interval_index(x, low[i], high[i], cuts, guide, scaled)
    total, sparse = 0, math.ceil(SPARSE_SHARE * window)
    for tree in range(n_trees):
        total += _tree_mass(int(leaves[cell, tree]), below[i, tree], window, sparse)
    return 1.0 - total / (n_trees * window * (2 * size - 1))


@njit(cache=True)
def _first_window_size(x, window_size):
    """Length of a series' first window, drawn from its first value: series must not all pivot in one tick."""
    part, exponent = math.frexp(x)
    mixed = (int(abs(part) * 2.0**52) + abs(exponent)) % 1_000_003
    return window_size - mixed % (window_size // 2 + 1)


@njit(cache=True)
def _fit_range(i, window, low, high):
    """The window's range with a margin; an older, wider range fades."""
    least, most = window.min(), window.max()
    room = max(RANGE_MARGIN * (most - least), 1e-9 * max(abs(least), abs(most)), 1e-30)
    least, most = least - room, most + room
    if not math.isnan(low[i]):
        least -= RANGE_MEMORY * max(least - low[i], 0.0)
        most += RANGE_MEMORY * max(high[i] - most, 0.0)
    low[i], high[i] = least, most


@njit(cache=True)
def _replace_reference(i, recent, filled, below, low, high, cuts, guide, leaves, scaled):
    """The window that is full becomes the reference."""
    if scaled:
        _fit_range(i, recent[i, : filled[i]], low, high)
    below[i, :, :] = 0
    cell = 0
    for j in range(filled[i]):
        if j == 0 or recent[i, j] != recent[i, j - 1]:
            cell = _interval_index(recent[i, j], low[i], high[i], cuts, guide, scaled)
        for tree in range(below.shape[1]):
            below[i, tree, int(leaves[cell, tree]) + 1] += 1
    for tree in range(below.shape[1]):
        for j in range(1, below.shape[2]):
            below[i, tree, j] += below[i, tree, j - 1]


@njit(cache=True)
def half_space_learn(i, x, t, recent, filled, goal, below, low, high, cuts, guide, leaves, scaled, exact):
    """Take one value into one series' window; what is no number changes nothing."""
    if not math.isfinite(x):
        return
    if goal[i] == 0:
        goal[i] = recent.shape[1] if exact else _first_window_size(x, recent.shape[1])
    recent[i, filled[i]] = x
    filled[i] += 1
    if filled[i] == goal[i]:
        _replace_reference(i, recent, filled, below, low, high, cuts, guide, leaves, scaled)
        filled[i] = 0
        goal[i] = recent.shape[1]


@njit(cache=True)
def half_space_run(
    x,
    t,
    where,
    gate,
    learning,
    out,
    recent,
    filled,
    goal,
    below,
    low,
    high,
    cuts,
    guide,
    leaves,
    scaled,
    exact,
):
    """The bank's kernel; see `trimtab.models.bank.Bank`."""
    for a in range(0, x.shape[1], TILE_SERIES):
        for k in range(x.shape[0]):
            for i in range(a, min(a + TILE_SERIES, x.shape[1])):
                s = half_space_score(
                    i,
                    x[k, i],
                    t[k],
                    recent,
                    filled,
                    goal,
                    below,
                    low,
                    high,
                    cuts,
                    guide,
                    leaves,
                    scaled,
                    exact,
                )
                out[k, i] = s
                if learning and where[k, i] and not abs(s) > gate[i]:
                    half_space_learn(
                        i,
                        x[k, i],
                        t[k],
                        recent,
                        filled,
                        goal,
                        below,
                        low,
                        high,
                        cuts,
                        guide,
                        leaves,
                        scaled,
                        exact,
                    )


@lru_cache(maxsize=32)
def build_forest(n_trees: int, height: int, low: float, high: float, seed: int) -> Forest:
    """(cuts, guide, leaves) of a forest; the same seed draws the cuts that river draws.

    cuts   : (n_cuts,) those of all trees, ascending, between low and high
    guide  : (GUIDE * n_cuts,) by bucket: how many cuts lie in the buckets before it
    leaves : (n_cuts + 1, n_trees) the leaf of each tree, counted from the left, that holds a value which
             has so many cuts at or below it
    """
    rng = random.Random(seed)  # noqa: S311 - river's generator, nothing secret
    size = 2**height
    own = np.empty((n_trees, size - 1))

    def grow(tree: int, first: int, span: int, low: float, high: float) -> None:
        if span == 1:
            return
        rng.random()  # river draws the feature, of which there is one
        padding = PADDING * (high - low)
        cut = rng.uniform(low + padding, high - padding)
        own[tree, first + span // 2 - 1] = cut
        grow(tree, first, span // 2, low, cut)
        grow(tree, first + span // 2, span // 2, cut, high)

    for tree in range(n_trees):
        grow(tree, 0, size, low, high)
    cuts = np.unique(own)
    inside = np.concatenate([[-np.inf], cuts])
    leaves = np.stack([np.searchsorted(c, inside, side="right") for c in own], axis=1).astype(np.uint16)
    buckets = BUCKETS_PER_CUT * len(cuts)
    bucket_of_cut = [_bucket_index.py_func(cut, cuts, buckets) for cut in cuts.tolist()]
    return cuts, np.searchsorted(bucket_of_cut, np.arange(buckets)).astype(np.int32), leaves


class HalfSpaceTrees(Bank):
    """Half-space trees, each series by itself; 0..1, NaN in a series' first window.

    n_trees, height, window_size, seed : as river's; window_size in samples, 4 to 65,535
    limits : (low, high) of the values in their own unit; None = the running range of each series, taken anew
             with each reference window, with room on both sides
    exact  : river's own figures: limits (0, 1) unless given, a full first window, 0 instead of NaN in it;
             all series then take their new window in the same tick, which costs a hundred times a usual one

    Raises ModelError for a parameter out of range.

    >>> import numpy as np
    >>> bank = HalfSpaceTrees(n_series=1, window_size=50)
    >>> x = np.r_[np.tile([4.0, 5.0, 6.0], 50), 9.0][:, None]
    >>> s = bank.run(x, np.arange(151))[:, 0]
    >>> bool(s[-1] > 0.9 > s[-2])
    True
    """

    two_sided = False

    def __init__(
        self,
        n_series: int,
        n_trees: int = 10,
        height: int = 8,
        window_size: int = 250,
        limits: tuple[float, float] | None = None,
        *,
        seed: int = 42,
        exact: bool = False,
    ) -> None:
        for name, value, least, most in (
            ("n_trees", n_trees, 1, 100),
            ("height", height, 1, 12),
            ("window_size", window_size, 4, 65_535),
        ):
            if not least <= value <= most:
                raise ModelError(f"half_space_trees: {name} is {value}; give {least} to {most}")
        if limits is not None and not (limits[0] < limits[1] and math.isfinite(limits[1] - limits[0])):
            raise ModelError(
                f"half_space_trees: limits are {limits}; give (low, high), finite, low below high"
            )
        self.n_trees = n_trees
        self.height = height
        self.window_size = window_size
        self.limits = limits
        self.seed = seed
        self.exact = exact
        super().__init__(n_series)

    def forest(self) -> Forest:
        """The cuts, guide and leaves that all series share; see `plant`."""
        low, high = self.limits or (0.0, 1.0)
        return build_forest(self.n_trees, self.height, float(low), float(high), self.seed)

    def fields(self) -> dict[str, StateField]:
        """Recent, low, high in the series' unit; below in samples of the reference window, by tree, leaf."""
        counts = np.uint8 if self.window_size <= 255 else np.uint16
        return {
            "recent": StateField(np.float64, 0.0, (self.window_size,)),
            "filled": StateField(np.int32),
            "goal": StateField(np.int32),
            "below": StateField(counts, 0.0, (self.n_trees, 2**self.height + 1)),
            "low": StateField(np.float64, np.nan),
            "high": StateField(np.float64, np.nan),
        }

    def kernel(self) -> Callable[..., None]:
        """The compiled kernel."""
        kernel: Callable[..., None] = half_space_run
        return kernel

    def parameters(self) -> tuple[Any, ...]:
        """Cuts, guide, leaves, whether values are scaled by their running range, exact."""
        scaled = self.limits is None and not self.exact
        return (*self.forest(), scaled, bool(self.exact))
