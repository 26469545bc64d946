"""Estimates of the capacity (replicas, workers, connections, bytes) that a load needs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its 90 % interval; low = high = value if it is configured.

    source : "set" in the settings, "learnt" from history, or "assumed" while history is too short
    """

    value: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class LoadPath:
    """Forecast load by horizon, nearest first.

    ahead_s : seconds from now;  likely, high : in the load's unit; `high` is exceeded with probability `risk`
    serves  : load that the wanted replicas can serve, in the load's unit
    """

    ahead_s: tuple[float, ...]
    likely: tuple[float, ...]
    high: tuple[float, ...]
    serves: tuple[float, ...]
    risk: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """Capacity that one scaled resource needs now. None = unknown, never 0.

    kind        : what is counted: "replicas", "workers", "connections", "bytes" ...
    current     : ready plus starting;  ready : serving
    wanted      : None = unknown; keep the current count
    why         : "reactive", "forecast", "hold", "bounds", or "unknown" with the reason in `problem`
    confidence  : 0..1; the reactive rule alone is 0.5
    cost_per_day, wanted_cost_per_day : in the currency of the settings
    """

    name: str
    kind: str
    time: int
    unit: str
    load: float | None
    current: float | None
    ready: float | None
    wanted: int | None
    floor: int | None
    ahead: int | None
    why: str
    problem: str
    confidence: float
    capacity_per_replica: Estimate | None
    startup_s: Estimate | None
    target_utilisation: float
    path: LoadPath | None
    cost_per_day: float | None
    wanted_cost_per_day: float | None
    tool: str = ""
    target: str = ""
    knob: str = ""
    series_ids: tuple[str, ...] = ()
    """Ids of the series it is computed from."""
    load_id: str = ""
    """Id of the load series; "" = the load is the sum of several series."""
