"""A service that is scaled, replayed: replicas start slowly, stop at once, and serve so much only."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.engine.capacity.policy import Sizing

TICK_S = 15.0
SEEN_AFTER, SEEN_OVER = 2, 4
"""Ticks until a figure is seen, and over which it is averaged."""


@dataclass(frozen=True)
class Replayed:
    """What a policy came to."""

    replica_minutes: float
    unserved: float
    """Share of the load."""


def bursts(seed: int, days: int) -> np.ndarray:
    """A load by tick: a daily course, slow noise, and a burst of twelve minutes every two hours or so."""
    rng = np.random.default_rng(seed)
    day = round(86_400 / TICK_S)
    t = np.arange(days * day)
    slow = np.interp(t, np.arange(0, len(t) + 40, 20), rng.normal(0.0, 0.1, len(t) // 20 + 2))
    load = 100.0 * (1.2 - np.cos(2 * np.pi * t / day)) * (1.0 + slow)
    for begin in np.flatnonzero(rng.random(len(t)) < 1.0 / 480.0):
        shape = 1.0 + rng.uniform(0.3, 0.9) * np.sin(np.pi * np.arange(48) / 48.0)
        load[begin : begin + 48] *= shape[: len(load) - begin]
    return load


def replay(load: np.ndarray, sizing: Sizing, policy: Any) -> Replayed:
    """Let the policy scale this load, which it sees late and averaged."""
    ready, starting = math.ceil(load[0] / sizing.capacity / sizing.target_utilisation), deque()
    paid = missing = 0.0
    for t, demand in enumerate(load):
        while starting and starting[0] <= t:
            starting.popleft()
            ready += 1
        last = max(0, t - SEEN_AFTER)
        seen = load[max(0, last - SEEN_OVER + 1) : last + 1].mean()
        total = ready + len(starting)
        wanted = policy.want(t, float(seen), ready, total)
        starting.extend([t + round(sizing.startup_s / TICK_S)] * max(0, wanted - total))
        for _ in range(total - wanted):
            if starting:
                starting.pop()
            else:
                ready -= 1
        paid += ready + len(starting)
        missing += max(0.0, demand - ready * sizing.capacity)
    return Replayed(paid * TICK_S / 60.0, missing / float(load.sum()))
