"""An incident while it is being put together: its anomalies, its bursts, and what people said of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trimtab.engine.incidents.series_directory import SeriesLocation
from trimtab.engine.incidents.severity import score_weight
from trimtab.engine.types import Anomaly, Direction, IncidentState, PatternMatch

BURST_GAP_NS = 600_000_000_000
"""After so long without another series a scope's next one begins a new burst."""


@dataclass(slots=True)
class DraftMember:
    """An anomaly of an incident.

    new     : what it adds as evidence, 0..1: less where its metric always moves with others that moved
    calls   : the name of whom its series tells as a caller
    pattern : the one that began it, "" = its series is unusual
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
        """What it counts as."""
        return self.new * score_weight(self.score)


def make_member(anomaly: Anomaly, location: SeriesLocation, new: float = 1.0) -> DraftMember:
    """An anomaly as a member."""
    return DraftMember(
        id=anomaly.id, series_id=anomaly.series_id, series=anomaly.series, metric=location.metric,
        entity=location.entity, source=location.source, calls=location.callee, start=anomaly.start, end=anomaly.end,
        score=anomaly.score, direction=anomaly.direction, value=anomaly.value, lower=anomaly.lower,
        upper=anomaly.upper, labels=anomaly.labels, new=new,
        pattern=anomaly.pattern,
    )  # fmt: skip


@dataclass(slots=True)
class Burst:
    """What moved within one scope, in one go.

    weight : of all series; first, last : int64 ns, when the first and the newest of them moved
    """

    weight: float
    first: int
    last: int


@dataclass(slots=True)
class IncidentDraft:
    """An incident in the making.

    last     : int64 ns, when the newest of its anomalies began
    open     : ids of the anomalies that have not ended; seen: ids of the series that moved
    ended    : int64 ns, newest end of those that have
    series   : entity -> how many of its series moved
    surprise : of its rarest burst so far, in powers of ten
    severity : the largest so far: it never falls
    weight   : series that moved, those that always move with another counted in part
    worst    : largest anomaly_score
    known    : it was told as an incident
    by_hand  : a person resolved it
    told     : what was told of it last, to see what is worth telling again
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
        """When its last anomaly or pattern ended; None = one goes on."""
        return None if self.open or self.active_patterns() else self.ended

    def active_patterns(self) -> int:
        """How many patterns are recognised now."""
        return sum(match.until is None for match in self.patterns.values())

    def update_patterns(self, source: str, now: Mapping[str, PatternMatch], time: int) -> None:
        """What one source's ticks look like now, "name entity" -> match: what is not among it is over.

        A case that ends at this very moment goes on with another pattern of the same thing.
        """
        if not now and not self.patterns:
            return
        going = self.end is None or self.ended >= time
        for key, match in self.patterns.items():
            if match.until is None and match.source in {source, ""} and key not in now:
                self.patterns[key] = replace(match, until=time)
                self.ended = max(self.ended, time)
        if going:
            self.patterns |= {key: match for key, match in now.items() if self.touches(match)}

    def touches(self, match: PatternMatch) -> bool:
        """Whether a pattern is of an entity or a series that is of this case."""
        return match.entity in self.series or not self.seen.isdisjoint(match.series_ids)

    def entities(self) -> list[str]:
        """What it touches, most touched first."""
        return [name for name, _ in sorted(self.series.items(), key=lambda item: (-item[1], item[0]))]

    def add_member(self, member: DraftMember) -> None:
        """Another anomaly."""
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
        """One of its anomalies ended."""
        member.end = end
        self.open.discard(member.id)
        self.ended = max(self.ended, end)

    def extend_burst(self, scope: str, weight: float, at: int) -> Burst:
        """Something moved within a scope."""
        now = self.bursts.get(scope)
        if now is None or at - now.last > BURST_GAP_NS:
            now = self.bursts[scope] = Burst(0.0, at, at)
        now.weight += weight
        now.first, now.last = min(now.first, at), max(now.last, at)
        return now

    def absorb(self, other: "IncidentDraft") -> None:
        """All of another case is of this one now; what people said of either stays."""
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

    def stored_state(self) -> dict[str, Any]:
        """As plain values; what is not finite as None, as JSON has no word for it."""
        plain = asdict(self)
        plain["open"] = sorted(self.open)
        del plain["seen"]
        plain["members"] = [_plain(member) for member in plain["members"].values()]
        plain["told"] = list(self.told)
        return plain


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def draft_from_state(state: Mapping[str, Any]) -> IncidentDraft:
    """The case that `state_of` told of."""
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
