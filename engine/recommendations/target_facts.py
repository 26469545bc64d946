"""What is known of a target when advice is given."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from trimtab.engine.types import Knob, KnobReading, Mode, ToolAction, Value


@dataclass(frozen=True, slots=True)
class Facts:
    """One target of one tool, as it was read last.

    kind     : of the tool, as in the catalogue of tools
    metrics  : figures by name, in base units; what is not known is not there
    knobs    : by name; reading None = it could not be read
    modes    : by subject; "*" = all others
    labels   : by which series of the target are known, as {"instance": "10.0.0.7:9121"}
    series   : metric name -> id of the series of ours that shows it
    at_start : figures as they were soon after an earlier start of it
    """

    tool: str
    kind: str
    target: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    knobs: Mapping[str, tuple[Knob, KnobReading | None]] = field(default_factory=dict)
    actions: Mapping[str, ToolAction] = field(default_factory=dict)
    modes: Mapping[str, Mode] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)
    at_start: Mapping[str, float] = field(default_factory=dict)
    writable: bool = True
    """False = the tool is export only: what is recommended is for people to do."""

    def mode(self, subject: str) -> Mode:
        """How far the engine may go with a knob or an action of it."""
        return self.modes.get(subject, self.modes.get("*", Mode.RECOMMEND))

    def figure(self, name: str) -> float | None:
        """A metric; None = not known."""
        value = self.metrics.get(name)
        return None if value is None or not math.isfinite(value) else value

    def number(self, knob: str) -> float | None:
        """A knob's value as a number; None where it is not one, or not known."""
        value = self.value(knob)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def value(self, knob: str) -> Value:
        """A knob's value; None = not set, or not known."""
        reading = self.knobs[knob][1] if knob in self.knobs else None
        return None if reading is None else reading.value


def stepped(value: float, wanted: float, knob: Knob) -> float | None:
    """The nearest value to `wanted` that one step and the bounds allow; None where there is none.

    >>> from trimtab.engine.types import KnobType
    >>> stepped(100.0, 400.0, Knob("size", KnobType.INT, low=1, high=1000))
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
