"""Who it began with: ranked by who moved first, how far, and who is upstream of whom."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from trimtab.engine.incidents.incident_draft import Member
from trimtab.engine.incidents.incident_wording import against_band, pattern_words, quantity, spoken
from trimtab.engine.incidents.memory.co_movement import CoMovement
from trimtab.engine.incidents.severity import felt_by_users, size_of
from trimtab.engine.types import Direction, Suspect

LEAST_SOON_S = 5.0
"""So much later (or an interval, where that is longer) a series is suspected 2.7 times less; an entity in
twice that time."""
ONSET, SPAN_S = 0.25, 20.0
"""It began when this share of what moved did so within so long: a healthy series may have moved before."""
EARLY_S = 60.0
"""What moved longer before the onset than this has less and less to do with it."""
MOST_MEMBERS = 200
"""Anomalies that are looked at: the first ones."""
MOST_SUSPECTS = 5
UPSTREAM = 2.5
"""How much more an entity is suspected whom others of the incident call."""
SMALL = 0.3
"""An entity with less than this share of what the most hit one has is suspected the less for it."""
SYMPTOM = 0.7
"""What users feel is more often a consequence."""


def suspects(
    members: Iterable[Member], entities: CoMovement, metrics: CoMovement, interval_s: float = 15.0
) -> tuple[Suspect, ...]:
    """At most five, most suspected first; their weights sum to at most 1."""
    first = sorted(members, key=lambda m: (m.start, -_known(m.score), m.id))[:MOST_MEMBERS]
    by_entity: dict[str, list[Member]] = defaultdict(list)
    for member in first:
        by_entity[member.entity].append(member)
    soon_s = max(interval_s, LEAST_SOON_S)
    called = _called(first)
    blame = {name: _blame(name, by_entity, called, entities, 2.0 * soon_s) for name in by_entity}
    weights = [blame[m.entity] * _of_series(m, by_entity[m.entity], metrics, soon_s) for m in first]
    total = sum(weights) or 1.0
    ranked = sorted(zip(weights, first, strict=True), key=lambda pair: (-pair[0], pair[1].start, pair[1].id))
    return tuple(
        Suspect(
            series_id=m.series_id, series=m.series, entity=m.entity, weight=round(weight / total, 4),
            moved=m.start, size=m.score, why=_why(m, first, called),
        )
        for weight, m in _one_a_series(ranked)[:MOST_SUSPECTS]
    )  # fmt: skip


def onset(members: Sequence[Member]) -> int:
    """When it began in earnest, int64 ns; members by start.

    The first moment after which `ONSET` of what moved did so within `SPAN_S`; without one, the first of all.
    """
    needed = ONSET * sum(member.weight for member in members)
    last, within = 0, 0.0
    for member in members:
        while last < len(members) and members[last].start <= member.start + SPAN_S * 1e9:
            within += members[last].weight
            last += 1
        if within >= needed:
            return member.start
        within -= member.weight
    return members[0].start


def _timely(late_s: float, soon_s: float) -> float:
    """1 at the onset; less the later, and less long before it."""
    return math.exp(-max(late_s, 0.0) / soon_s - max(-late_s - EARLY_S, 0.0) / (2.0 * EARLY_S))


def _one_a_series(ranked: Sequence[tuple[float, Member]]) -> list[tuple[float, Member]]:
    seen: dict[str, tuple[float, Member]] = {}
    for weight, member in ranked:
        seen.setdefault(member.series_id, (weight, member))
    return list(seen.values())


def _called(members: Sequence[Member]) -> dict[str, set[str]]:
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


def _blame(
    name: str,
    by_entity: dict[str, list[Member]],
    called: dict[str, set[str]],
    memory: CoMovement,
    soon_s: float,
) -> float:
    """Of an entity: how early and how much of it moved, and who it is to the others."""
    heaviest = max(sum(m.weight for m in members) for members in by_entity.values())
    members = by_entity[name]
    late_s = (onset(members) - onset(_by_start(by_entity))) / 1e9
    blame = _timely(late_s, soon_s) * min(sum(m.weight for m in members) / (SMALL * heaviest), 1.0)
    if called.get(name):
        blame *= UPSTREAM
    if any(name in callers for callers in called.values()):
        blame /= UPSTREAM
    for other in list(by_entity)[:8]:
        if other != name:
            blame *= 2.0 * memory.first(name, other)
    return blame


def _by_start(by_entity: dict[str, list[Member]]) -> list[Member]:
    return sorted((m for members in by_entity.values() for m in members), key=lambda m: m.start)


def _of_series(member: Member, beside: Sequence[Member], memory: CoMovement, soon_s: float) -> float:
    weight = _timely((member.start - onset(beside)) / 1e9, soon_s) * size_of(member.score)
    if felt_by_users(member.metric) or member.direction is Direction.ABSENT:
        weight *= SYMPTOM
    for other in beside[:8]:
        if other.metric != member.metric:
            weight *= 0.5 + memory.first(member.metric, other.metric)
    return weight


def _why(member: Member, members: Sequence[Member], called: dict[str, set[str]]) -> str:
    """One sentence."""
    later = [m.start for m in members if m.start > member.start]
    earlier = [m.start for m in members if m.start < member.start]
    if not earlier:
        ahead = f", {quantity((min(later) - member.start) / 1e9, 's')} before the next" if later else ""
        began = f"was the first to move{ahead}" if len(members) > 1 else "is the only one that moved"
    else:
        began = f"moved {quantity((member.start - min(earlier)) / 1e9, 's')} after the first"
    if member.pattern:
        began = f"looks like {pattern_words(member.pattern)}"
    parts = [f"{spoken(member.metric)} of {member.entity} {began}", against_band(member)]
    callers = sorted(called.get(member.entity, ()))
    if callers:
        parts.append(f"{', '.join(callers[:3])} {'call' if len(callers) > 1 else 'calls'} it")
    sentence = "; ".join(part for part in parts if part) + "."
    return sentence[0].upper() + sentence[1:]


def _known(score: float) -> float:
    return 0.0 if math.isnan(score) else score
