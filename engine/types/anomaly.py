"""Anomalies of one series each, and what people say of them."""

from dataclasses import dataclass, field
from enum import StrEnum


class Direction(StrEnum):
    """Where the value lies against its expected band."""

    ABOVE = "above"
    BELOW = "below"
    ABSENT = "absent"


PATTERN_DETECTOR_PREFIX = "pattern:"
"""Begins the name of a detector that is a pattern."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A stretch of time in which one series behaved unlike itself.

    start, end : int64 ns; end is None while it is open
    score      : peak anomaly_score, above 1 = rarer than the false-alarm budget
    value, lower, upper, expected : at the peak; NaN = unknown
    detectors  : contributing detectors, strongest first; "pattern:memory_leak" = not this series alone is
                 unusual, but it leads those by which a pattern was recognised
    reason     : why it ended: "recovered", "level shift accepted", "returned", ""
    """

    id: str
    series_id: str
    series: str
    source: str
    start: int
    end: int | None
    peak_time: int
    score: float
    direction: Direction
    value: float
    expected: float
    lower: float
    upper: float
    detectors: tuple[str, ...] = ()
    reason: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def pattern(self) -> str:
        """The pattern that began it, "" = its series is unusual by itself."""
        first = self.detectors[0] if self.detectors else ""
        return (
            first.removeprefix(PATTERN_DETECTOR_PREFIX) if first.startswith(PATTERN_DETECTOR_PREFIX) else ""
        )


class Verdict(StrEnum):
    """What a person says of an anomaly."""

    RIGHT = "right"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Feedback:
    """A person's word on an anomaly."""

    anomaly_id: str
    verdict: Verdict
    note: str
    author: str
    time: int
