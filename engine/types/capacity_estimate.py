"""How many replicas, workers, connections or bytes of cache a load needs, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 90 % interval; low = high = value where a person gave it.

    source : "set" in the settings, "learnt" from history, or "assumed" until enough was seen
    """

    value: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class LoadPath:
    """The load ahead, for a picture; all by horizon, nearest first.

    ahead_s : seconds from now;  likely, high : in the load's unit; `high` is exceeded with chance `risk`
    serves  : load that the wanted replicas serve then, all of it
    """

    ahead_s: tuple[float, ...]
    likely: tuple[float, ...]
    high: tuple[float, ...]
    serves: tuple[float, ...]
    risk: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one thing that is scaled needs now. None = unknown, never 0.

    kind        : of what is counted: "replicas", "workers", "connections", "bytes" ...
    current     : serving and starting;  ready : serving
    wanted      : None where the engine cannot know; then the count is to stay as it is
    why         : "reactive", "forecast", "hold", "bounds"; "unknown" with `problem` in words
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
    """Of ours that it rests on."""
    load_id: str = ""
    """The one series that is the load; "" = it is the sum of several."""
