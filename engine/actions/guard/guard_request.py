"""A request to the guard, with the helpers that its rules share."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from trimtab.engine.actions.guard.situation import AgedAction, GuardDecision, GuardVerdict, Situation
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import Action, ActionState, Knob, Recommendation, Value, format_bytes

UNLIMITED_AT_ZERO = frozenset({"maxmemory"})
"""Knobs for which 0 means no limit."""


ENGINE = "trimtab"
"""Proposer name of automatic recommendations."""


def _is_identical(one: Value, other: Value) -> bool:
    """Return whether value and type are equal: 1, True and 1.0 differ."""
    return type(one) is type(other) and one == other


@dataclass(frozen=True, slots=True)
class GuardRequest:
    """A proposal and the situation to judge it in.

    limits          : guard settings, scaled for the target
    person          : whether an operator decided on the proposal
    counted_actions : stored actions that count: sent ones, and proposed ones that go before this one
    """

    proposal: Recommendation
    situation: Situation
    limits: Guardrails
    person: bool
    counted_actions: tuple[AgedAction, ...]

    @property
    def label(self) -> str:
        """Name of the knob or action and its target.

        >>> from trimtab.engine.actions.guard.situation_builder import manual_proposal
        >>> GuardRequest(manual_proposal("redis", "cache-1", "hz", 10, 20), None, None, True, ()).label
        'hz of cache-1'
        """
        return f"{self.proposal.subject} of {self.proposal.target}"

    @property
    def before_number(self) -> float | None:
        """Current value as a number; infinite = no limit, None = not a number."""
        return knob_number(self.proposal.subject, self.proposal.before)

    @property
    def after_number(self) -> float | None:
        """Proposed value as a number; infinite = no limit, None = not a number."""
        return knob_number(self.proposal.subject, self.proposal.after)

    @property
    def is_reduction(self) -> bool:
        """Whether the proposal reduces capacity."""
        if self.proposal.is_action:
            return self.situation.action is not None and self.situation.action.reduces
        return direction(self.before_number, self.after_number) < 0

    @property
    def target_actions(self) -> list[AgedAction]:
        """Counted actions on this target, newest first."""
        wanted = (self.proposal.tool, self.proposal.target)
        mine = [past for past in self.counted_actions if (past.action.tool, past.action.target) == wanted]
        return sorted(mine, key=_newest_first)

    @property
    def knob_changes(self) -> list[AgedAction]:
        """Counted actions that changed this knob, newest first; failed ones are left out."""
        return [
            past
            for past in self.target_actions
            if past.action.subject == self.proposal.subject and may_have_taken_effect(past)
        ]

    @property
    def is_manual_revert(self) -> bool:
        """Whether an operator manually restores an earlier value of the knob.

        Values before rolled-back changes do not count.
        """
        proposal, changes = self.proposal, self.knob_changes
        if not self.person or proposal.is_action or proposal.proposer == ENGINE or not changes:
            return False
        newest = changes[0].action
        if newest.after is not None and not _is_identical(newest.after, proposal.before):
            return False  # the current value was set by something else
        own_changes = [past.action for past in changes if past.action.undoes is None]
        return any(
            _is_identical(action.before if action.set_before else None, proposal.after)
            for action in own_changes
            if action.state is not ActionState.ROLLED_BACK
        )

    def allow(self, reason: str) -> GuardDecision:
        """Return a decision that allows the proposal."""
        return GuardDecision(GuardVerdict.ALLOW, "", reason)

    def approve(self, guard: str, reason: str) -> GuardDecision:
        """Return a decision that requires approval."""
        return GuardDecision(GuardVerdict.APPROVE, guard, reason)

    def refuse(self, guard: str, reason: str) -> GuardDecision:
        """Return a decision that refuses the proposal."""
        return GuardDecision(GuardVerdict.REFUSE, guard, reason)

    def wait(self, guard: str, reason: str, wait_s: float | None = None) -> GuardDecision:
        """Return a refusal that ends in `wait_s` seconds; None = unknown."""
        if wait_s is None:
            return GuardDecision(GuardVerdict.REFUSE, guard, reason)
        until = self.situation.now + math.ceil(wait_s * 1e9)
        return GuardDecision(GuardVerdict.REFUSE, guard, f"{reason}; wait {format_duration(wait_s)}", until)


GuardRule = Callable[[GuardRequest], GuardDecision | None]
"""A guard rule: returns its decision, or None if it does not object."""


def make_guard_request(
    proposal: Recommendation, situation: Situation, limits: Guardrails, person: bool
) -> GuardRequest:
    """Build the request; an approval counts as an operator's decision."""
    decided = person or bool(proposal.approver)
    if proposal.is_action:
        situation = replace(situation, knob=None)  # the knob rules do not apply to actions
    others = tuple(_counted_actions(proposal, situation))
    return GuardRequest(proposal, situation, limits.scaled(situation.trial), decided, others)


