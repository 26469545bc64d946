"""Anomalies that belong together, what they look like, and what changed near them."""

from dataclasses import dataclass, field
from enum import StrEnum


class IncidentState(StrEnum):
    """How far people are with it."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How much an incident matters, in words."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A series that may be where it began.

    entity : what the series belongs to, as "redis/cache-1"
    weight : share of the suspicion, 0..1; those of one incident sum to 1 at most
    moved  : int64 ns when it left its band
    size   : its peak anomaly_score
    why    : one sentence for people
    """

    series_id: str
    series: str
    entity: str
    weight: float
    moved: int
    size: float
    why: str


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """A named pattern that an entity shows, or has shown.

    name       : of the catalogue of patterns, as "cache_thrash"
    confidence : 0..1
    since      : int64 ns; until: when it was recognised last, None = it still is
    evidence   : sentences with figures, strongest first
    remedies   : optimisations that usually help, best first, as "redis.maxmemory"
    """

    name: str
    entity: str
    confidence: float
    since: int
    evidence: tuple[str, ...]
    series_ids: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    source: str = ""
    until: int | None = None


class ChangeKind(StrEnum):
    """What sort of change it was."""

    DEPLOY = "deploy"
    RESTART = "restart"
    CONFIG = "config"
    ACTION = "action"
    ALERT = "alert"
    """Another system's alert: it is shown beside incidents, and is no cause of them."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that somebody changed, told to us or seen.

    by     : who told it: a key's name, "seen" for restarts, "trimtab" for own actions
    labels : of the series that it concerns; empty = unknown
    """

    id: str
    time: int
    kind: ChangeKind
    title: str
    by: str
    labels: dict[str, str] = field(default_factory=dict)
    url: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """Anomalies that belong together.

    start, end  : int64 ns; end is None while any of its anomalies is open, or a pattern is recognised
    severity    : 0..1, from breadth, size and whether users feel it; `level` says it in words
    entities    : what it touches, most touched first
    mass        : so many series that a common cause is likelier than a fault of one of them
    merged_into : id of the incident that took it over
    """

    id: str
    start: int
    end: int | None
    state: IncidentState
    title: str
    severity: float
    level: Severity
    user_facing: bool
    mass: bool
    entities: tuple[str, ...]
    anomaly_ids: tuple[str, ...]
    suspects: tuple[Suspect, ...] = ()
    patterns: tuple[PatternMatch, ...] = ()
    change_ids: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()
    """Ids of past incidents that looked like it, most alike first."""
    acknowledged_by: str = ""
    note: str = ""
    merged_into: str | None = None


class NoticeKind(StrEnum):
    """What a notice tells."""

    FIRING = "firing"
    WORSE = "worse"
    """It was told already, and is critical now."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Notice:
    """A message about an incident, to go to every sink.

    fingerprint : the same for the same trouble over restarts; a receiver may replace by it
    why         : one sentence: why people are told
    """

    kind: NoticeKind
    incident: Incident
    fingerprint: str
    time: int
    why: str


@dataclass(frozen=True, slots=True)
class Silence:
    """For a time, incidents of these entities are not told.

    entities     : names, as "redis/*"; an incident is silenced when all that it touches match one of them
    begin, until : int64 ns, begin <= time < until
    """

    id: str
    entities: tuple[str, ...]
    begin: int
    until: int
    by: str
    note: str = ""
