"""Incidents in plain words: titles, and how far one series is from normal."""

import math
import re
from collections.abc import Sequence

from trimtab.engine.incidents.incident_draft import DraftMember, IncidentDraft
from trimtab.engine.types import Direction, Suspect, iso

FAR_SCORE = 2.0
"""anomaly_score from which a series is called far from normal."""
MAX_METRICS = 3
_PREFIX = re.compile(
    r"^(?:redis|pg|postgres|node|host|process|python|nodejs|jvm|nginx|container|kube|pm2|http|trimtab)_(?=\w)"
)
_SUFFIX = re.compile(r"_(?:total|count|seconds|bytes|info|sum|per_second)(?=$|:)|:(?:rate|sum|mean)$")


def readable_metric(metric: str) -> str:
    """Return a metric's name without prefixes, suffixes and underscores.

    >>> metrics = ("redis_evicted_keys_total", "http_request_duration_seconds:p99", "host_load1")
    >>> [readable_metric(m) for m in metrics]
    ['evicted keys', 'request duration p99', 'load1']
    """
    name = _PREFIX.sub("", metric)
    while (shorter := _SUFFIX.sub("", name)) != name and shorter:
        name = shorter
    return name.replace("_", " ").replace(":", " ").strip() or metric


def short_entity(entity: str) -> str:
    """Return the last part of an entity, without a port.

    >>> short_entity("redis/cache-1:9121"), short_entity("host"), short_entity("shop/web-7")
    ('cache-1', 'host', 'web-7')
    """
    last = entity.rpartition("/")[2]
    return last.rpartition(":")[0] if last.count(":") == 1 and last.rpartition(":")[2].isdigit() else last


def describe_deviation(member: DraftMember) -> str:
    """Describe how far a series is from normal: "evicted keys far above normal", "hit ratio down"."""
    if member.pattern:
        return readable_pattern(member.pattern)
    name, far = readable_metric(member.metric), "far " if member.score >= FAR_SCORE else ""
    if member.direction is Direction.ABSENT:
        return f"{name} missing"
    if re.search(r"ratio|percent|availab|success", member.metric):
        return f"{name} {far}{'up' if member.direction is Direction.ABOVE else 'down'}".replace("  ", " ")
    return f"{name} {far}{member.direction} normal"


def readable_pattern(name: str) -> str:
    """Return a pattern's name without underscores.

    >>> readable_pattern("memory_leak")
    'memory leak'
    """
    return name.replace("_", " ")


def describe_band(member: DraftMember) -> str:
    """Compare a value with its expected band; "" where the value is unknown."""
    if member.direction is Direction.ABSENT:
        return "it has no samples"
    if math.isnan(member.value):
        return ""
    reached = f"it reached {format_number(member.value)}"
    if math.isnan(member.lower) or math.isnan(member.upper):
        return reached
    return f"{reached}; normal is {format_number(member.lower)} to {format_number(member.upper)}"


def format_number(value: float) -> str:
    """Format a number with three digits.

    >>> format_number(0.12345), format_number(1234567.0), format_number(0.0)
    ('0.123', '1.23M', '0')
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:.3g}"


def format_seconds(seconds: float) -> str:
    """Format a duration in seconds, or in minutes from two minutes on.

    >>> format_seconds(5.0), format_seconds(300.0)
    ('5 s', '5 min')
    """
    return f"{seconds:.3g} s" if seconds < 120.0 else f"{seconds / 60.0:.0f} min"


def format_count(n: int, singular: str, plural: str) -> str:
    """Format a number of things.

    >>> format_count(1, "entity", "entities"), format_count(1200, "entity", "entities")
    ('1 entity', '1,200 entities')
    """
    return f"{n:,} {singular if n == 1 else plural}"


def incident_title(draft: IncidentDraft, suspects: Sequence[Suspect]) -> str:
    """Return a title such as "cache-1: evictions far above normal, 4 series, since 10:42 UTC"."""
    since = f"since {iso(draft.start)[11:16]} UTC"
    size = f"{len(draft.seen):,} series"
    if draft.mass:
        where = format_count(len(draft.series), "entity", "entities")
        return f"{draft.mass_share:.0%} of all series at once: {size} of {where}, {since}"
    entities = draft.entities()
    first_entity = suspects[0].entity if suspects else entities[0]
    others = len(entities) - 1
    name = short_entity(first_entity) + (f" and {format_count(others, 'other', 'others')}" if others else "")
    chosen = _title_members(draft, suspects)
    parts = [describe_deviation(member) for member in chosen[:MAX_METRICS]]
    if len(draft.seen) > len(parts):
        parts.append(size)
    return f"{name}: {', '.join(parts)}, {since}"


def _title_members(draft: IncidentDraft, suspects: Sequence[Suspect]) -> list[DraftMember]:
    """Return one member per metric, those of the suspects first."""
    rank = {suspect.series_id: position for position, suspect in enumerate(suspects)}
    by_metric: dict[str, DraftMember] = {}
    for member in sorted(draft.members.values(), key=lambda m: (rank.get(m.series_id, 99), m.start, m.id)):
        by_metric.setdefault(readable_metric(member.metric), member)
    return list(by_metric.values())
