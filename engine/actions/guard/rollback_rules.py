"""Guard rules for rollbacks. Rate limits, cooldown and denied values do not apply to them."""

from trimtab.engine.actions.guard import input_rules, plan_rules
from trimtab.engine.actions.guard.guard_request import GuardRequest, GuardRule
from trimtab.engine.actions.guard.situation import GuardDecision
from trimtab.engine.types import Action, ActionState


def _undone_action(request: GuardRequest) -> Action:
    assert request.situation.undoes is not None  # noqa: S101 - these rules run for rollbacks only
    return request.situation.undoes


def same_knob(request: GuardRequest) -> GuardDecision | None:
    """Refuse unless the rollback restores the exact previous value of the same knob."""
    proposal, action = request.proposal, _undone_action(request)
    place = (proposal.tool, proposal.target, proposal.subject, proposal.is_action)
    if action.is_action or place != (action.tool, action.target, action.subject, False):
        return request.refuse(
            "rollback", f"{request.label}: only a change of the same knob can be rolled back"
        )
    prior = action.before if action.set_before else None
    if proposal.after != prior or type(proposal.after) is not type(prior):
        return request.refuse(
            "rollback", f"{request.label} would go to {proposal.after!r}, it was {prior!r} before"
        )
    return None


def first_attempt(request: GuardRequest) -> GuardDecision | None:
    """Refuse a second rollback. An operator may retry a failed one; a refused one does not count."""
    action = _undone_action(request)
    for past in request.counted_actions:
        tried = past.action
        if tried.undoes != action.id or tried.state is ActionState.REFUSED:
            continue
        if not (request.person and tried.state is ActionState.FAILED):
            return request.refuse(
                "rollback",
                f"the change of {request.label} was rolled back before ({tried.state}); check it",
            )
    return None


def value_unchanged(request: GuardRequest) -> GuardDecision | None:
    """Refuse if the current value is not the one that the action set."""
    reading, action = request.situation.reading, _undone_action(request)
    if reading is None:
        return request.refuse("rollback", f"{request.label} cannot be read now; look at the tool's status")
    if reading.value != action.after:
        return request.refuse(
            "rollback",
            f"{request.label} is {reading.value!r}, not {action.after!r} as set: it was changed since, "
            "so it is not rolled back; check it",
        )
    return None


def no_other_change(request: GuardRequest) -> GuardDecision | None:
    """Refuse while another action on this target is running."""
    action = _undone_action(request)
    for past in request.target_actions:
        if not past.action.state.is_final and past.action.id != action.id:
            return request.wait(
                "rate",
                f"{past.action.subject} of {request.proposal.target} is being changed; wait until that ends",
            )
    return None


def mass_breaker(request: GuardRequest) -> GuardDecision | None:
    """Refuse automatic rollbacks during a mass anomaly."""
    return None if request.person else input_rules.mass_breaker(request)


ROLLBACK_RULES: tuple[GuardRule, ...] = (
    plan_rules.targets, plan_rules.subject, same_knob, first_attempt, value_unchanged, mass_breaker,
    no_other_change,
)  # fmt: skip
