"""How much an incident matters: breadth, size, persistence, and whether users feel it. Pure functions."""

import math
import re

from trimtab.engine.types import Severity

SURPRISE_SCALE = 20.0
"""Powers of ten of surprise that make a severity of 0.63 by themselves."""
MIN_EXPECTED = 0.003
"""Series of one thing share its load: even a few of them are never as unlikely as their number says."""
MEDIUM, HIGH, CRITICAL = 0.45, 0.6, 0.8
"""Where the words begin."""
MAX_PERSISTENCE_S = 1800.0
"""Lasting longer makes it no worse."""

_USER_FACING = re.compile(
    r"latency|response_time|request_duration|requests?_(?:\w+_)?(?:duration|seconds)|duration_seconds"
    r"|error|5xx|fail|exception|timeout|availab|success|apdex|(?:^|_)up$|(?:^|_)slo(?:_|$)|page_load"
)
_INTERNAL = re.compile(
    r"scrape|(?:^|_)gcs?(?:_|$)|disk|filesystem|^go_|^jvm_|^prometheus_|rule_|scrub|backup|replica"
    r"|network|^node_|^host_|compaction|vacuum|checkpoint|^trimtab_"
)


def is_user_facing(metric: str) -> bool:
    """Whether people outside notice when this metric is unusual: latency, errors, availability.

    >>> [felt_by_users(m) for m in ("http_request_duration_seconds:p99", "up", "go_gc_duration_seconds")]
    [True, True, False]
    """
    name = metric.lower().partition(":")[0]
    return _USER_FACING.search(name) is not None and _INTERNAL.search(name) is None


def score_weight(score: float) -> float:
    """What a series that is so unusual counts as: 1 at the alarm line, 2 from three times that on.

    >>> size_of(1.0), size_of(2.0), size_of(50.0)
    (1.0, 1.5, 2.0)
    """
    return 1.0 if math.isnan(score) else min(max(0.5 + 0.5 * score, 0.5), 2.0)


def surprise(weight: float, expected: float) -> float:
    """How unlikely so many series are by chance, in powers of ten (Chernoff's bound on a Poisson tail).

    weight   : series that moved, those that always move with another counted in part
    expected : series that move by chance in such a time

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
    """0..1; each part takes a share of what the others leave.

    surprise  : of its rarest burst, in powers of ten
    weight    : series that moved, those that always move with another counted in part
    share     : of the series of the entity that is hit most, 0..1
    lasting_s : from its start until now or its end
    worst     : largest anomaly_score

    A single series is LOW; users feeling it strongly, for some minutes, make it MEDIUM.

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
    found = 1.0 - math.prod(1.0 - part for part in parts)
    if several:
        return found
    felt = user_facing and worst >= 2.0 and lasting_s >= 180.0
    return min(found, HIGH - 0.01 if felt else MEDIUM - 0.01)


def level_of(severity: float) -> Severity:
    """The word for it.

    >>> level_of(0.1), level_of(0.8)
    (<Severity.LOW: 'low'>, <Severity.CRITICAL: 'critical'>)
    """
    for line, level in ((CRITICAL, Severity.CRITICAL), (HIGH, Severity.HIGH), (MEDIUM, Severity.MEDIUM)):
        if severity >= line:
            return level
    return Severity.LOW
