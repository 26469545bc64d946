"""Incidents, the changes and alerts near them, notices about them, and silences."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from ulid import ULID

OWN_ALERT_NAME = "TrimtabIncident"
"""Label `alertname` of the alerts that the engine sends."""


class IncidentState(StrEnum):
    """Handling state of an incident."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """Severity level of an incident."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A series that may be the root cause of an incident.

    entity : entity of the series, such as "redis/cache-1"
    weight : probability 0..1; the weights of one incident sum to at most 1
    moved  : int64 ns UTC at which it left its expected band
    size   : peak anomaly_score
    why    : the reason, in one sentence
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
    """A named pattern that was recognised on an entity.

    name       : name in the catalogue of patterns, such as "cache_thrash"
    confidence : 0..1
    since      : int64 ns UTC; until : int64 ns UTC of the last recognition, None = still recognised
    evidence   : sentences with values, strongest first
    remedies   : changes that usually help, best first, such as "redis.maxmemory"
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
    """Kind of a change event."""

    DEPLOY = "deploy"
    RESTART = "restart"
    CONFIG = "config"
    ACTION = "action"
    ALERT = "alert"
    """An alert of another system; shown with incidents, but never taken as their cause."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Change:
    """A change event, reported through the API or detected by the engine.

    by     : reporter: name of an API key, "seen" for detected restarts, "trimtab" for own actions
    time   : int64 ns UTC
    labels : labels of the affected series; empty = unknown
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

    start, end  : int64 ns UTC; end is None while any anomaly is open or a pattern is recognised
    severity    : 0..1, from breadth, size and user impact; `level` is the same as a word
    entities    : affected entities, most affected first
    mass        : whether so many series are affected that a common cause is likely
    merged_into : id of the incident it was merged into
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
    """Ids of similar past incidents, most similar first."""
    acknowledged_by: str = ""
    note: str = ""
    merged_into: str | None = None


class NoticeKind(StrEnum):
    """Kind of a notice."""

    FIRING = "firing"
    WORSE = "worse"
    """Its receivers know the incident, and it has become critical."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Notice:
    """A message about an incident for every notification channel.

    fingerprint : identity of the problem, equal after restarts; a receiver may deduplicate by it
    why         : why the notice is sent, in one sentence
    time        : int64 ns UTC
    """

    kind: NoticeKind
    incident: Incident
    fingerprint: str
    time: int
    why: str


@dataclass(frozen=True, slots=True)
class Silence:
    """A period in which incidents of some entities send no notices.

    entities     : names or patterns such as "redis/*"; it applies to an incident whose entities all match
    begin, until : int64 ns UTC, begin <= time < until
    """

    id: str
    entities: tuple[str, ...]
    begin: int
    until: int
    by: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of an Alertmanager webhook (version 4).

    fingerprint : the sender's identity of the alert, equal in every repetition
    start, end  : int64 ns UTC; end is None while it fires
    labels      : labels of the alert, including `alertname`
    url         : page of the alert at the sender
    """

    fingerprint: str
    start: int
    end: int | None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    url: str = ""

    @property
    def change_id(self) -> str:
        """ULID of the change event that represents the alert, equal in every repetition.

        >>> Alert("c1f0", 1_767_225_600_000_000_000, None).change_id[:10]
        '01KDVDNA00'
        """
        digest = hashlib.sha256(f"{self.fingerprint} {self.start}".encode()).digest()
        return str(ULID.from_bytes(max(0, self.start // 1_000_000).to_bytes(6, "big") + digest[:10]))

    @property
    def is_own(self) -> bool:
        """Whether the engine itself sent this alert."""
        return self.labels.get("alertname") == OWN_ALERT_NAME

    @property
    def is_firing(self) -> bool:
        """Whether the alert still fires."""
        return self.end is None
