"""Builds the situation that the guard judges from the ledger, the observation and its own history."""

from dataclasses import dataclass, field, replace

from trimtab.engine.actions.guard.situation import InputQuality, KnobKey, MassAnomalyStatus, Situation
from trimtab.engine.actions.monotonic_age import MonotonicAges
from trimtab.engine.actions.proposal_history import ProposalHistory
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import (
    Action,
    Knob,
    KnobReading,
    MemoryOutlook,
    Mode,
    Pause,
    Recommendation,
    Risk,
    ToolAction,
    Value,
    WarmingLoad,
)

RECENT_ACTIONS = 300
"""Number of newest stored actions that the guard considers."""
FOREVER = 2**62


@dataclass(frozen=True, slots=True)
class TargetObservation:
    """Observed facts about the target, its tool and other series; see `Situation` for each field."""

    mode: Mode = Mode.RECOMMEND
    targets: tuple[str, ...] = ()
    total_targets: int = 0
    trial: bool = False
    knob: Knob | None = None
    action: ToolAction | None = None
    reading: KnobReading | None = None
    inputs: InputQuality | None = None
    mass: MassAnomalyStatus | None = None
    memory: MemoryOutlook | None = None
    ttl_share: float | None = None
    warming: WarmingLoad | None = None
    generation: int = 0
    coupled_knobs: frozenset[KnobKey] = field(default_factory=frozenset)


class SituationBuilder:
    """Builds situations; keeps monotonic ages of actions and the history of proposals.

    limits : guard settings

    `state()` is stored at each evaluation and restored before the first decision. Without it, ages come from
    the ledger's times and the history starts empty.
    """

    def __init__(self, limits: Guardrails) -> None:
        self.limits = limits
        self.ages = MonotonicAges()
        self.proposals = ProposalHistory(limits.hold)

    def advance(self, monotonic_ns: int) -> None:
        """Advance to the current monotonic time, ns; call before each evaluation and decision."""
        self.ages.advance(monotonic_ns)

    def record_evaluation(self, proposals: list[Recommendation]) -> None:
        """Record all proposals of one evaluation; empty if it failed."""
        self.proposals.record(proposals, self.ages.running_s)

    def build(
        self,
        proposal: Recommendation,
        now: int,
        pause: Pause,
        actions: list[Action],
        observation: TargetObservation,
        undoes: Action | None = None,
    ) -> Situation:
        """Return the situation of a proposal.

        now     : int64 ns UTC
        actions : the newest RECENT_ACTIONS of the ledger and all unfinished ones
        undoes  : the action that the proposal rolls back
        """
        limits, ages = self.limits.scaled(observation.trial), self.ages
        return Situation(
            now=now,
            uptime_s=ages.uptime_s,
            pause=pause,
            mode=observation.mode,
            targets=observation.targets,
            total_targets=observation.total_targets,
            trial=observation.trial,
            knob=observation.knob,
            action=observation.action,
            reading=observation.reading,
            inputs=observation.inputs,
            stability=self.proposals.stability(proposal, ages.running_s, limits.hold),
            recent_actions=ages.with_ages({action.id: action for action in actions}.values(), now),
            mass=observation.mass,
            memory=observation.memory,
            ttl_share=observation.ttl_share,
            warming=observation.warming,
            generation=observation.generation,
            approval_age_s=ages.approval_age_s(proposal, now),
            coupled_knobs=observation.coupled_knobs,
            undoes=undoes,
        )

    def state(self) -> dict[str, object]:
        """Return the state as plain JSON."""
        return {"lived": self.ages.state(), "standing": self.proposals.state()}

    def restore(self, state: dict[str, object]) -> None:
        """Restore a state. Raises KeyError, TypeError or ValueError if it is malformed."""
        lived, standing = state["lived"], state["standing"]
        if not isinstance(lived, dict) or not isinstance(standing, dict):
            raise TypeError(f"the guard's state needs `lived` and `standing`, not {state!r:.80}")
        self.ages.restore(lived)
        self.proposals.restore(standing)


def manual_proposal(
    tool: str,
    target: str,
    subject: str,
    before: Value = None,
    after: Value = None,
    *,
    is_action: bool = False,
    by: str = "",
    proposal_id: str = "",
) -> Recommendation:
    """Return a manual change or action as a proposal for the guard.

    >>> manual_proposal("redis", "cache-1", "hz", 10, 20).title
    'hz of cache-1: 10 -> 20'
    """
    change = subject if is_action else f"{subject} of {target}: {before} -> {after}"
    return Recommendation(
        id=proposal_id, created=0, expires=FOREVER, tool=tool, target=target, subject=subject,
        is_action=is_action, before=before, after=after, title=change, effect=None, evidence=(),
        confidence=1.0, risk=Risk.MEDIUM, cost="", disproof="", mode=Mode.APPROVE,
        fingerprint=f"{tool}/{target}/{subject}", proposer=by,
    )  # fmt: skip


def proposal_from_action(action: Action) -> Recommendation:
    """Return a stored action as a proposal, for the guard's check before it is sent.

    For a rollback, `Situation.undoes` must be the action that it rolls back.
    """
    made = manual_proposal(
        action.tool, action.target, action.subject, action.before, action.after, is_action=action.is_action,
        by=action.by, proposal_id=action.id,
    )  # fmt: skip
    return replace(made, created=action.created)
