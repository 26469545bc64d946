"""What the guard decides from, and what it says. Whatever is unknown is None, and refused."""

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

Place = tuple[str, str, str]
"""Tool, target, subject."""


class Verdict(StrEnum):
    """What the guard says of a proposal."""

    ALLOW = "allow"
    APPROVE = "approve"
    """A person has to agree first."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    """The guard's word.

    guard  : row of the guardrails that decided, as "cooldown"; "" = none stands in the way
    reason : a sentence with figures and what to do
    until  : int64 ns from when the same proposal may pass; None = waiting alone does not help, or unknown
    """

    verdict: Verdict
    guard: str
    reason: str
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """How well the figures behind a proposal are known (`trimtab.engine.actions.guard.input_quality` looks).

    series  : that the proposal rests on
    missing : of them, without a fresh sample
    newest  : age of the newest sample, in intervals of its source; None = there is none
    present : share of the windows' samples that are there, 0..1; None = unknown
    zeroed  : names of figures that fell to exactly zero, or that are all zero
    jumped  : names of figures whose level jumped as if their unit had changed
    """

    series: int
    missing: int
    newest: float | None
    present: float | None
    source_up: bool | None
    zeroed: tuple[str, ...] = ()
    jumped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How long a proposal has stood (`trimtab.engine.actions.proposal_history` counts).

    evaluations : in a row that came to it
    since_s     : seconds since the first of them
    last_s      : seconds since the newest of them; None = it was never evaluated
    most        : highest value that was asked for within the hold; None = unknown
    """

    evaluations: int = 0
    since_s: float = 0.0
    last_s: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Mass:
    """How much is wrong elsewhere: series outside the incident's own entity, and sources."""

    anomalous: int
    watched: int
    sources_down: int
    sources: int


@dataclass(frozen=True, slots=True)
class Past:
    """A stored action and the seconds since it took effect, as the engine has lived them (0 = not yet)."""

    action: Action
    age_s: float


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a decision rests on. The defaults are what is known of nothing: they allow nothing.

    now            : int64 ns UTC
    uptime_s       : seconds since the engine started
    targets        : that the settings name for this tool
    targets_in_all : of all tools
    trial          : a loopback target that the settings call a trial
    recent         : stored actions of all targets, any order, of the last day at least
    memory         : projected use after the change; None = unknown
    ttl_share      : of a Redis' keys that expire, 0..1
    generation     : of the knowledge now
    approval_age_s : since the approval, or since the scheduled time
    group          : places whose changes act on this one
    undoes         : the action that is taken back; None = this is a change of its own
    """

    now: int
    uptime_s: float
    pause: Pause
    mode: Mode = Mode.RECOMMEND
    targets: tuple[str, ...] = ()
    targets_in_all: int = 0
    trial: bool = False
    knob: Knob | None = None
    action: ToolAction | None = None
    reading: KnobReading | None = None
    inputs: Inputs | None = None
    standing: Standing = field(default_factory=Standing)
    recent: tuple[Past, ...] = ()
    mass: Mass | None = None
    memory: MemoryOutlook | None = None
    ttl_share: float | None = None
    warming: WarmingLoad | None = None
    generation: int = 0
    approval_age_s: float | None = None
    group: frozenset[Place] = frozenset()
    undoes: Action | None = None
