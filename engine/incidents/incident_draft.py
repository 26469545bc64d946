"""A draft of an incident: its anomalies, their bursts, and operator actions on it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trimtab.engine.incidents.series_directory import SeriesLocation
from trimtab.engine.incidents.severity import score_weight, severity_of
from trimtab.engine.types import Anomaly, Direction, IncidentState, PatternMatch

BURST_GAP_NS = 600_000_000_000
"""After this long without another series the next one of a scope begins a new burst."""


@dataclass(slots=True)
class DraftMember:
    """An anomaly of a draft. Its fields are part of the stored state.

    new     : weight as evidence, 0..1: less where its metric usually moves with others in the draft
    calls   : callee that its series names, "" = none
    pattern : pattern that began it, "" = its series is anomalous
    """

    id: str
    series_id: str
    series: str
    metric: str
    entity: str
    source: str
    calls: str
    start: int
    end: int | None
    score: float
    direction: Direction
    value: float
    lower: float
    upper: float
    labels: dict[str, str]
    new: float = 1.0
    pattern: str = ""

    @property
    def weight(self) -> float:
        """Weight of the anomaly in its group."""
        return self.new * score_weight(self.score)


def make_member(anomaly: Anomaly, location: SeriesLocation, new: float = 1.0) -> DraftMember:
    """Return an anomaly as a member."""
    return DraftMember(
        id=anomaly.id,
        series_id=anomaly.series_id,
        series=anomaly.series,
        metric=location.metric,
        entity=location.entity,
        source=location.source,
        calls=location.callee,
        start=anomaly.start,
        end=anomaly.end,
        score=anomaly.score,
        direction=anomaly.direction,
        value=anomaly.value,
        lower=anomaly.lower,
        upper=anomaly.upper,
        labels=anomaly.labels,
        new=new,
        pattern=anomaly.pattern,
    )


@dataclass(slots=True)
class Burst:
    """Anomalies of one scope close together in time.

    weight : sum over its series; first, last : int64 ns, start of its first and newest anomaly
    """

    weight: float
    first: int
    last: int


@dataclass(slots=True)
class IncidentDraft:
    """An incident or a candidate for one. Its fields are part of the stored state.

    last     : int64 ns, start of its newest anomaly
    open     : ids of its open anomalies; seen : ids of its series
    ended    : int64 ns, newest end of a closed anomaly or pattern
    series   : entity -> number of its anomalous series
    surprise : of its rarest burst so far, in powers of ten
    severity : largest so far; it never falls
    weight   : anomalous series, those that usually move with another counted in part
    worst    : largest anomaly_score
    known    : it was published as an incident
    by_hand  : an operator resolved it
    told     : summary of the last published version, to decide whether to publish again
    """

    id: str
    start: int
    last: int
    members: dict[str, DraftMember] = field(default_factory=dict)
    bursts: dict[str, Burst] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    series: dict[str, int] = field(default_factory=dict)
    surprise: float = 0.0
    severity: float = 0.0
    weight: float = 0.0
    worst: float = 0.0
    ended: int = 0
    seen: set[str] = field(default_factory=set)
    mass: bool = False
    mass_share: float = 0.0
    user_facing: bool = False
    known: bool = False
    by_hand: bool = False
    state: IncidentState = IncidentState.OPEN
    acknowledged_by: str = ""
    note: str = ""
    patterns: dict[str, PatternMatch] = field(default_factory=dict)
    change_ids: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()
    told: tuple[Any, ...] = ()

    @property
    def end(self) -> int | None:
        """int64 ns, end of its last anomaly or pattern; None while one is open."""
        return None if self.open or self.active_patterns() else self.ended

    def active_patterns(self) -> int:
        """Return the number of patterns recognized now."""
        return sum(match.until is None for match in self.patterns.values())

    def update_patterns(self, source: str, now: Mapping[str, PatternMatch], time: int) -> None:
        """Update the patterns of one source: those not in `now` ("name entity" -> match) ended at `time`.

        A draft that ends at this same moment continues with another pattern of the same entity.
        """
        if not now and not self.patterns:
            return
        is_active = self.end is None or self.ended >= time
        for key, match in self.patterns.items():
            if match.until is None and match.source in {source, ""} and key not in now:
                self.patterns[key] = replace(match, until=time)
                self.ended = max(self.ended, time)
        if is_active:
            self.patterns |= {key: match for key, match in now.items() if self.touches(match)}

    def touches(self, match: PatternMatch) -> bool:
        """Return whether a pattern concerns an entity or a series of this draft."""
        return match.entity in self.series or not self.seen.isdisjoint(match.series_ids)

    def entities(self) -> list[str]:
        """Return the entities, the most affected first."""
        return [name for name, _ in sorted(self.series.items(), key=lambda item: (-item[1], item[0]))]

    def add_member(self, member: DraftMember) -> None:
        """Add an anomaly."""
        self.members[member.id] = member
        if member.series_id not in self.seen:
            self.seen.add(member.series_id)
            self.series[member.entity] = self.series.get(member.entity, 0) + 1
            self.weight += member.new
        if member.end is None:
            self.open.add(member.id)
        self.ended = max(self.ended, member.end or member.start)
        self.start = min(self.start, member.start)
        self.last = max(self.last, member.start)
        if member.score > self.worst:
            self.worst = member.score

    def close_member(self, member: DraftMember, end: int) -> None:
        """Close one of its anomalies at `end`."""
        member.end = end
        self.open.discard(member.id)
        self.ended = max(self.ended, end)

    def extend_burst(self, scope: str, weight: float, time: int) -> Burst:
        """Add weight to the current burst of a scope, or begin a new one, and return it."""
        burst = self.bursts.get(scope)
        if burst is None or time - burst.last > BURST_GAP_NS:
            burst = self.bursts[scope] = Burst(0.0, time, time)
        burst.weight += weight
        burst.first, burst.last = min(burst.first, time), max(burst.last, time)
        return burst

    def absorb(self, other: "IncidentDraft") -> None:
        """Take over everything of another draft, including its acknowledgement and notes."""
        for member in other.members.values():
            self.add_member(member)
        for scope, burst in other.bursts.items():
            mine = self.extend_burst(scope, burst.weight, burst.first)
            mine.last = max(mine.last, burst.last)
        self.surprise = max(self.surprise, other.surprise)
        self.severity = max(self.severity, other.severity)
        self.user_facing |= other.user_facing
        self.patterns = {**other.patterns, **self.patterns}
        self.acknowledged_by = self.acknowledged_by or other.acknowledged_by
        self.note = "\n".join(note for note in (self.note, other.note) if note)

    def update_severity(self, time: int, scope_sizes: Mapping[str, int]) -> None:
        """Update the severity at `time`, int64 ns; scope_sizes : scope -> number of monitored series."""
        until = time if self.end is None else self.ended
        hit_ratio = 0.0
        if not self.mass:
            hit_ratio = max(n / max(scope_sizes[f"entity={entity}"], 4) for entity, n in self.series.items())
        severity = severity_of(
            surprise=self.surprise, weight=self.weight, share=hit_ratio,
            entities=len(self.series), lasting_s=(until - self.start) / 1e9, user_facing=self.user_facing,
            worst=self.worst,
        )  # fmt: skip
        if self.mass:
            severity = max(severity, 0.6 + 0.4 * self.mass_share)
        self.severity = max(self.severity, min(severity, 1.0))

    def stored_state(self) -> dict[str, Any]:
        """Return plain values; None for a number that is not finite."""
        plain = asdict(self)
        plain["open"] = sorted(self.open)
        del plain["seen"]
        plain["members"] = [_plain(member) for member in plain["members"].values()]
        plain["told"] = list(self.told)
        return plain


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def draft_from_state(state: Mapping[str, Any]) -> IncidentDraft:
    """Return the draft of a stored state."""
    stored = dict(state)
    unknown = ("score", "value", "lower", "upper")
    members = [
        DraftMember(**{**m, **dict.fromkeys((k for k in unknown if m[k] is None), math.nan)})
        for m in stored["members"]
    ]  # fmt: skip
    for member in members:
        member.direction = Direction(member.direction)
    stored["members"] = {member.id: member for member in members}
    stored["seen"] = {member.series_id for member in members}
    stored["bursts"] = {scope: Burst(**burst) for scope, burst in stored["bursts"].items()}
    stored["patterns"] = {k: _pattern(m) for k, m in stored["patterns"].items()}
    for name in ("change_ids", "similar"):
        stored[name] = tuple(stored[name])
    stored["told"] = tuple(tuple(t) if isinstance(t, list) else t for t in stored["told"])
    stored["state"] = IncidentState(stored["state"])
    stored["open"] = set(stored["open"])
    return IncidentDraft(**stored)


def _pattern(stored: Mapping[str, Any]) -> PatternMatch:
    tuples = {name: tuple(stored[name]) for name in ("evidence", "series_ids", "remedies")}
    return PatternMatch(**{**stored, **tuples})
