"""Replay of a scaled service: replicas start slowly, stop at once and have a limited capacity."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.engine.capacity.policy import Sizing

TICK_S = 15.0
METRIC_LAG_TICKS, METRIC_WINDOW_TICKS = 2, 4
"""Delay and averaging window of the metric, ticks."""


@dataclass(frozen=True)
class ReplayResult:
    """Cost and unserved load of a policy."""

    replica_minutes: float
    unserved: float
    """Share of the load, 0..1."""


def bursty_load(seed: int, days: int) -> np.ndarray:
    """Return a load by tick: daily season, slow noise and a 12-minute burst about every two hours."""
    rng = np.random.default_rng(seed)
    day = round(86_400 / TICK_S)
    t = np.arange(days * day)
    slow = np.interp(t, np.arange(0, len(t) + 40, 20), rng.normal(0.0, 0.1, len(t) // 20 + 2))
    load = 100.0 * (1.2 - np.cos(2 * np.pi * t / day)) * (1.0 + slow)
    for begin in np.flatnonzero(rng.random(len(t)) < 1.0 / 480.0):
        shape = 1.0 + rng.uniform(0.3, 0.9) * np.sin(np.pi * np.arange(48) / 48.0)
        load[begin : begin + 48] *= shape[: len(load) - begin]
    return load


def replay(load: np.ndarray, sizing: Sizing, policy: Any) -> ReplayResult:
    """Replay the load with a policy whose metric is delayed and averaged."""
    ready, starting = math.ceil(load[0] / sizing.capacity / sizing.target_utilisation), deque()
    paid = missing = 0.0
    for t, demand in enumerate(load):
        while starting and starting[0] <= t:
            starting.popleft()
            ready += 1
        last = max(0, t - METRIC_LAG_TICKS)
        measured_load = load[max(0, last - METRIC_WINDOW_TICKS + 1) : last + 1].mean()
        total = ready + len(starting)
        wanted = policy.want(t, float(measured_load), ready, total)
        starting.extend([t + round(sizing.startup_s / TICK_S)] * max(0, wanted - total))
        for _ in range(total - wanted):
            if starting:
                starting.pop()
            else:
                ready -= 1
        paid += ready + len(starting)
        missing += max(0.0, demand - ready * sizing.capacity)
    return ReplayResult(paid * TICK_S / 60.0, missing / float(load.sum()))
