"""Half-space trees on one value: how empty the reference window is around the value.

Tan, Ting and Liu, 2011, "Fast anomaly detection for streaming data". On one-dimensional input every node of a
tree is an interval between two cuts, and all series of a bank share the cuts. A series therefore needs no
trees of its own: a table counts the samples of its reference window below each cut, and the mass of a node
is the difference of two table entries.
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
"""Number of series processed together, so that their state stays in the processor's cache during a run."""
PADDING = 0.15
"""Minimum distance of a cut from both ends of its interval, as a share of the interval's width."""
BUCKETS_PER_CUT = 2
"""Buckets per cut in the lookup table that starts the search for a value."""
SPARSE_SHARE = 0.1
"""The search does not descend below a node with less than this share of the window's samples."""
RANGE_MARGIN = 0.5
"""Margin on both sides of the running range, as a share of its width; values in it fall into empty nodes."""
RANGE_MEMORY = 0.5
"""Share of a wider former range that is kept at each new reference window."""

Forest = tuple[Floats, npt.NDArray[np.int32], npt.NDArray[np.uint16]]


@njit(cache=True)
def _bucket_index(z, cuts, buckets):
    """Return the index of the equal-width bucket between first and last cut that holds z; monotonic in z."""
    offset = z - cuts[0]
    width = cuts[cuts.shape[0] - 1] - cuts[0]
    if not offset > 0.0:
        return 0
    return buckets - 1 if offset >= width else int(offset / width * (buckets - 1))


@njit(cache=True)
def _interval_index(x, low, high, cuts, guide, scaled):
    """Return the number of cuts at or below x."""
    z = (x - low) / (high - low) if scaled else x
    index = int(guide[_bucket_index(z, cuts, guide.shape[0])])
    while index < cuts.shape[0] and cuts[index] <= z:
        index += 1
    return index


@njit(cache=True)
def _tree_mass(leaf, below, window, sparse):
    """Sum mass * 2**depth from the root to the first sparse node.

    The loop continues to the leaf without adding to the sum, which avoids a branch.
    """
    mass, active, total, depth, span = window, -1, window, 1, below.shape[0] >> 1
    while span > 0:
        start = leaf & ~(span - 1)
        active &= -int(mass >= sparse)
        mass = int(below[start + span]) - int(below[start])
        total += (mass << depth) & active
        depth += 1
        span >>= 1
    return total


