"""How many replicas a load needs: the reactive rule as the floor, a quantile forecast ahead of it."""

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trimtab.engine.types import Floats
from trimtab.models.scaling.load_ahead import LoadAhead, fill_gaps

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE, STABILISATION_S = 0.1, 300.0
FASTEST, AT_LEAST = 2.0, 4
"""A step up is at most this factor, or this many replicas where that is more."""
RISK, RISK_STARTUP_S, RISKS = 0.05, 600.0, (0.01, 0.1)
"""One for all loads of a start-up time: where replicas cost alike, they serve most at one chance for all."""
METRIC_LAG_S, METRIC_WINDOW_S = 60.0, 60.0
"""How old a figure is on average when it is seen, and over how long it is averaged."""
ZEROS_USUAL = 0.01
"""Share of a load's past that must be zero before a zero is believed."""
PARTS = 3
"""Moments between now and the end of a start that are looked at."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """What is known of the things that are scaled.

    capacity           : of one replica, in the load's unit, > 0
    startup_s          : from the order until it serves
    target_utilisation : 0..1, as an HPA is given it
    risk               : chance that the load ahead is more than all of what serves then
    """

    capacity: float
    startup_s: float
    target_utilisation: float = 0.7
    min_replicas: int = 2
    max_replicas: int = 100
    risk: float = RISK

    def content(self, load: float) -> int:
        """Fewest replicas at which the reactive rule asks for no more."""
        return _ceil(load / self.capacity / self.target_utilisation / (1.0 + TOLERANCE))

    def reactive(self, load: float) -> int:
        """Replicas that bring this load to the target."""
        return _ceil(load / self.capacity / self.target_utilisation)

    def ahead(self, high: Floats) -> int | None:
        """Replicas for the load ahead; None = it is not known.

        high : (n_horizons,) that the load stays below but for `risk`
        """
        return _ceil(float(high.max()) / self.capacity) if np.isfinite(high).all() else None

    def bounded(self, replicas: int, total: int) -> int:
        """Within its bounds, and no faster up than the reactive rule goes."""
        reached = min(replicas, max(int(FASTEST * total), total + AT_LEAST))
        return min(self.max_replicas, max(self.min_replicas, reached))


class Reactive:
    """The rule of Kubernetes' HorizontalPodAutoscaler: a tolerance, and the most of the last minutes.

    >>> rule = Reactive(Sizing(10.0, 60.0), tick_s=15.0)
    >>> [rule.want(t, load, 4, 4) for t, load in enumerate((28.0, 56.0, 14.0))]
    [4, 8, 8]
    """

    def __init__(self, sizing: Sizing, tick_s: float) -> None:
        self.sizing = sizing
        self.window = max(1, round(STABILISATION_S / tick_s))
        self._wishes: deque[tuple[int, int]] = deque()

    def want(self, t: int, load: float, ready: int, total: int) -> int:
        """Replicas at tick t; a load that is NaN changes nothing."""
        wish = total if math.isnan(load) else self._wish(load, ready, total)
        while self._wishes and self._wishes[-1][1] <= wish:
            self._wishes.pop()
        self._wishes.append((t, wish))
        while self._wishes[0][0] <= t - self.window:
            self._wishes.popleft()
        return self.sizing.bounded(max(wish, self._wishes[0][1]) if wish < total else wish, total)

    def _wish(self, load: float, ready: int, total: int) -> int:
        full = self.sizing.capacity * self.sizing.target_utilisation
        ratio = load / (max(1, ready) * full)
        if abs(ratio - 1.0) <= TOLERANCE:
            return total
        wish = self.sizing.reactive(load)
        # what is still starting counts as idle: it may damp a step up, never turn it into a step down
        return max(wish, total) if ratio > 1.0 else wish


def usual_risk(startup_s: float) -> float:
    """Chance that is taken where nobody says: it grows with the root of the start-up time.

    A load spreads as the root of time, so the same safety takes more replicas where they start slowly.

    >>> [round(usual_risk(seconds), 3) for seconds in (5.0, 180.0, 600.0, 3600.0)]
    [0.01, 0.027, 0.05, 0.1]
    """
    low, high = RISKS
    return min(high, max(low, RISK * math.sqrt(startup_s / RISK_STARTUP_S)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a tick came to.

    replicas : wanted now;  floor : of them the reactive rule asks for;  ahead : the forecast asks for, None =
    there is none. why : "reactive", "forecast", "hold" or "bounds"
    """

    replicas: int
    floor: int
    ahead: int | None
    why: str


