"""What can be changed, what we recommend to change, what was changed, and what came of it."""

from dataclasses import dataclass, field
from enum import StrEnum

from trimtab.engine.types.shadow_record import Shadow, Value


class KnobType(StrEnum):
    """Kind of a knob's values."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    CHOICE = "choice"


class Lasts(StrEnum):
    """How long a change lives."""

    UNTIL_RESTART = "until restart"
    IN_A_FILE = "in a file"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting of a tool.

    low, high  : in `unit`; None = without bound (such a knob is never changed without a person)
    step       : largest change at once, in `unit`; None = 25 % of the value (guardrails)
    choices    : allowed values of a CHOICE
    denied     : values that are never proposed and never applied
    warm_up_s  : seconds after a change until its effect can be judged
    group      : knobs of one group act on each other: one change at a time in it
    grain      : values to propose are multiples of it, in `unit`; 0 = any
    default    : what a reset goes back to; None = not known here
    zero       : what 0 means, as "no limit"; "" = just 0
    """

    name: str
    type: KnobType
    unit: str = ""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    denied: tuple[Value, ...] = ()
    restart_needed: bool = False
    reversible: bool = True
    warm_up_s: float = 60.0
    group: str = ""
    help: str = ""
    grain: float = 0.0
    default: Value = None
    zero: str = ""


@dataclass(frozen=True, slots=True)
class KnobReading:
    """A knob's value now.

    set_here : somebody set it; False = the tool's own default holds, and undoing means to reset
    lasts    : how long a change of it would live
    note     : what else is to be known of it, as "10 GiB of 16 GiB are in use"
    """

    value: Value
    set_here: bool
    lasts: Lasts
    note: str = ""


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change that the tool has acknowledged.

    permanent : how to make it last: the line of a configuration file, or a statement
    """

    before: Value
    after: Value
    lasts: Lasts
    permanent: str = ""


class Risk(StrEnum):
    """What a change can do at worst."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class ToolAction:
    """Something that a tool can be told to do, once.

    reduces    : it takes capacity away (guardrails ask for more then)
    idempotent : doing it twice is the same as once
    """

    name: str
    help: str
    risk: Risk
    reduces: bool = False
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class WarmingLoad:
    """How the service behind a cache does, before it is warmed; None = unknown.

    asked_per_s  : requests that the warming would send
    origin_per_s : requests that the origin gets without it
    errors       : share of them that fail, 0..1
    """

    asked_per_s: float | None
    origin_per_s: float | None
    errors: float | None


class ToolState(StrEnum):
    """How a tool does."""

    UP = "up"
    EXPORT_ONLY = "export only"
    """It can be read; the server forbids changes, so they are written down for people."""
    DENIED = "denied"
    """It answers, but not to us: wrong credentials or too few rights."""
    UNREACHABLE = "unreachable"
    QUARANTINED = "quarantined"
    """It raised what it may not raise, and is not asked any more until it is enabled again."""
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class ToolStatus:
    """A tool as people see it; `detail` says what to do where it is not up."""

    state: ToolState
    detail: str = ""
    version: str = ""


class Mode(StrEnum):
    """How far the engine may go on its own, by action type and target."""

    OFF = "off"
    RECOMMEND = "recommend"
    APPROVE = "approve"
    AUTO = "auto"


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
    """What a change is expected to do to one figure.

    series_id : that will show it; "" = no series of ours does
    figure    : in words, as "hit ratio of cache-1"
    before    : now; expected, low, high : after the change (90 % interval), all in `unit`
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
    """One change that we think helps.

    subject    : what is done: a knob's name, or a tool's action
    is_action  : the subject is an action, `before` and `after` are None
    confidence : 0..1
    evidence   : sentences with figures, strongest first
    disproof   : what would show that it is wrong
    cost       : in words: what it takes (memory, money, a restart)
    command    : how a person would do it by hand
    fingerprint: same tool, target, subject and direction; only one of them is pending at a time
    generation : of the knowledge that it was made from; compared at apply
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
    """What mode auto would have done of it; None = it would not have (yet), or it could by its mode."""


class ActionState(StrEnum):
    """proposed -> executing -> verifying -> kept | rolled_back | inconclusive | failed | unknown.

    refused = it was never sent, for a guardrail stood in the way of who asked for it.
    """

    PROPOSED = "proposed"
    EXECUTING = "executing"
    VERIFYING = "verifying"
    KEPT = "kept"
    ROLLED_BACK = "rolled_back"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    UNKNOWN = "unknown"
    REFUSED = "refused"

    @property
    def is_final(self) -> bool:
        """Whether nothing more comes of it by itself."""
        return self not in {ActionState.PROPOSED, ActionState.EXECUTING, ActionState.VERIFYING}

    @property
    def changed_nothing(self) -> bool:
        """Whether it ended without having changed anything."""
        return self in {ActionState.FAILED, ActionState.REFUSED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action came to.

    effect : measured change of its figure with interval; None = not measurable
    words  : "no harm seen", "rolled back: hit ratio fell" ...; never "helped" without a proof
    """

    state: ActionState
    words: str
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One guarded change.

    key        : idempotency key, unique: no two actions with the same key are ever sent
    set_before : whether somebody had set the knob before; False = undoing resets it
    undoes     : id of the action that this one takes back
    time_scale : of the guardrails' durations; below 1 only for trial targets, shown to people
    told       : what the tool said when it was applied, how long it lasts and how to make it last
    """

    id: str
    key: str
    recommendation_id: str | None
    tool: str
    target: str
    subject: str
    is_action: bool
    before: Value
    after: Value
    set_before: bool
    state: ActionState
    mode: Mode
    by: str
    created: int
    started: int | None = None
    ended: int | None = None
    undoes: str | None = None
    time_scale: float = 1.0
    told: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the audit: what was decided or done, by whom; chained by hashes.

    seq       : 1, 2, 3 ... without a hole
    hash      : SHA-256 over the row and `previous`, hex; see `trimtab.engine.audit.hash_chain`
    epoch     : of the engine's lease under which it was written
    """

    seq: int
    time: int
    actor: str
    what: str
    subject: str
    details: dict[str, Value] = field(default_factory=dict)
    previous: str = ""
    hash: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class AuditHeads:
    """The end of the audit as two places remember it; None = that place remembers none.

    store  : (seq, hash) beside the rows, written with each of them
    folder : (seq, hash) in a file of the data folder, written right after
    """

    store: tuple[int, str] | None
    folder: tuple[int, str] | None


@dataclass(frozen=True, slots=True)
class Pause:
    """The kill switch: while it is on nothing acts. Durable; released by a person only.

    It stops what the engine does by itself, its own rollbacks too, and whatever people approve, apply, set or
    run. It does not stop a person who takes an action back: that restores what was there.
    """

    on: bool
    by: str = ""
    since: int = 0
    reason: str = ""
