"""Anomalies of single series, and the feedback of operators on them."""

from dataclasses import dataclass, field
from enum import StrEnum


class Direction(StrEnum):
    """Side of the expected band on which the value lies."""

    ABOVE = "above"
    BELOW = "below"
    ABSENT = "absent"


PATTERN_DETECTOR_PREFIX = "pattern:"
"""Prefix of a detector name that stands for a pattern."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A period in which one series deviated from its expected behaviour.

    start, end : int64 ns UTC; end is None while it is open
    score      : peak anomaly_score; above 1 = rarer than the false-alarm budget allows
    value, lower, upper, expected : at `peak_time`, in the series' unit; NaN = unknown
    detectors  : contributing detectors, strongest first; "pattern:memory_leak" = the leading series of a
                 recognised pattern, not unusual by itself
    reason     : why it ended: "recovered", "level shift accepted", "returned" or ""
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
        """Name of the pattern that opened it; "" = its series is unusual by itself."""
        first = self.detectors[0] if self.detectors else ""
        return (
            first.removeprefix(PATTERN_DETECTOR_PREFIX) if first.startswith(PATTERN_DETECTOR_PREFIX) else ""
        )


class Verdict(StrEnum):
    """Judgement of an operator on an anomaly."""

    RIGHT = "right"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Feedback:
    """Feedback of an operator on an anomaly; `time` is int64 ns UTC."""

    anomaly_id: str
    verdict: Verdict
    note: str
    author: str
    time: int
