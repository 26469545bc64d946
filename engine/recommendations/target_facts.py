"""Facts about targets (metrics, knobs, actions, modes), and which targets a pattern is about."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trimtab.engine.types import Knob, KnobReading, Mode, PatternMatch, ToolAction, Value

_WORDS = re.compile(r"[\w.:-]+")


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """The newest reading of one target.

    kind                : tool kind, as in the tool catalogue
    metrics             : values by name, in base units; unknown ones are absent
    knobs               : by name; reading None = unreadable
    modes               : by subject; "*" = all others
    labels              : labels of the target's series, such as {"instance": "10.0.0.7:9121"}
    series_ids          : metric name -> id of the watched series
    metrics_after_start : metrics shortly after an earlier start of the target
    """

    tool: str
    kind: str
    target: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    knobs: Mapping[str, tuple[Knob, KnobReading | None]] = field(default_factory=dict)
    actions: Mapping[str, ToolAction] = field(default_factory=dict)
    modes: Mapping[str, Mode] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    series_ids: Mapping[str, str] = field(default_factory=dict)
    metrics_after_start: Mapping[str, float] = field(default_factory=dict)
    writable: bool = True
    """False = the tool is export-only: operators carry out its recommendations."""

    def mode_of(self, subject: str) -> Mode:
        """Return the mode of a knob or action."""
        return self.modes.get(subject, self.modes.get("*", Mode.RECOMMEND))

    def metric(self, name: str) -> float | None:
        """Return a metric; None = unknown."""
        value = self.metrics.get(name)
        return None if value is None or not math.isfinite(value) else value

    def knob_number(self, knob: str) -> float | None:
        """Return a knob's value as a number; None = not a number, or unknown."""
        value = self.knob_value(knob)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def knob_value(self, knob: str) -> Value:
        """Return a knob's value; None = not set, or unknown."""
        reading = self.knobs[knob][1] if knob in self.knobs else None
        return None if reading is None else reading.value


def step_towards(value: float, wanted: float, knob: Knob) -> float | None:
    """Return the value nearest to `wanted` within one step and the bounds; None = no such value.

    >>> from trimtab.engine.types import KnobType
    >>> step_towards(100.0, 400.0, Knob("size", KnobType.INT, low=1, high=1000))
    125.0
    """
    if knob.low is None or knob.high is None:
        return None
    step = knob.step if knob.step is not None else 0.25 * abs(value)
    reached = min(max(wanted, value - step, knob.low), value + step, knob.high)
    grain = knob.grain or (1.0 if knob.type == "int" else 0.0)
    if grain:
        reached = (math.floor if wanted > value else math.ceil)(reached / grain) * grain
    return None if reached == value else float(reached)


def matching_targets(match: PatternMatch, remedy: str, facts: Sequence[TargetFacts]) -> list[TargetFacts]:
    """Return the targets of the remedy's kind that the pattern is about.

    A target matches if the entity contains its name or one of its label values, or if one of its series shows
    the pattern. The only target of a kind also matches if the entity contains the kind or the tool.

    >>> cache = TargetFacts("redis", "redis", "cache-1", labels={"instance": "10.0.0.7:9121"})
    >>> match = PatternMatch("cache_thrash", "redis/10.0.0.7:9121", 0.9, 0, ())
    >>> [f.target for f in matching_targets(match, "redis.maxmemory", [cache])]
    ['cache-1']
    """
    kind = remedy.partition(".")[0]
    candidates = [f for f in facts if f.kind == kind]
    words = set(_WORDS.findall(match.entity))
    named = [f for f in candidates if words & {f.target, *f.labels.values()}]
    if named:
        return named
    shown = [f for f in candidates if set(f.series_ids.values()) & set(match.series_ids)]
    if shown:
        return shown
    alone = len(candidates) == 1 and any(kind in word or candidates[0].tool in word for word in words)
    return candidates if alone else []
