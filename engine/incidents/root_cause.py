"""Who it began with: ranked by who moved first, how far, and who is upstream of whom."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from trimtab.engine.incidents.incident_draft import DraftMember
from trimtab.engine.incidents.incident_wording import (
    describe_band,
    readable_pattern,
    format_seconds,
    readable_metric,
)
from trimtab.engine.incidents.memory.co_movement import CoMovement
from trimtab.engine.incidents.severity import is_user_facing, score_weight
from trimtab.engine.types import Direction, Suspect

MIN_DECAY_S = 5.0
"""So much later (or an interval, where that is longer) a series is suspected 2.7 times less; an entity in
twice that time."""
ONSET_RATIO, ONSET_SPAN_S = 0.25, 20.0
"""It began when this share of what moved did so within so long: a healthy series may have moved before."""
EARLY_S = 60.0
"""What moved longer before the onset than this has less and less to do with it."""
MAX_MEMBERS = 200
"""Anomalies that are looked at: the first ones."""
MAX_SUSPECTS = 5
UPSTREAM_FACTOR = 2.5
"""How much more an entity is suspected whom others of the incident call."""
SMALL_ENTITY_RATIO = 0.3
"""An entity with less than this share of what the most hit one has is suspected the less for it."""
SYMPTOM_FACTOR = 0.7
"""What users feel is more often a consequence."""


def rank_suspects(
    members: Iterable[DraftMember], entities: CoMovement, metrics: CoMovement, interval_s: float = 15.0
) -> tuple[Suspect, ...]:
    """At most five, most suspected first; their weights sum to at most 1."""
    first = sorted(members, key=lambda m: (m.start, -_score_or_zero(m.score), m.id))[:MAX_MEMBERS]
    by_entity: dict[str, list[DraftMember]] = defaultdict(list)
    for member in first:
        by_entity[member.entity].append(member)
    soon_s = max(interval_s, MIN_DECAY_S)
    called = _callers_by_entity(first)
    blame = {name: _entity_weight(name, by_entity, called, entities, 2.0 * soon_s) for name in by_entity}
    weights = [blame[m.entity] * _series_weight(m, by_entity[m.entity], metrics, soon_s) for m in first]
    total = sum(weights) or 1.0
    ranked = sorted(zip(weights, first, strict=True), key=lambda pair: (-pair[0], pair[1].start, pair[1].id))
    return tuple(
        Suspect(
            series_id=m.series_id, series=m.series, entity=m.entity, weight=round(weight / total, 4),
            moved=m.start, size=m.score, why=_reason(m, first, called),
        )
        for weight, m in _first_per_series(ranked)[:MAX_SUSPECTS]
    )  # fmt: skip


def onset(members: Sequence[DraftMember]) -> int:
    """When it began in earnest, int64 ns; members by start.

    The first moment after which `ONSET` of what moved did so within `SPAN_S`; without one, the first of all.
    """
    needed = ONSET_RATIO * sum(member.weight for member in members)
    last, within = 0, 0.0
    for member in members:
        while last < len(members) and members[last].start <= member.start + ONSET_SPAN_S * 1e9:
            within += members[last].weight
            last += 1
        if within >= needed:
            return member.start
        within -= member.weight
    return members[0].start


def _timeliness(late_s: float, soon_s: float) -> float:
    """1 at the onset; less the later, and less long before it."""
    return math.exp(-max(late_s, 0.0) / soon_s - max(-late_s - EARLY_S, 0.0) / (2.0 * EARLY_S))


def _first_per_series(ranked: Sequence[tuple[float, DraftMember]]) -> list[tuple[float, DraftMember]]:
    seen: dict[str, tuple[float, DraftMember]] = {}
    for weight, member in ranked:
        seen.setdefault(member.series_id, (weight, member))
    return list(seen.values())


def _callers_by_entity(members: Sequence[DraftMember]) -> dict[str, set[str]]:
    """Entity -> those of the incident that tell of it as their callee."""
    entities = {member.entity for member in members}
    found: dict[str, set[str]] = defaultdict(set)
    for member in members:
        if not member.calls:
            continue
        for entity in entities - {member.entity}:
            if member.calls.lower() in entity.lower().split("/"):
                found[entity].add(member.entity)
    return found


def _entity_weight(
    name: str,
    by_entity: dict[str, list[DraftMember]],
    called: dict[str, set[str]],
    memory: CoMovement,
    soon_s: float,
) -> float:
    """Of an entity: how early and how much of it moved, and who it is to the others."""
    heaviest = max(sum(m.weight for m in members) for members in by_entity.values())
    members = by_entity[name]
    late_s = (onset(members) - onset(_by_start(by_entity))) / 1e9
    blame = _timeliness(late_s, soon_s) * min(
        sum(m.weight for m in members) / (SMALL_ENTITY_RATIO * heaviest), 1.0
    )
    if called.get(name):
        blame *= UPSTREAM_FACTOR
    if any(name in callers for callers in called.values()):
        blame /= UPSTREAM_FACTOR
    for other in list(by_entity)[:8]:
        if other != name:
            blame *= 2.0 * memory.first_ratio(name, other)
    return blame


def _by_start(by_entity: dict[str, list[DraftMember]]) -> list[DraftMember]:
    return sorted((m for members in by_entity.values() for m in members), key=lambda m: m.start)


def _series_weight(
    member: DraftMember, beside: Sequence[DraftMember], memory: CoMovement, soon_s: float
) -> float:
    weight = _timeliness((member.start - onset(beside)) / 1e9, soon_s) * score_weight(member.score)
    if is_user_facing(member.metric) or member.direction is Direction.ABSENT:
        weight *= SYMPTOM_FACTOR
    for other in beside[:8]:
        if other.metric != member.metric:
            weight *= 0.5 + memory.first_ratio(member.metric, other.metric)
    return weight


def _reason(member: DraftMember, members: Sequence[DraftMember], called: dict[str, set[str]]) -> str:
    """One sentence."""
    later = [m.start for m in members if m.start > member.start]
    earlier = [m.start for m in members if m.start < member.start]
    if not earlier:
        ahead = f", {format_seconds((min(later) - member.start) / 1e9, 's')} before the next" if later else ""
        began = f"was the first to move{ahead}" if len(members) > 1 else "is the only one that moved"
    else:
        began = f"moved {format_seconds((member.start - min(earlier)) / 1e9, 's')} after the first"
    if member.pattern:
        began = f"looks like {readable_pattern(member.pattern)}"
    parts = [f"{readable_metric(member.metric)} of {member.entity} {began}", describe_band(member)]
    callers = sorted(called.get(member.entity, ()))
    if callers:
        parts.append(f"{', '.join(callers[:3])} {'call' if len(callers) > 1 else 'calls'} it")
    sentence = "; ".join(part for part in parts if part) + "."
    return sentence[0].upper() + sentence[1:]


def _score_or_zero(score: float) -> float:
    return 0.0 if math.isnan(score) else score
