"""Recommendation + situation -> may it be done now, has a person to agree, or not, and why.

Pure: times, ids and facts are arguments. The rows stand in their order: the kill switch, what is refused,
what passes with time, what needs a person. The first row that says something decides.
"""

from trimtab.engine.acting import (
    guard_approvals,
    guard_inputs,
    guard_plan,
    guard_rollback,
    guard_size,
    guard_waits,
)
from trimtab.engine.acting.facts import Decision, Situation, Verdict
from trimtab.engine.acting.guard_ask import Ask, Row, ask_of
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import Recommendation

__all__ = ["Decision", "Situation", "Verdict", "decide"]

REFUSALS: tuple[Row, ...] = (
    guard_plan.targets,
    guard_plan.switched_off,
    guard_plan.subject,
    guard_plan.approval,
    guard_plan.plan,
    guard_plan.denied,
    guard_plan.bounds,
    guard_size.replicas,
    guard_size.redis_policy,
    guard_size.memory,
    guard_size.step,
    guard_size.dead_band,
    guard_size.warming,
    guard_inputs.freshness,
    guard_inputs.suspect,
    guard_inputs.reducing_inputs,
    guard_inputs.mass,
    guard_waits.lock,
)
WAITS: tuple[Row, ...] = (
    guard_waits.settling,
    guard_waits.persistence,
    guard_waits.hold,
    guard_waits.cooldown,
    guard_waits.running,
    guard_waits.rate,
    guard_waits.breadth,
)
SIZES: tuple[Row, ...] = (guard_size.step, guard_size.dead_band, guard_waits.cooldown)
"""Rows that a person passes on the way back to a value that stood before."""
APPROVALS: tuple[Row, ...] = (
    guard_approvals.mode,
    guard_approvals.reversal,
    guard_approvals.unbounded,
    guard_approvals.irreversible,
    guard_approvals.uncertain,
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

    >>> from trimtab.engine.acting.situation import by_hand
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
        return guard_rollback.ROWS if ask.person else (guard_plan.pause, *guard_rollback.ROWS)
    asked = () if ask.person else APPROVALS
    every = (guard_plan.pause, *REFUSALS, *WAITS, *asked)
    return tuple(row for row in every if row not in SIZES) if ask.steps_back else every


def _within(ask: Ask) -> str:
    """Why it may be done, and what people should know of it."""
    words = f"{_who(ask)}, and it keeps within every limit"
    if ask.person and ask.situation.undoes is None and (note := guard_approvals.irreversible(ask)):
        words = f"{words}; {note.reason.removesuffix('; approve it')}"
    scale = ask.limits.time_scale
    return words if scale == 1 else f"{words}, at {scale:g} of their times: a trial"


def _who(ask: Ask) -> str:
    if ask.person:
        return "a person decided it"
    return "it takes back an own change" if ask.situation.undoes else f"the mode of {ask.place} is auto"
