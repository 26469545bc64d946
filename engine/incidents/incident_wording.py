"""Incidents in the words of people: titles, and what is said of one series."""

import math
import re
from collections.abc import Sequence

from trimtab.engine.incidents.incident_draft import IncidentDraft, DraftMember
from trimtab.engine.types import Direction, Suspect, iso

FAR_SCORE = 2.0
"""An anomaly_score from which "far" is said."""
MAX_METRICS = 3
_PREFIX = re.compile(
    r"^(?:redis|pg|postgres|node|host|process|python|nodejs|jvm|nginx|container|kube|pm2|http|trimtab)_(?=\w)"
)
_SUFFIX = re.compile(r"_(?:total|count|seconds|bytes|info|sum|per_second)(?=$|:)|:(?:rate|sum|mean)$")


def readable_metric(metric: str) -> str:
    """A metric's name as a person would say it.

    >>> [spoken(m) for m in ("redis_evicted_keys_total", "http_request_duration_seconds:p99", "host_load1")]
    ['evicted keys', 'request duration p99', 'load1']
    """
    name = _PREFIX.sub("", metric)
    while (shorter := _SUFFIX.sub("", name)) != name and shorter:
        name = shorter
    return name.replace("_", " ").replace(":", " ").strip() or metric


def short_entity(entity: str) -> str:
    """An entity by its last part, without a port.

    >>> short("redis/cache-1:9121"), short("host"), short("shop/web-7")
    ('cache-1', 'host', 'web-7')
    """
    last = entity.rpartition("/")[2]
    return last.rpartition(":")[0] if last.count(":") == 1 and last.rpartition(":")[2].isdigit() else last


def describe_deviation(member: DraftMember) -> str:
    """How far a series is from usual: "evicted keys far above usual", "hit ratio down", "up missing"."""
    if member.pattern:
        return readable_pattern(member.pattern)
    name, far = readable_metric(member.metric), "far " if member.score >= FAR_SCORE else ""
    if member.direction is Direction.ABSENT:
        return f"{name} missing"
    if re.search(r"ratio|percent|availab|success", member.metric):
        return f"{name} {far}{'up' if member.direction is Direction.ABOVE else 'down'}".replace("  ", " ")
    return f"{name} {far}{member.direction} usual"


def readable_pattern(name: str) -> str:
    """A pattern as a person would say it.

    >>> pattern_words("memory_leak")
    'memory leak'
    """
    return name.replace("_", " ")


def describe_band(member: DraftMember) -> str:
    """Its value against its expected band, "" where that is not known."""
    if member.direction is Direction.ABSENT:
        return "it is missing"
    if math.isnan(member.value):
        return ""
    value = f"it reached {format_number(member.value)}"
    if math.isnan(member.lower) or math.isnan(member.upper):
        return value
    return f"{value} where {format_number(member.lower)} to {format_number(member.upper)} is usual"


def format_number(value: float) -> str:
    """A number with three digits.

    >>> figure(0.12345), figure(1234567.0), figure(0.0)
    ('0.123', '1.23M', '0')
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:.3g}"


def format_seconds(seconds: float, unit: str) -> str:
    """Seconds, or minutes where they are many.

    >>> quantity(5.0, "s"), quantity(300.0, "s")
    ('5 s', '5 min')
    """
    return f"{seconds:.3g} {unit}" if seconds < 120.0 else f"{seconds / 60.0:.0f} min"


def format_count(n: int, one: str, many: str) -> str:
    """A number of things.

    >>> count(1, "entity", "entities"), count(1200, "entity", "entities")
    ('1 entity', '1,200 entities')
    """
    return f"{n:,} {one if n == 1 else many}"


def incident_title(case: IncidentDraft, suspects: Sequence[Suspect]) -> str:
    """As "cache-1: evictions far above usual, hit ratio down, 4 series, since 10:42 UTC"."""
    since = f"since {iso(case.start)[11:16]} UTC"
    size = f"{len(case.seen):,} series"
    if case.mass:
        where = format_count(len(case.series), "entity", "entities")
        return f"{case.mass_share:.0%} of all series at once: {size} of {where}, {since}"
    entities = case.entities()
    lead = suspects[0].entity if suspects else entities[0]
    others = len(entities) - 1
    name = short_entity(lead) + (f" and {format_count(others, 'other', 'others')}" if others else "")
    chosen = _title_members(case, suspects)
    parts = [describe_deviation(member) for member in chosen[:MAX_METRICS]]
    if len(case.seen) > len(parts):
        parts.append(size)
    return f"{name}: {', '.join(parts)}, {since}"


def _title_members(case: IncidentDraft, suspects: Sequence[Suspect]) -> list[DraftMember]:
    """One member a metric: those of the suspects first."""
    rank = {suspect.series_id: place for place, suspect in enumerate(suspects)}
    by_metric: dict[str, DraftMember] = {}
    for member in sorted(case.members.values(), key=lambda m: (rank.get(m.series_id, 99), m.start, m.id)):
        by_metric.setdefault(readable_metric(member.metric), member)
    return list(by_metric.values())
