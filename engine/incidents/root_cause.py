"""Ranks the root causes of an incident: which series moved first, how far, and which entity is upstream."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from trimtab.engine.incidents.incident_draft import DraftMember
from trimtab.engine.incidents.incident_wording import (
    describe_band,
    format_seconds,
    readable_metric,
    readable_pattern,
)
from trimtab.engine.incidents.memory.co_movement import CoMovement
from trimtab.engine.incidents.severity import is_user_facing, score_weight
from trimtab.engine.types import Direction, Suspect

MIN_DECAY_S = 5.0
"""A series this much later (or an interval later, if longer) is weighted by 1/e; an entity, after twice that
time.
"""
ONSET_RATIO, ONSET_SPAN_S = 0.25, 20.0
"""The onset is the first moment after which this ratio of the weight moved within `ONSET_SPAN_S` seconds; a
healthy
series may have moved before.
"""
EARLY_S = 60.0
"""A series that moved longer before the onset than this gets less weight."""
MAX_MEMBERS = 200
"""Anomalies considered, the earliest first."""
MAX_SUSPECTS = 5
UPSTREAM_FACTOR = 2.5
"""Weight factor of an entity that other entities of the incident call."""
SMALL_ENTITY_RATIO = 0.3
"""An entity with less than this ratio of the largest entity's weight is suspected less."""
SYMPTOM_FACTOR = 0.7
"""Weight factor of user-facing metrics, which are more often a consequence."""


def rank_suspects(
    members: Iterable[DraftMember], entities: CoMovement, metrics: CoMovement, interval_s: float = 15.0
) -> tuple[Suspect, ...]:
    """Return at most five suspects, the most suspected first; their weights sum to at most 1."""
    first = sorted(members, key=lambda m: (m.start, -_score_or_zero(m.score), m.id))[:MAX_MEMBERS]
    by_entity: dict[str, list[DraftMember]] = defaultdict(list)
    for member in first:
        by_entity[member.entity].append(member)
    decay_s = max(interval_s, MIN_DECAY_S)
    callers = _callers_by_entity(first)
    entity_weights = {
        name: _entity_weight(name, by_entity, callers, entities, 2.0 * decay_s) for name in by_entity
    }
    weights = [
        entity_weights[m.entity] * _series_weight(m, by_entity[m.entity], metrics, decay_s) for m in first
    ]
    total = sum(weights) or 1.0
    ranked = sorted(zip(weights, first, strict=True), key=lambda pair: (-pair[0], pair[1].start, pair[1].id))
    return tuple(
        Suspect(
            series_id=m.series_id, series=m.series, entity=m.entity, weight=round(weight / total, 4),
            moved=m.start, size=m.score, why=_reason(m, first, callers),
        )
        for weight, m in _first_per_series(ranked)[:MAX_SUSPECTS]
    )  # fmt: skip


def onset(members: Sequence[DraftMember]) -> int:
    """Return the onset of the incident, int64 ns; members must be sorted by start.

    It is the first moment after which `ONSET_RATIO` of the weight moved within `ONSET_SPAN_S`, else the first
    start.
    """
    needed = ONSET_RATIO * sum(member.weight for member in members)
    end, weight = 0, 0.0
    for member in members:
        while end < len(members) and members[end].start <= member.start + ONSET_SPAN_S * 1e9:
            weight += members[end].weight
            end += 1
        if weight >= needed:
            return member.start
        weight -= member.weight
    return members[0].start


def _timeliness(late_s: float, decay_s: float) -> float:
    """Return 1 at the onset, less the later, and less when long before it."""
    return math.exp(-max(late_s, 0.0) / decay_s - max(-late_s - EARLY_S, 0.0) / (2.0 * EARLY_S))


def _first_per_series(ranked: Sequence[tuple[float, DraftMember]]) -> list[tuple[float, DraftMember]]:
    first: dict[str, tuple[float, DraftMember]] = {}
    for weight, member in ranked:
        first.setdefault(member.series_id, (weight, member))
    return list(first.values())


def _callers_by_entity(members: Sequence[DraftMember]) -> dict[str, set[str]]:
    """Return entity -> entities of the incident that name it as their callee."""
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
    callers: dict[str, set[str]],
    history: CoMovement,
    decay_s: float,
) -> float:
    """Weight of an entity: how early and how much of it moved, and whether it is upstream of the others."""
    heaviest = max(sum(m.weight for m in members) for members in by_entity.values())
    members = by_entity[name]
    late_s = (onset(members) - onset(_by_start(by_entity))) / 1e9
    weight = _timeliness(late_s, decay_s) * min(
        sum(m.weight for m in members) / (SMALL_ENTITY_RATIO * heaviest), 1.0
    )
    if callers.get(name):
        weight *= UPSTREAM_FACTOR
    if any(name in callers for callers in callers.values()):
        weight /= UPSTREAM_FACTOR
    for other in list(by_entity)[:8]:
        if other != name:
            weight *= 2.0 * history.first_ratio(name, other)
    return weight


def _by_start(by_entity: dict[str, list[DraftMember]]) -> list[DraftMember]:
    return sorted((m for members in by_entity.values() for m in members), key=lambda m: m.start)


def _series_weight(
    member: DraftMember, entity_members: Sequence[DraftMember], history: CoMovement, decay_s: float
) -> float:
    weight = _timeliness((member.start - onset(entity_members)) / 1e9, decay_s) * score_weight(member.score)
    if is_user_facing(member.metric) or member.direction is Direction.ABSENT:
        weight *= SYMPTOM_FACTOR
    for other in entity_members[:8]:
        if other.metric != member.metric:
            weight *= 0.5 + history.first_ratio(member.metric, other.metric)
    return weight


def _reason(
    member: DraftMember, members: Sequence[DraftMember], callers_by_entity: dict[str, set[str]]
) -> str:
    """Return the reason as one sentence."""
    later = [m.start for m in members if m.start > member.start]
    earlier = [m.start for m in members if m.start < member.start]
    if not earlier:
        lead = f", {format_seconds((min(later) - member.start) / 1e9)} before the next" if later else ""
        onset_text = f"moved first{lead}" if len(members) > 1 else "is the only series that moved"
    else:
        onset_text = f"moved {format_seconds((member.start - min(earlier)) / 1e9)} after the first"
    if member.pattern:
        onset_text = f"looks like {readable_pattern(member.pattern)}"
    parts = [f"{readable_metric(member.metric)} of {member.entity} {onset_text}", describe_band(member)]
    callers = sorted(callers_by_entity.get(member.entity, ()))
    if callers:
        parts.append(f"{', '.join(callers[:3])} {'call' if len(callers) > 1 else 'calls'} it")
    sentence = "; ".join(part for part in parts if part) + "."
    return sentence[0].upper() + sentence[1:]


def _score_or_zero(score: float) -> float:
    return 0.0 if math.isnan(score) else score
