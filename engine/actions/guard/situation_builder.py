"""From what is stored and what is seen now to the situation that the guard decides in."""

from dataclasses import dataclass, field, replace

from trimtab.engine.actions.guard.situation import Inputs, Mass, Place, Situation
from trimtab.engine.actions.monotonic_age import Lived
from trimtab.engine.actions.proposal_history import Evaluations
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

RECENT = 300
"""So many of the newest actions of the ledger decide: 20 a day, and what people do beside."""
FOREVER = 2**62


@dataclass(frozen=True, slots=True)
class Live:
    """What is known now of the target, its tool and the world; see `Situation` for each."""

    mode: Mode = Mode.RECOMMEND
    targets: tuple[str, ...] = ()
    targets_in_all: int = 0
    trial: bool = False
    knob: Knob | None = None
    action: ToolAction | None = None
    reading: KnobReading | None = None
    inputs: Inputs | None = None
    mass: Mass | None = None
    memory: MemoryOutlook | None = None
    ttl_share: float | None = None
    warming: WarmingLoad | None = None
    generation: int = 0
    group: frozenset[Place] = field(default_factory=frozenset)


class Memory:
    """What the guard has to remember beside the ledger: ages, and how long proposals have stood.

    Its `state()` is stored at each evaluation, and restored at the start before anything is decided. Where it
    was lost the ledger's own times are taken, and proposals begin to stand anew.
    """

    def __init__(self, limits: Guardrails) -> None:
        self.limits = limits
        self.lived = Lived()
        self.evaluations = Evaluations(limits.hold)

    def tick(self, monotonic_ns: int) -> None:
        """Time went on; to be told before each evaluation and each decision."""
        self.lived.tick(monotonic_ns)

    def evaluated(self, proposals: list[Recommendation]) -> None:
        """An evaluation came to these, all together; none where it could not be made."""
        self.evaluations.note(proposals, self.lived.seconds)

    def situation(
        self,
        proposal: Recommendation,
        now: int,
        pause: Pause,
        actions: list[Action],
        live: Live,
        undoes: Action | None = None,
    ) -> Situation:
        """The situation of a proposal.

        now     : int64 ns UTC
        actions : the newest RECENT of the ledger, and all that are unfinished
        undoes  : the action that the proposal takes back
        """
        limits, lived = self.limits.scaled(live.trial), self.lived
        return Situation(
            now=now,
            uptime_s=lived.uptime_s,
            pause=pause,
            mode=live.mode,
            targets=live.targets,
            targets_in_all=live.targets_in_all,
            trial=live.trial,
            knob=live.knob,
            action=live.action,
            reading=live.reading,
            inputs=live.inputs,
            standing=self.evaluations.standing(proposal, lived.seconds, limits.hold),
            recent=lived.past({action.id: action for action in actions}.values(), now),
            mass=live.mass,
            memory=live.memory,
            ttl_share=live.ttl_share,
            warming=live.warming,
            generation=live.generation,
            approval_age_s=lived.approval_s(proposal, now),
            group=live.group,
            undoes=undoes,
        )

    def state(self) -> dict[str, object]:
        """Plain JSON."""
        return {"lived": self.lived.state(), "standing": self.evaluations.state()}

    def restore(self, state: dict[str, object]) -> None:
        """Go on where `state` was taken. Raises KeyError, TypeError or ValueError where it is not."""
        lived, standing = state["lived"], state["standing"]
        if not isinstance(lived, dict) or not isinstance(standing, dict):
            raise TypeError(f"a state of the guard's memory holds lived and standing, not {state!r:.80}")
        self.lived.restore(lived)
        self.evaluations.restore(standing)


def by_hand(
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
    """What a person wants to change or do now, as a proposal for the guard.

    >>> by_hand("redis", "cache-1", "hz", 10, 20).title
    'hz of cache-1: 10 -> 20'
    """
    change = subject if is_action else f"{subject} of {target}: {before} -> {after}"
    return Recommendation(
        id=proposal_id, created=0, expires=FOREVER, tool=tool, target=target, subject=subject,
        is_action=is_action, before=before, after=after, title=change, effect=None, evidence=(),
        confidence=1.0, risk=Risk.MEDIUM, cost="", disproof="", mode=Mode.APPROVE,
        fingerprint=f"{tool}/{target}/{subject}", proposer=by,
    )  # fmt: skip


def proposal_of(action: Action) -> Recommendation:
    """A stored action as a proposal, to ask the guard again before it is sent.

    A rollback's proposal goes to the value before; `Situation.undoes` has to name what it takes back.
    """
    made = by_hand(
        action.tool, action.target, action.subject, action.before, action.after, is_action=action.is_action,
        by=action.by, proposal_id=action.id,
    )  # fmt: skip
    return replace(made, created=action.created)
