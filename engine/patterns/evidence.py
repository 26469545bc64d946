"""Signs of a pattern, weighed to a confidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.engine.patterns.metric_window import MetricWindow

MIN_STRENGTH = 0.5
"""A needed sign shows from here on."""
MIN_CONFIDENCE = 0.6
"""A pattern is told from this confidence on."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that speaks for a pattern.

    strength : how clearly it shows, 0..1; NaN = not known
    words    : a sentence with its figures
    needed   : without it there is no pattern
    """

    weight: float
    strength: float
    text: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class PatternFinding:
    """A pattern that is there: how sure, why, and by which series."""

    confidence: float
    evidence: tuple[str, ...]
    series_ids: tuple[str, ...]


def weigh_evidence(signs: Sequence[Evidence], *courses: MetricWindow | None) -> PatternFinding | None:
    """The verdict of signs; None where one that is needed is unknown or does not show, or all is too weak.

    The confidence is the weighted mean of all strengths, an unknown one counting as nothing.

    >>> weigh([Sign(3, 1.0, "it is full", needed=True), Sign(1, math.nan, "?")]).confidence
    0.75
    >>> weigh([Sign(3, 1.0, "it is full"), Sign(1, 0.2, "it is slow", needed=True)]) is None
    True
    """
    if any(sign.required and not sign.strength >= MIN_STRENGTH for sign in signs):
        return None
    known = [sign for sign in signs if not math.isnan(sign.strength)]
    confidence = sum(s.weight * s.strength for s in known) / sum(s.weight for s in signs)
    if confidence < MIN_CONFIDENCE:
        return None
    shown = sorted((s for s in known if s.strength >= MIN_STRENGTH), key=lambda s: -s.weight * s.strength)
    series = (series_id for course in courses if course is not None for series_id in course.series_ids)
    return PatternFinding(confidence, tuple(sign.text for sign in shown), tuple(dict.fromkeys(series)))
