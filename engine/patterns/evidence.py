"""Evidence for a pattern, weighted to a confidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.engine.patterns.metric_window import MetricWindow

MIN_STRENGTH = 0.5
"""Required evidence must have at least this strength."""
MIN_CONFIDENCE = 0.6
"""A pattern is reported from this confidence on."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence for a pattern.

    strength : how clearly it shows, 0..1; NaN = unknown
    text     : a sentence with its numbers
    required : without it the pattern does not match
    """

    weight: float
    strength: float
    text: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class PatternFinding:
    """A pattern found: confidence 0..1, sentences of evidence, and ids of the series involved."""

    confidence: float
    evidence: tuple[str, ...]
    series_ids: tuple[str, ...]


def weigh_evidence(evidence: Sequence[Evidence], *windows: MetricWindow | None) -> PatternFinding | None:
    """Return the finding; None where required evidence is unknown or weak, or the confidence is too low.

    The confidence is the weighted mean of all strengths; unknown evidence counts as 0.

    >>> full = Evidence(3, 1.0, "it is full", required=True)
    >>> weigh_evidence([full, Evidence(1, math.nan, "?")]).confidence
    0.75
    >>> weigh_evidence([full, Evidence(1, 0.2, "it is slow", required=True)]) is None
    True
    """
    if any(item.required and not item.strength >= MIN_STRENGTH for item in evidence):
        return None
    known = [item for item in evidence if not math.isnan(item.strength)]
    confidence = sum(s.weight * s.strength for s in known) / sum(s.weight for s in evidence)
    if confidence < MIN_CONFIDENCE:
        return None
    shown = sorted((s for s in known if s.strength >= MIN_STRENGTH), key=lambda s: -s.weight * s.strength)
    series = (series_id for window in windows if window is not None for series_id in window.series_ids)
    return PatternFinding(confidence, tuple(item.text for item in shown), tuple(dict.fromkeys(series)))