@njit(cache=True)
def half_space_score(i, x, t, recent, filled, goal, below, low, high, cuts, guide, leaves, scaled, exact):
    """Return a score 0..1, higher = emptier; nan if x is not finite or in the first window (exact: 0)."""
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
    """Return the length of a series' first window, derived from its first value.

    Different lengths keep the series from replacing their reference windows in the same tick.
    """
    part, exponent = math.frexp(x)
    mixed = (int(abs(part) * 2.0**52) + abs(exponent)) % 1_000_003
    return window_size - mixed % (window_size // 2 + 1)


@njit(cache=True)
def _fit_range(i, window, low, high):
    """Set the range of a series to its window's range with a margin; a wider former range fades."""
    lowest, highest = window.min(), window.max()
    margin = max(RANGE_MARGIN * (highest - lowest), 1e-9 * max(abs(lowest), abs(highest)), 1e-30)
    lowest, highest = lowest - margin, highest + margin
    if not math.isnan(low[i]):
        lowest -= RANGE_MEMORY * max(lowest - low[i], 0.0)
        highest += RANGE_MEMORY * max(high[i] - highest, 0.0)
    low[i], high[i] = lowest, highest


@njit(cache=True)
def _replace_reference(i, recent, filled, below, low, high, cuts, guide, leaves, scaled):
    """Make the full window the reference window."""
    if scaled:
        _fit_range(i, recent[i, : filled[i]], low, high)
    below[i, :, :] = 0
    index = 0
    for j in range(filled[i]):
        if j == 0 or recent[i, j] != recent[i, j - 1]:
            index = _interval_index(recent[i, j], low[i], high[i], cuts, guide, scaled)
        for tree in range(below.shape[1]):
            below[i, tree, int(leaves[index, tree]) + 1] += 1
    for tree in range(below.shape[1]):
        for j in range(1, below.shape[2]):
            below[i, tree, j] += below[i, tree, j - 1]


@njit(cache=True)
def half_space_learn(i, x, t, recent, filled, goal, below, low, high, cuts, guide, leaves, scaled, exact):
    """Add one value to the window of one series; a non-finite value changes nothing."""
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
    """Kernel of the bank; see `trimtab.models.bank.Bank`."""
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
    """Return (cuts, guide, leaves) of a forest; the same seed draws the same cuts as river.

    cuts   : (n_cuts,) cuts of all trees, ascending, between low and high
    guide  : (BUCKETS_PER_CUT * n_cuts,) number of cuts in all buckets before each bucket
    leaves : (n_cuts + 1, n_trees) leaf of each tree, counted from the left, that holds a value with this many
             cuts at or below it
    """
    rng = random.Random(seed)  # noqa: S311 - river's generator, not cryptographic
    size = 2**height
    cuts_by_tree = np.empty((n_trees, size - 1))

    def grow(tree: int, first: int, span: int, low: float, high: float) -> None:
        if span == 1:
            return
        rng.random()  # river draws a feature here; there is only one
        padding = PADDING * (high - low)
        cut = rng.uniform(low + padding, high - padding)
        cuts_by_tree[tree, first + span // 2 - 1] = cut
        grow(tree, first, span // 2, low, cut)
        grow(tree, first + span // 2, span // 2, cut, high)

    for tree in range(n_trees):
        grow(tree, 0, size, low, high)
    cuts = np.unique(cuts_by_tree)
    edges = np.concatenate([[-np.inf], cuts])
    leaves = np.stack([np.searchsorted(c, edges, side="right") for c in cuts_by_tree], axis=1).astype(
        np.uint16
    )
    buckets = BUCKETS_PER_CUT * len(cuts)
    bucket_of_cut = [_bucket_index.py_func(cut, cuts, buckets) for cut in cuts.tolist()]
    return cuts, np.searchsorted(bucket_of_cut, np.arange(buckets)).astype(np.int32), leaves


class HalfSpaceTrees(Bank):
    """Half-space trees for each series separately; scores 0..1, NaN in a series' first window.

    n_trees, height, window_size, seed : as in river; window_size in samples, 4 to 65,535
    limits : (low, high) of the values in their own unit; None = the running range of each series plus a
             margin, updated with each reference window
    exact  : give river's scores: limits (0, 1) unless given, a full first window, and 0 instead of NaN in it;
             all series then replace their window in the same tick, which takes 100 times as long as others

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
        for name, value, minimum, maximum in (
            ("n_trees", n_trees, 1, 100),
            ("height", height, 1, 12),
            ("window_size", window_size, 4, 65_535),
        ):
            if not minimum <= value <= maximum:
                raise ModelError(f"half_space_trees: {name} is {value}; must be {minimum} to {maximum}")
        if limits is not None and not (limits[0] < limits[1] and math.isfinite(limits[1] - limits[0])):
            raise ModelError(
                f"half_space_trees: limits are {limits}; must be finite (low, high) with low < high"
            )
        self.n_trees = n_trees
        self.height = height
        self.window_size = window_size
        self.limits = limits
        self.seed = seed
        self.exact = exact
        super().__init__(n_series)

    def forest(self) -> Forest:
        """Return the cuts, guide and leaves that all series share; see `build_forest`."""
        low, high = self.limits or (0.0, 1.0)
        return build_forest(self.n_trees, self.height, float(low), float(high), self.seed)

    def fields(self) -> dict[str, StateField]:
        """Return the state fields.

        recent, low, high : samples of the current window and the running range, in the series' unit
        filled, goal      : samples in the current window, and its length
        below             : reference samples below each leaf, by tree
        """
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
        """Return the compiled kernel."""
        kernel: Callable[..., None] = half_space_run
        return kernel

    def parameters(self) -> tuple[Any, ...]:
        """Return cuts, guide, leaves, whether values are scaled by their running range, and exact."""
        scaled = self.limits is None and not self.exact
        return (*self.forest(), scaled, bool(self.exact))
