"""Confidence of a forecast by the length of the history."""

from dataclasses import dataclass
from typing import Literal

HALF_HOUR_S, DAY_S = 1800.0, 86_400.0
ConfidenceGrade = Literal["none", "low", "fair", "good"]
_GRADES: tuple[tuple[float, ConfidenceGrade, str], ...] = (
    (14 * DAY_S, "good", "all methods, with weekly seasons"),
    (7 * DAY_S, "good", "all methods"),
    (3 * DAY_S, "fair", "daily seasons are known, weekly ones are not"),
    (DAY_S, "low", "the last day repeated"),
    (HALF_HOUR_S, "low", "the last value, and the first day of other series"),
    (0.0, "none", "at least half an hour is needed"),
)


@dataclass(frozen=True, slots=True)
class Confidence:
    """Confidence grade and its reason.

    word : none, low, fair or good
    why  : explanation for a person
    """

    word: ConfidenceGrade
    why: str


def confidence(history_s: float) -> Confidence:
    """Return the confidence of a forecast after this many seconds of history.

    >>> confidence(3 * 3600).why
    '3 h of history: the last value, and the first day of other series'
    """
    word, why = next((word, why) for min_s, word, why in _GRADES if history_s >= min_s or not min_s)
    return Confidence(word, f"{_format_duration(history_s)} of history: {why}")


def _format_duration(seconds: float) -> str:
    for unit, name in ((DAY_S, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
