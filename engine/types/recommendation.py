"""Recommendations: one proposed change each, its expected effect, and its shadow record."""

from dataclasses import dataclass
from enum import StrEnum

from trimtab.engine.types.knob import Value
from trimtab.engine.types.tool import Mode, Risk

MIN_SEVERITY_INCREASE = 0.1
"""An incident whose severity (0..1) rises by this much has become worse."""


class ShadowEnd(StrEnum):
    """Why a shadow record ended."""

    OPEN = ""
    OVER = "over"
    """The problem that it was recommended for ended without the change."""
    DONE = "done"
    """An operator applied the change."""
    CHANGED = "changed"
    """Another change was made on the target, so the outcome without the change is unknown."""
    WENT_ON = "went on"
    """The problem lasted longer than a day."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A change that mode auto would have made, and what happened without it.

    time          : int64 ns UTC of the first moment at which no guard rule would have refused it
    before, after : the change
    figure, unit  : the metric that the change was to improve; "" = no series shows it
    figure_before : the metric's value at `time`; figure_since : its mean from `time` until `ended`;
                    None = unknown
    severity      : severity of the incident at `time`; worst : the highest severity since;
                    None = there is no incident
    ended         : int64 ns UTC; None = still open
    """

    time: int
    before: Value
    after: Value
    figure: str = ""
    unit: str = ""
    figure_before: float | None = None
    figure_since: float | None = None
    severity: float | None = None
    worst: float | None = None
    ended: int | None = None
    end: ShadowEnd = ShadowEnd.OPEN

    @property
    def got_worse(self) -> bool:
        """Whether the incident's severity rose by MIN_SEVERITY_INCREASE or more after `time`."""
        return self.worst is not None and self.worst >= (self.severity or 0.0) + MIN_SEVERITY_INCREASE


class RecommendationState(StrEnum):
    """pending -> approved -> scheduled -> applied -> closed, or dismissed | expired."""

    PENDING = "pending"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    APPLIED = "applied"
    CLOSED = "closed"
    DISMISSED = "dismissed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Effect:
    """Expected or measured effect of a change on one metric.

    series_id : id of the series that shows the effect; "" = no watched series does
    figure    : description of the metric, such as "hit ratio of cache-1"
    before    : value before the change; expected, low, high : value after it with its 90 % interval;
                all in `unit`
    """

    series_id: str
    figure: str
    unit: str
    before: float
    expected: float
    low: float
    high: float
    more_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended change of a knob, or one recommended tool action.

    created, expires : int64 ns UTC
    subject    : name of the knob or of the tool action
    is_action  : whether the subject is an action; `before` and `after` are None then
    confidence : 0..1
    evidence   : sentences with values, strongest first
    disproof   : observation that would show the recommendation to be wrong
    cost       : what the change takes, in words (memory, money, a restart)
    command    : how to make the change by hand
    fingerprint: identifies tool, target, subject and direction; only one of them is pending at a time
    generation : version of the evidence it was made from; compared when it is applied
    """

    id: str
    created: int
    expires: int
    tool: str
    target: str
    subject: str
    is_action: bool
    before: Value
    after: Value
    title: str
    effect: Effect | None
    evidence: tuple[str, ...]
    confidence: float
    risk: Risk
    cost: str
    disproof: str
    mode: Mode
    fingerprint: str
    state: RecommendationState = RecommendationState.PENDING
    incident_id: str | None = None
    pattern: str = ""
    command: str = ""
    generation: int = 0
    proposer: str = "trimtab"
    approver: str = ""
    approved: int | None = None
    scheduled: int | None = None
    reason: str = ""
    """Why it was dismissed, refused or expired."""
    shadow: Shadow | None = None
    """What mode auto would have done; None = nothing so far, or the mode already allows the change."""
