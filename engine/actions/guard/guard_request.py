"""One question to the guard, and what its rows have in common."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from trimtab.engine.actions.guard.situation import Decision, Past, Situation, Verdict
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import Action, ActionState, Knob, Recommendation, Value, format_bytes

UNLIMITED_AT_ZERO = frozenset({"maxmemory"})
"""Knobs of which 0 means that there is no limit."""


ENGINE = "trimtab"
"""Proposes what nobody asks for by hand."""


def _alike(one: Value, other: Value) -> bool:
    """The exact value: 1, True and 1.0 are three."""
    return type(one) is type(other) and one == other


@dataclass(frozen=True, slots=True)
class Ask:
    """A proposal in its situation.

    limits : scaled for the target
    person : a person decided it
    others : stored actions that count: sent ones, and those that are about to be sent before this one
    """

    proposal: Recommendation
    situation: Situation
    limits: Guardrails
    person: bool
    others: tuple[Past, ...]

    @property
    def place(self) -> str:
        """As people name it.

        >>> from trimtab.engine.actions.guard.situation_builder import by_hand
        >>> Ask(by_hand("redis", "cache-1", "hz", 10, 20), None, None, True, ()).place
        'hz of cache-1'
        """
        return f"{self.proposal.subject} of {self.proposal.target}"

    @property
    def before(self) -> float | None:
        """The value now as a number, infinite where there is no limit; None = it is no number."""
        return number(self.proposal.subject, self.proposal.before)

    @property
    def after(self) -> float | None:
        """The proposed value as a number, likewise."""
        return number(self.proposal.subject, self.proposal.after)

    @property
    def reduces(self) -> bool:
        """Whether it takes something away."""
        if self.proposal.is_action:
            return self.situation.action is not None and self.situation.action.reduces
        return direction(self.before, self.after) < 0

    @property
    def here(self) -> list[Past]:
        """Those of the others that touch this target, newest first."""
        wanted = (self.proposal.tool, self.proposal.target)
        mine = [past for past in self.others if (past.action.tool, past.action.target) == wanted]
        return sorted(mine, key=_newest_first)

    @property
    def changes(self) -> list[Past]:
        """Those of them that changed this very knob, newest first; what failed changed nothing."""
        return [
            past for past in self.here if past.action.subject == self.proposal.subject and took_effect(past)
        ]

    @property
    def steps_back(self) -> bool:
        """Whether somebody sets, by hand, a value that stood here before the changes that led to this one.

        What was taken back does not count: it did harm.
        """
        proposal, changes = self.proposal, self.changes
        if not self.person or proposal.is_action or proposal.proposer == ENGINE or not changes:
            return False
        newest = changes[0].action
        if newest.after is not None and not _alike(newest.after, proposal.before):
            return False  # somebody else set what is there now
        led = [past.action for past in changes if past.action.undoes is None]
        return any(
            _alike(action.before if action.set_before else None, proposal.after)
            for action in led
            if action.state is not ActionState.ROLLED_BACK
        )

    def allow(self, reason: str) -> Decision:
        """Nothing stands in the way."""
        return Decision(Verdict.ALLOW, "", reason)

    def approve(self, guard: str, reason: str) -> Decision:
        """A person has to agree."""
        return Decision(Verdict.APPROVE, guard, reason)

    def refuse(self, guard: str, reason: str) -> Decision:
        """It may not be done."""
        return Decision(Verdict.REFUSE, guard, reason)

    def wait(self, guard: str, reason: str, wait_s: float | None = None) -> Decision:
        """Not now; in `wait_s` seconds it may pass, None = unknown: the reason says what to wait for."""
        if wait_s is None:
            return Decision(Verdict.REFUSE, guard, reason)
        until = self.situation.now + math.ceil(wait_s * 1e9)
        return Decision(Verdict.REFUSE, guard, f"{reason}; wait {span(wait_s)}", until)


Row = Callable[[Ask], Decision | None]
"""A row of the guardrails: None where it lets the proposal pass."""


def ask_of(proposal: Recommendation, situation: Situation, limits: Guardrails, person: bool) -> Ask:
    """The question; an approval counts as a person's decision."""
    decided = person or bool(proposal.approver)
    if proposal.is_action:
        situation = replace(situation, knob=None)  # no row of values is about it
    others = tuple(_counted(proposal, situation))
    return Ask(proposal, situation, limits.scaled(situation.trial), decided, others)


def _counted(proposal: Recommendation, situation: Situation) -> list[Past]:
    """What of the past counts for this proposal.

    Of two that are about to be sent at the same time the earlier goes first: only the later sees the other.
    """
    waiting = [past for past in situation.recent if past.action.state is ActionState.PROPOSED]
    own = [past for past in waiting if _is_of(past.action, proposal)]
    ahead = [past for past in waiting if past not in own and (not own or _order(past) < _order(own[0]))]
    sent = [past for past in situation.recent if _was_sent(past)]
    return sent + ahead


def _is_of(action: Action, proposal: Recommendation) -> bool:
    by_recommendation = action.recommendation_id == proposal.id and action.undoes is None
    return action.id == proposal.id or by_recommendation


def _was_sent(past: Past) -> bool:
    action = past.action
    return action.state is not ActionState.PROPOSED and (
        action.started is not None or not action.state.is_final
    )


def _order(past: Past) -> tuple[int, str]:
    return past.action.created, past.action.id


def _newest_first(past: Past) -> tuple[float, int, str]:
    created, action_id = _order(past)
    return past.age_s, -created, action_id


def took_effect(past: Past) -> bool:
    """Whether it may have changed something."""
    return not past.action.state.changed_nothing


def number(subject: str, value: Value) -> float | None:
    """A value of a knob as a number.

    >>> number("hz", 10), number("maxmemory", 0), number("appendonly", True), number("policy", "lru")
    (10.0, inf, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.inf if value == 0 and subject in UNLIMITED_AT_ZERO else float(value)


def direction(before: float | None, after: float | None) -> int:
    """1 = up, -1 = down, 0 = neither, or unknown."""
    if before is None or after is None:
        return 0
    return (after > before) - (after < before)


def turns(past: Past, subject: str, before: Value, after: Value) -> bool:
    """Whether a change is the opposite of one before it: the other direction, or back to where it was."""
    was = past.action
    came_to = before if was.after is None else was.after  # a reset came to what is there now
    there = direction(number(subject, was.before), number(subject, came_to))
    back = direction(number(subject, before), number(subject, after))
    if there and back:
        return there == -back
    return was.before == after


def figure(knob: Knob, value: float) -> str:
    """A value of a knob with its unit.

    >>> from trimtab.engine.types import KnobType
    >>> figure(Knob("maxmemory", KnobType.INT, "B"), 2**30), figure(Knob("ttl", KnobType.INT, "s"), 30.0)
    ('1.0 GiB', '30 s')
    """
    return format_bytes(value) if knob.unit == "B" else f"{value:g} {knob.unit}".rstrip()


def span(seconds: float) -> str:
    """A duration as people write it.

    >>> span(0.2), span(90), span(3 * 3600)
    ('0.2 s', '1.5 min', '3 h')
    """
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