class Predictive:
    """Scales ahead of load. The reactive rule is the floor, its stabilisation yields to the forecast only.

    Up: as soon as either asks for it. Down: no lower than the forecast allows for the whole of a start, nor
    than the fewest with which the reactive rule is content, nor than what that rule asked for within its
    stabilisation. Without a forecast it is the reactive rule alone. An unknown load changes nothing, nor
    does a zero of a load that is not zero at times.
    """

    def __init__(self, sizing: Sizing, past: Floats, tick_s: float, lag_s: float = METRIC_LAG_S) -> None:
        self.sizing = sizing
        self.tick_s = tick_s
        aheads = [lag_s + sizing.startup_s * part / PARTS for part in range(1, PARTS + 1)]
        self.load = LoadAhead(tick_s, aheads, 1.0 - sizing.risk)
        self.load.fit(past)
        self.last = Wanted(0, 0, None, "hold")
        self._reactive = Reactive(sizing, tick_s)
        self._zeros_usual = len(past) > 0 and float(np.mean(past <= 0.0)) >= ZEROS_USUAL
        self._asked: deque[tuple[int, int]] = deque()
        self._t: int | None = None

    def want(self, t: int, load: float, ready: int, total: int) -> int:
        """Replicas wanted at tick t.

        t : counts ticks, may leave some out;  load : as seen now, NaN = unknown;  total : ready and starting
        """
        unknown = math.isnan(load) or (load <= 0.0 and not self._zeros_usual)
        seen = math.nan if unknown else load
        for _ in range(self._missed(t)):
            self.load.step(math.nan)
        high = self.load.step(seen)
        self._t = t
        reactive = self._reactive.want(t, seen, ready, total)
        ahead = self.sizing.ahead(high)
        self.last = self._decide(t, seen, reactive, ahead, total)
        return self.last.replicas

    def _decide(self, t: int, load: float, reactive: int, ahead: int | None, total: int) -> Wanted:
        if math.isnan(load):
            return Wanted(self.sizing.bounded(total, total), total, ahead, "hold")
        if ahead is None:
            return Wanted(reactive, reactive, None, "reactive")
        floor = max(self._floor(t, load, total), self.sizing.min_replicas)
        wish = max(floor, ahead)
        replicas = self.sizing.bounded(wish, total)
        why = "bounds" if replicas != wish else "forecast" if ahead > floor else "reactive"
        return Wanted(replicas, floor, ahead, why)

    def _floor(self, t: int, load: float, total: int) -> int:
        """What the reactive rule does not go below: where it would step up now, or did a moment ago."""
        content = self.sizing.content(load)
        if content > total:
            self._asked.append((t, self.sizing.reactive(load)))
        while self._asked and self._asked[0][0] <= t - self._reactive.window:
            self._asked.popleft()
        return max(content, max((asked for _, asked in self._asked), default=0))

    def _missed(self, t: int) -> int:
        """Ticks that nobody asked about since; a day of them at most, more would teach nothing."""
        return 0 if self._t is None else min(max(0, t - self._t - 1), round(86_400.0 / self.tick_s))


def policy(
    history: "pd.DataFrame",
    step_s: float,
    capacity_per_replica: float,
    startup_s: float,
    *,
    target_utilisation: float,
    min_replicas: int,
    max_replicas: int,
    tick_s: float,
) -> Predictive:
    """A policy for one load, asked at each tick by `.want(t, load, ready, total)` -> replicas.

    history : columns ds and y, evenly spaced by step_s, oldest first; what came before tick 0
    """
    sizing = Sizing(
        capacity_per_replica, startup_s, target_utilisation, min_replicas, max_replicas, usual_risk(startup_s)
    )
    return Predictive(sizing, as_seen(history["y"].to_numpy(np.float64), step_s, tick_s), tick_s)


def as_seen(values: Floats, step_s: float, tick_s: float) -> Floats:
    """Recorded values as an autoscaler would have seen them: by tick, averaged over a minute.

    >>> as_seen(np.array([0.0, 4.0]), 60.0, 15.0).tolist()
    [0.0, 0.5, 1.0, 1.5, 2.5, 3.25, 3.75, 4.0]
    """
    known = fill_gaps(values)
    ticks = round(len(known) * step_s / tick_s)
    fine = np.interp(np.arange(ticks) * tick_s / step_s, np.arange(len(known)), known) if ticks else known
    width = max(1, round(METRIC_WINDOW_S / tick_s))
    sums = np.concatenate([[0.0], np.cumsum(fine)])
    last = np.arange(1, len(fine) + 1)
    first = np.maximum(0, last - width)
    averaged: Floats = (sums[last] - sums[first]) / (last - first)
    return averaged


def _ceil(replicas: float) -> int:
    return math.ceil(replicas - 1e-9)
