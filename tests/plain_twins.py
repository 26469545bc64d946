"""Slow plain-Python twins of the array kernels: one series, one float at a time, no arrays.

Each twin follows the algorithm's description directly, independently of its kernel.
"""

import math
import random
import statistics


class EwZscore:
    """Plain twin of `trimtab.models.detectors.ew_zscore.EwZscore` for one series."""

    def __init__(self, fading_factor=0.02, *, exact=False, min_samples=30):
        self.fading_factor, self.exact, self.min_samples = fading_factor, exact, min_samples
        self.count, self.mean, self.square, self.variance = 0, 0.0, 0.0, 0.0

    def score(self, x):
        if math.isnan(x) or math.isinf(x):
            return math.nan
        if self.exact:
            variance = self.square - self.mean * self.mean
            if self.count == 0 or variance <= 0:
                return math.nan
        else:
            if self.count < self.min_samples:
                return math.nan
            variance = max(self.variance, 1e-60, (1e-12 * self.mean) ** 2)
        return (x - self.mean) / math.sqrt(variance)

    def learn(self, x):
        if math.isnan(x) or math.isinf(x):
            return
        f = self.fading_factor
        if self.exact:
            self.mean = x if self.count == 0 else f * x + (1 - f) * self.mean
            self.square = x * x if self.count == 0 else f * (x * x) + (1 - f) * self.square
        else:
            f = max(f, 1 / (self.count + 1))
            gap = x - self.mean
            self.mean += f * gap
            self.variance = max((1 - f) * (self.variance + f * gap * gap), 1e-60)
        self.count += 1


class TreeNode:
    """A node of a half-space tree: a cut and two children, or a leaf."""

    def __init__(self, low, high, height, rng):
        self.mass, self.cut, self.below, self.above = 0, None, None, None
        if height == 0:
            return
        rng.random()
        padding = 0.15 * (high - low)
        self.cut = rng.uniform(low + padding, high - padding)
        self.below = TreeNode(low, self.cut, height - 1, rng)
        self.above = TreeNode(self.cut, high, height - 1, rng)

    def child(self, z):
        return self.below if z < self.cut else self.above

    def clear(self):
        self.mass = 0
        if self.cut is not None:
            self.below.clear()
            self.above.clear()

    def add(self, z):
        self.mass += 1
        if self.cut is not None:
            self.child(z).add(z)

    def weighted_mass(self, z, sparse, weight=1):
        own_mass = self.mass * weight
        if self.cut is None or self.mass < sparse:
            return own_mass
        return own_mass + self.child(z).weighted_mass(z, sparse, 2 * weight)


class HalfSpaceTrees:
    """Plain twin of `trimtab.models.detectors.half_space_trees.HalfSpaceTrees` for one series."""

    def __init__(self, n_trees=10, height=8, window_size=250, limits=None, *, seed=42, exact=False):
        self.height, self.window_size, self.exact = height, window_size, exact
        self.scaled = limits is None and not exact
        rng = random.Random(seed)
        low, high = limits or (0.0, 1.0)
        self.trees = [TreeNode(low, high, height, rng) for _ in range(n_trees)]
        self.range, self.window, self.reference, self.goal = None, [], [], None

    def scale(self, x):
        if not self.scaled:
            return x
        low, high = self.range
        return (x - low) / (high - low)

    def score(self, x):
        if math.isnan(x) or math.isinf(x):
            return math.nan
        if not self.reference:
            return 0.0 if self.exact else math.nan
        n = len(self.reference)
        total = sum(tree.weighted_mass(self.scale(x), 0.1 * n) for tree in self.trees)
        return 1 - total / (len(self.trees) * n * (2 ** (self.height + 1) - 1))

    def learn(self, x):
        if math.isnan(x) or math.isinf(x):
            return
        if self.goal is None:
            self.goal = self.window_size if self.exact else self.first_window_size(x)
        self.window.append(x)
        if len(self.window) == self.goal:
            self.replace_reference()
            self.goal = self.window_size

    def first_window_size(self, x):
        part, exponent = math.frexp(x)
        mixed = (int(abs(part) * 2**52) + abs(exponent)) % 1_000_003
        return self.window_size - mixed % (self.window_size // 2 + 1)

    def replace_reference(self):
        self.reference, self.window = self.window, []
        if self.scaled:
            low, high = min(self.reference), max(self.reference)
            margin = max(0.5 * (high - low), 1e-9 * max(abs(low), abs(high)), 1e-30)
            low, high = low - margin, high + margin
            if self.range:
                low -= 0.5 * max(low - self.range[0], 0.0)
                high += 0.5 * max(self.range[1] - high, 0.0)
            self.range = (low, high)
        for tree in self.trees:
            tree.clear()
            for x in self.reference:
                tree.add(self.scale(x))


def window_median(values: list[float], row: int, half_width: int) -> float:
    """Return the median of the known values within `half_width` rows of `row`; NaN if there are none."""
    known = [
        value for value in values[max(row - half_width, 0) : row + half_width + 1] if not math.isnan(value)
    ]
    return statistics.median(known) if known else math.nan
