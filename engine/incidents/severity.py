"""Severity of an incident: breadth, size, duration, and effect on users. Pure functions."""

import math
import re

from trimtab.engine.types import Severity

SURPRISE_SCALE = 20.0
"""Surprise (powers of ten) that alone gives a severity of 0.63."""
MIN_EXPECTED = 0.003
"""Minimum of expected anomalies: series of one entity share its load and are never as independent as their
number.
"""
MEDIUM, HIGH, CRITICAL = 0.45, 0.6, 0.8
"""Thresholds of the severity levels."""
MAX_PERSISTENCE_S = 1800.0
"""A longer duration does not increase the severity."""

_USER_FACING = re.compile(
    r"latency|response_time|request_duration|requests?_(?:\w+_)?(?:duration|seconds)|duration_seconds"
    r"|error|5xx|fail|exception|timeout|availab|success|apdex|(?:^|_)up$|(?:^|_)slo(?:_|$)|page_load"
)
_INTERNAL = re.compile(
    r"scrape|(?:^|_)gcs?(?:_|$)|disk|filesystem|^go_|^jvm_|^prometheus_|rule_|scrub|backup|replica"
    r"|network|^node_|^host_|compaction|vacuum|checkpoint|^trimtab_"
)


def is_user_facing(metric: str) -> bool:
    """Return whether users notice an anomaly of this metric: latency, errors, availability.

    >>> [is_user_facing(m) for m in ("http_request_duration_seconds:p99", "up", "go_gc_duration_seconds")]
    [True, True, False]
    """
    name = metric.lower().partition(":")[0]
    return _USER_FACING.search(name) is not None and _INTERNAL.search(name) is None


def score_weight(score: float) -> float:
    """Return the weight of a series with this anomaly_score: 1 at the threshold, 2 from three times it.

    >>> score_weight(1.0), score_weight(2.0), score_weight(50.0)
    (1.0, 1.5, 2.0)
    """
    return 1.0 if math.isnan(score) else min(max(0.5 + 0.5 * score, 0.5), 2.0)


def surprise(weight: float, expected: float) -> float:
    """Return how unlikely so many anomalies are by chance, in powers of ten.

    It is Chernoff's bound on the tail of a Poisson distribution.

    weight   : anomalous series, those that usually move with another counted in part
    expected : anomalous series expected by chance in that time

    >>> round(surprise(4.0, 0.004), 1), surprise(1.0, 2.0)
    (10.3, 0.0)
    """
    expected = max(expected, MIN_EXPECTED)
    if weight <= expected:
        return 0.0
    return (weight * math.log(weight / expected) - weight + expected) / math.log(10.0)


def severity_of(
    *,
    surprise: float,
    weight: float,
    share: float,
    entities: int,
    lasting_s: float,
    user_facing: bool,
    worst: float,
) -> float:
    """Return the severity, 0..1; each factor takes a part of what the others leave.

    surprise    : of its rarest burst, in powers of ten
    weight      : anomalous series, those that usually move with another counted in part
    share       : ratio of anomalous series of the most affected entity, 0..1
    lasting_s   : seconds from its start until its end or now
    user_facing : whether users notice it
    worst       : largest anomaly_score

    A single series is LOW; a strong user-facing one becomes MEDIUM after three minutes.

    >>> alone = dict(weight=1.0, share=0.02, entities=1, lasting_s=0.0, user_facing=False, worst=1.2)
    >>> round(severity_of(surprise=2.0, **alone), 2)
    0.1
    """
    several = weight >= 2.0
    persistence = min(max(lasting_s, 0.0) / MAX_PERSISTENCE_S, 1.0)
    parts = (
        1.0 - math.exp(-surprise / SURPRISE_SCALE),
        0.25 * share if several else 0.0,
        (0.2 if several else 0.1) * user_facing,
        0.15 * persistence,
        0.05 * min(math.log2(max(entities, 1)), 3.0),
    )
    severity = 1.0 - math.prod(1.0 - part for part in parts)
    if several:
        return severity
    users_affected = user_facing and worst >= 2.0 and lasting_s >= 180.0
    return min(severity, HIGH - 0.01 if users_affected else MEDIUM - 0.01)


def level_of(severity: float) -> Severity:
    """Return the severity level of a severity 0..1.

    >>> level_of(0.1), level_of(0.8)
    (<Severity.LOW: 'low'>, <Severity.CRITICAL: 'critical'>)
    """
    for threshold, level in ((CRITICAL, Severity.CRITICAL), (HIGH, Severity.HIGH), (MEDIUM, Severity.MEDIUM)):
        if severity >= threshold:
            return level
    return Severity.LOW
