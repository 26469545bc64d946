"""Recommendation + situation -> may it be done now, has a person to agree, or not, and why.

Pure: times, ids and facts are arguments. The rows stand in their order: the kill switch, what is refused,
what passes with time, what needs a person. The first row that says something decides.
"""

from trimtab.engine.actions.guard import (
    approval_rules,
    input_rules,
    plan_rules,
    rollback_rules,
    size_rules,
    wait_rules,
)
from trimtab.engine.actions.guard.guard_request import Ask, Row, ask_of
from trimtab.engine.actions.guard.situation import Decision, Situation, Verdict
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import Recommendation

__all__ = ["Decision", "Situation", "Verdict", "decide"]

REFUSALS: tuple[Row, ...] = (
    plan_rules.targets,
    plan_rules.switched_off,
    plan_rules.subject,
    plan_rules.approval,
    plan_rules.plan,
    plan_rules.denied,
    plan_rules.bounds,
    size_rules.replicas,
    size_rules.redis_policy,
    size_rules.memory,
    size_rules.step,
    size_rules.dead_band,
    size_rules.warming,
    input_rules.freshness,
    input_rules.suspect,
    input_rules.reducing_inputs,
    input_rules.mass,
    wait_rules.lock,
)
WAITS: tuple[Row, ...] = (
    wait_rules.settling,
    wait_rules.persistence,
    wait_rules.hold,
    wait_rules.cooldown,
    wait_rules.running,
    wait_rules.rate,
    wait_rules.breadth,
)
SIZES: tuple[Row, ...] = (size_rules.step, size_rules.dead_band, wait_rules.cooldown)
"""Rows that a person passes on the way back to a value that stood before."""
APPROVALS: tuple[Row, ...] = (
    approval_rules.mode,
    approval_rules.reversal,
    approval_rules.unbounded,
    approval_rules.irreversible,
    approval_rules.uncertain,
)


def decide(
    proposal: Recommendation, situation: Situation, limits: Guardrails, person: bool = False
) -> Decision:
    """Whether a proposal may be carried out now.

    person : somebody decided it: that stands for mode, persistence, the hold, start-up and whatever needs
             approval, and for nothing else. An approver named in the proposal counts as such. Who sets a
             value that stood here before by hand passes SIZES as well; who takes an own change back passes
             the pause.

    To be asked twice: when the action is written down, and again before it is sent; of two that were written
    down at the same time only the earlier passes then. A rollback (`situation.undoes`) has rows of its own.

    >>> from trimtab.engine.actions.guard.situation_builder import by_hand
    >>> from trimtab.engine.types import Pause
    >>> paused = Situation(now=0, uptime_s=0, pause=Pause(on=True, by="ann"))
    >>> decide(by_hand("redis", "cache-1", "hz", 10, 12), paused, Guardrails()).reason
    'ann paused all actions; a person has to resume'
    """
    ask = ask_of(proposal, situation, limits, person)
    rows = _rows(ask)
    said = next((word for row in rows if (word := row(ask)) is not None), None)
    return said or ask.allow(_within(ask))


def _rows(ask: Ask) -> tuple[Row, ...]:
    if ask.situation.undoes is not None:
        return rollback_rules.ROWS if ask.person else (plan_rules.pause, *rollback_rules.ROWS)
    asked = () if ask.person else APPROVALS
    every = (plan_rules.pause, *REFUSALS, *WAITS, *asked)
    return tuple(row for row in every if row not in SIZES) if ask.steps_back else every


def _within(ask: Ask) -> str:
    """Why it may be done, and what people should know of it."""
    words = f"{_who(ask)}, and it keeps within every limit"
    if ask.person and ask.situation.undoes is None and (note := approval_rules.irreversible(ask)):
        words = f"{words}; {note.reason.removesuffix('; approve it')}"
    scale = ask.limits.time_scale
    return words if scale == 1 else f"{words}, at {scale:g} of their times: a trial"


def _who(ask: Ask) -> str:
    if ask.person:
        return "a person decided it"
    return "it takes back an own change" if ask.situation.undoes else f"the mode of {ask.place} is auto"
