"""Inputs and outputs of the guard. Unknown inputs are None, which the guard refuses."""

from dataclasses import dataclass, field
from enum import StrEnum

from trimtab.engine.types import (
    Action,
    Knob,
    KnobReading,
    MemoryOutlook,
    Mode,
    Pause,
    ToolAction,
    WarmingLoad,
)

KnobKey = tuple[str, str, str]
"""Tool, target, subject."""


class GuardVerdict(StrEnum):
    """Verdict of the guard on a proposal."""

    ALLOW = "allow"
    APPROVE = "approve"
    """An operator must approve first."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """Decision of the guard.

    guard  : name of the guard rule that decided, such as "cooldown"; "" = every rule allows it
    reason : sentence with the values and what to do
    until  : int64 ns UTC from which the proposal may pass; None = waiting alone does not help, or unknown
    """

    verdict: GuardVerdict
    guard: str
    reason: str
    until: int | None = None


@dataclass(frozen=True, slots=True)
class InputQuality:
    """Quality of a proposal's input series (computed in `trimtab.engine.actions.guard.input_quality`).

    series        : number of input series
    missing       : number of input series without a fresh sample
    newest_age    : age of the newest sample in scrape intervals; None = no sample
    present_ratio : share of the windows' ticks with a sample, 0..1; None = unknown
    source_up     : None = unknown
    zeroed        : names of series that fell to exactly zero, or that are all zero
    jumped        : names of series whose level jumped as if their unit had changed
    """

    series: int
    missing: int
    newest_age: float | None
    present_ratio: float | None
    source_up: bool | None
    zeroed: tuple[str, ...] = ()
    jumped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProposalStability:
    """How stable a proposal is (counted in `trimtab.engine.actions.proposal_history`).

    evaluations : consecutive evaluations that produced it
    since_s     : seconds since the first of them
    last_s      : seconds since the newest of them; None = never evaluated
    max_value   : highest value proposed within the reduction hold; None = unknown
    """

    evaluations: int = 0
    since_s: float = 0.0
    last_s: float | None = None
    max_value: float | None = None


@dataclass(frozen=True, slots=True)
class MassAnomalyStatus:
    """Anomalous series outside the incident, and sources that are down."""

    anomalous: int
    watched: int
    sources_down: int
    sources: int


@dataclass(frozen=True, slots=True)
class AgedAction:
    """A stored action and its monotonic age in seconds since it was sent; 0 = not sent yet."""

    action: Action
    age_s: float


@dataclass(frozen=True, slots=True)
class Situation:
    """All inputs of a decision. A default means unknown and allows nothing.

    now            : int64 ns UTC
    uptime_s       : seconds since the engine started
    targets        : targets of the tool in the settings
    total_targets  : number of targets of all tools
    trial          : whether the tool is a loopback trial in the settings
    recent_actions : stored actions on all targets of at least the last day, in any order
    memory         : projected memory use after the change; None = unknown
    ttl_share      : share of Redis keys that expire, 0..1; None = unknown
    generation     : newest generation of the recommendation
    approval_age_s : seconds since the approval or the scheduled time; None = not approved
    coupled_knobs  : knobs whose changes affect this one
    undoes         : the action to roll back; None = the proposal is not a rollback
    """

    now: int
    uptime_s: float
    pause: Pause
    mode: Mode = Mode.RECOMMEND
    targets: tuple[str, ...] = ()
    total_targets: int = 0
    trial: bool = False
    knob: Knob | None = None
    action: ToolAction | None = None
    reading: KnobReading | None = None
    inputs: InputQuality | None = None
    stability: ProposalStability = field(default_factory=ProposalStability)
    recent_actions: tuple[AgedAction, ...] = ()
    mass: MassAnomalyStatus | None = None
    memory: MemoryOutlook | None = None
    ttl_share: float | None = None
    warming: WarmingLoad | None = None
    generation: int = 0
    approval_age_s: float | None = None
    coupled_knobs: frozenset[KnobKey] = frozenset()
    undoes: Action | None = None
