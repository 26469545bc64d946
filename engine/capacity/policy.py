"""Scaling policies: Kubernetes' reactive rule as the floor, and a quantile forecast ahead of it."""

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
MAX_SCALE_UP_FACTOR, MIN_SCALE_UP_REPLICAS = 2.0, 4
"""A step up is at most this factor or this many replicas, whichever is larger."""
RISK, RISK_STARTUP_S, RISKS = 0.05, 600.0, (0.01, 0.1)
"""Default risk, the start-up time in seconds at which it applies, and its limits."""
METRIC_LAG_S, METRIC_WINDOW_S = 60.0, 60.0
"""Average delay of an autoscaler's metrics and the window over which they are averaged, seconds."""
ZEROS_USUAL = 0.01
"""Share of zeros in the history, 0..1, from which a zero load is believed."""
HORIZON_POINTS = 3
"""Number of forecast points between now and the end of a start."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """Capacity of the replicas and the limits of scaling.

    capacity           : capacity of one replica in the load's unit, > 0
    startup_s          : seconds from the order until a replica serves
    target_utilisation : 0..1, as in a HorizontalPodAutoscaler
    risk               : accepted probability, 0..1, that the future load exceeds the capacity
    """

    capacity: float
    startup_s: float
    target_utilisation: float = 0.7
    min_replicas: int = 2
    max_replicas: int = 100
    risk: float = RISK

    def replicas_within_tolerance(self, load: float) -> int:
        """Return the fewest replicas at which the reactive rule does not scale up."""
        return _ceil(load / self.capacity / self.target_utilisation / (1.0 + TOLERANCE))

    def replicas_at_target(self, load: float) -> int:
        """Return the replicas that bring this load to the target utilisation."""
        return _ceil(load / self.capacity / self.target_utilisation)

    def replicas_for_forecast(self, high: Floats) -> int | None:
        """Return the replicas for the forecast load; None = unknown.

        high : (n_horizons,) upper quantile 1 - `risk` of the load
        """
        return _ceil(float(high.max()) / self.capacity) if np.isfinite(high).all() else None

    def bounded(self, replicas: int, total: int) -> int:
        """Limit the replicas to the bounds and to the reactive rule's fastest scale-up."""
        reached = min(replicas, max(int(MAX_SCALE_UP_FACTOR * total), total + MIN_SCALE_UP_REPLICAS))
        return min(self.max_replicas, max(self.min_replicas, reached))


class ReactivePolicy:
    """Kubernetes' HorizontalPodAutoscaler rule: tolerance and downscale stabilisation window.

    >>> rule = ReactivePolicy(Sizing(10.0, 60.0), tick_s=15.0)
    >>> [rule.want(t, load, 4, 4) for t, load in enumerate((28.0, 56.0, 14.0))]
    [4, 8, 8]
    """

    def __init__(self, sizing: Sizing, tick_s: float) -> None:
        self.sizing = sizing
        self.window = max(1, round(STABILISATION_S / tick_s))
        self._desired: deque[tuple[int, int]] = deque()

    def want(self, t: int, load: float, ready: int, total: int) -> int:
        """Return the replicas for tick t; a NaN load changes nothing."""
        wish = total if math.isnan(load) else self._desired_replicas(load, ready, total)
        while self._desired and self._desired[-1][1] <= wish:
            self._desired.pop()
        self._desired.append((t, wish))
        while self._desired[0][0] <= t - self.window:
            self._desired.popleft()
        return self.sizing.bounded(max(wish, self._desired[0][1]) if wish < total else wish, total)

    def _desired_replicas(self, load: float, ready: int, total: int) -> int:
        full = self.sizing.capacity * self.sizing.target_utilisation
        ratio = load / (max(1, ready) * full)
        if abs(ratio - 1.0) <= TOLERANCE:
            return total
        wish = self.sizing.replicas_at_target(load)
        # starting replicas count as idle: they may damp a scale-up, but never turn it into a scale-down
        return max(wish, total) if ratio > 1.0 else wish


def usual_risk(startup_s: float) -> float:
    """Return the default risk, 0..1: it grows with the square root of the start-up time.

    A load spreads with the square root of time, so slow starts make the same risk more expensive.

    >>> [round(usual_risk(seconds), 3) for seconds in (5.0, 180.0, 600.0, 3600.0)]
    [0.01, 0.027, 0.05, 0.1]
    """
    low, high = RISKS
    return min(high, max(low, RISK * math.sqrt(startup_s / RISK_STARTUP_S)))


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """Decision of one tick.

    replicas : wanted replicas
    floor    : replicas of the reactive rule
    ahead    : replicas of the forecast; None = no forecast
    why      : "reactive", "forecast", "hold" or "bounds"
    """

    replicas: int
    floor: int
    ahead: int | None
    why: str