def _counted_actions(proposal: Recommendation, situation: Situation) -> list[AgedAction]:
    """Return the stored actions that count for this proposal.

    Of two proposed actions the earlier one goes first: only the later one counts the other.
    """
    waiting = [past for past in situation.recent_actions if past.action.state is ActionState.PROPOSED]
    own = [past for past in waiting if _carries_out(past.action, proposal)]
    ahead = [past for past in waiting if past not in own and (not own or _order(past) < _order(own[0]))]
    sent = [past for past in situation.recent_actions if _was_sent(past)]
    return sent + ahead


def _carries_out(action: Action, proposal: Recommendation) -> bool:
    by_recommendation = action.recommendation_id == proposal.id and action.undoes is None
    return action.id == proposal.id or by_recommendation


def _was_sent(past: AgedAction) -> bool:
    action = past.action
    return action.state is not ActionState.PROPOSED and (
        action.started is not None or not action.state.is_final
    )


def _order(past: AgedAction) -> tuple[int, str]:
    return past.action.created, past.action.id


def _newest_first(past: AgedAction) -> tuple[float, int, str]:
    created, action_id = _order(past)
    return past.age_s, -created, action_id


def may_have_taken_effect(past: AgedAction) -> bool:
    """Return whether the action may have changed its target."""
    return not past.action.state.changed_nothing


def knob_number(subject: str, value: Value) -> float | None:
    """Return a knob's value as a number; inf = no limit, None = not a number.

    >>> [knob_number(*pair) for pair in (("hz", 10), ("maxmemory", 0), ("aof", True), ("policy", "lru"))]
    [10.0, inf, None, None]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.inf if value == 0 and subject in UNLIMITED_AT_ZERO else float(value)


def direction(before: float | None, after: float | None) -> int:
    """Return 1 for an increase, -1 for a decrease, 0 if equal or unknown."""
    if before is None or after is None:
        return 0
    return (after > before) - (after < before)


def is_reversal(past: AgedAction, subject: str, before: Value, after: Value) -> bool:
    """Return whether a change reverses an earlier one: opposite direction, or back to its previous value."""
    was = past.action
    came_to = before if was.after is None else was.after  # a reset returned to the current value
    there = direction(knob_number(subject, was.before), knob_number(subject, came_to))
    back = direction(knob_number(subject, before), knob_number(subject, after))
    if there and back:
        return there == -back
    return was.before == after


def format_value(knob: Knob, value: float) -> str:
    """Format a knob's value with its unit.

    >>> from trimtab.engine.types import KnobType
    >>> [format_value(Knob("size", KnobType.INT, unit), x) for unit, x in (("B", 2**30), ("s", 30.0))]
    ['1.0 GiB', '30 s']
    """
    return format_bytes(value) if knob.unit == "B" else f"{value:g} {knob.unit}".rstrip()


def format_duration(seconds: float) -> str:
    """Format a duration in seconds.

    >>> format_duration(0.2), format_duration(90), format_duration(3 * 3600)
    ('0.2 s', '1.5 min', '3 h')
    """
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