class PredictivePolicy:
    """Scales ahead of load, with the reactive rule as the floor.

    Scales up as soon as the rule or the forecast asks for it. Scales down no lower than the forecast for one
    whole start-up, the fewest replicas within the rule's tolerance, and the rule's scale-ups within its
    stabilisation window. Without a forecast only the reactive rule applies. An unknown load changes nothing,
    nor does a zero load if zeros are unusual.

    past   : (n_ticks,) load before tick 0, NaN = unknown
    tick_s : seconds per tick
    lag_s  : delay of the load metric, seconds
    """

    def __init__(self, sizing: Sizing, past: Floats, tick_s: float, lag_s: float = METRIC_LAG_S) -> None:
        self.sizing = sizing
        self.tick_s = tick_s
        aheads = [lag_s + sizing.startup_s * part / HORIZON_POINTS for part in range(1, HORIZON_POINTS + 1)]
        self.load = LoadAhead(tick_s, aheads, 1.0 - sizing.risk)
        self.load.fit(past)
        self.last = ScalingDecision(0, 0, None, "hold")
        self._reactive = ReactivePolicy(sizing, tick_s)
        self._zeros_usual = len(past) > 0 and float(np.mean(past <= 0.0)) >= ZEROS_USUAL
        self._scale_ups: deque[tuple[int, int]] = deque()
        self._t: int | None = None

    def want(self, t: int, load: float, ready: int, total: int) -> int:
        """Return the wanted replicas at tick t.

        t     : tick number; ticks may be skipped
        load  : current load, NaN = unknown
        ready : replicas that serve
        total : replicas that serve or start
        """
        unknown = math.isnan(load) or (load <= 0.0 and not self._zeros_usual)
        known_load = math.nan if unknown else load
        for _ in range(self._missed_ticks(t)):
            self.load.step(math.nan)
        high = self.load.step(known_load)
        self._t = t
        reactive = self._reactive.want(t, known_load, ready, total)
        ahead = self.sizing.replicas_for_forecast(high)
        self.last = self._decide(t, known_load, reactive, ahead, total)
        return self.last.replicas

    def _decide(self, t: int, load: float, reactive: int, ahead: int | None, total: int) -> ScalingDecision:
        if math.isnan(load):
            return ScalingDecision(self.sizing.bounded(total, total), total, ahead, "hold")
        if ahead is None:
            return ScalingDecision(reactive, reactive, None, "reactive")
        floor = max(self._floor(t, load, total), self.sizing.min_replicas)
        wish = max(floor, ahead)
        replicas = self.sizing.bounded(wish, total)
        why = "bounds" if replicas != wish else "forecast" if ahead > floor else "reactive"
        return ScalingDecision(replicas, floor, ahead, why)

    def _floor(self, t: int, load: float, total: int) -> int:
        """Return the reactive floor: replicas within tolerance now, and recent scale-ups."""
        content = self.sizing.replicas_within_tolerance(load)
        if content > total:
            self._scale_ups.append((t, self.sizing.replicas_at_target(load)))
        while self._scale_ups and self._scale_ups[0][0] <= t - self._reactive.window:
            self._scale_ups.popleft()
        return max(content, max((asked for _, asked in self._scale_ups), default=0))

    def _missed_ticks(self, t: int) -> int:
        """Return the number of skipped ticks, at most one day of them."""
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
) -> PredictivePolicy:
    """Return a policy for one load; `.want(t, load, ready, total)` returns the replicas for a tick.

    history              : columns ds and y, evenly spaced by step_s seconds, oldest first, before tick 0
    capacity_per_replica : in the unit of y
    startup_s, tick_s    : seconds
    target_utilisation   : 0..1
    """
    sizing = Sizing(
        capacity_per_replica, startup_s, target_utilisation, min_replicas, max_replicas, usual_risk(startup_s)
    )
    return PredictivePolicy(sizing, as_observed(history["y"].to_numpy(np.float64), step_s, tick_s), tick_s)


def as_observed(values: Floats, step_s: float, tick_s: float) -> Floats:
    """Resample recorded values to ticks, averaged over a minute as an autoscaler sees them.

    >>> as_observed(np.array([0.0, 4.0]), 60.0, 15.0).tolist()
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
