"""Guard rules that require an operator's approval. They are skipped once an operator has decided."""

from trimtab.engine.actions.guard.guard_request import GuardRequest, direction, format_duration, is_reversal
from trimtab.engine.actions.guard.situation import GuardDecision
from trimtab.engine.actions.guard.size_rules import largest_step
from trimtab.engine.types import ActionState, KnobType, Mode


def mode(request: GuardRequest) -> GuardDecision | None:
    """Require approval unless the mode is auto."""
    if request.situation.mode is Mode.AUTO:
        return None
    return request.approve(
        "mode",
        f"the mode of {request.label} is {request.situation.mode}; approve it, or set "
        f"tools.{request.proposal.tool}.mode",
    )


def reversal(request: GuardRequest) -> GuardDecision | None:
    """Require approval for a change that reverses the newest change of the same knob."""
    changes, proposal, within_s = request.knob_changes, request.proposal, request.limits.reversal
    if proposal.is_action or not changes or changes[0].age_s >= within_s:
        return None
    if not is_reversal(changes[0], proposal.subject, proposal.before, proposal.after):
        return None
    was, age = changes[0].action, format_duration(changes[0].age_s)
    return request.approve(
        "reversal",
        f"{request.label} went {was.before!r} -> {was.after!r} {age} ago, and this turns it back within "
        f"{format_duration(within_s)}; approve it, or wait",
    )


def unbounded_knob(request: GuardRequest) -> GuardDecision | None:
    """Require approval for a numeric knob without bounds, or without a measurable step."""
    knob, proposal = request.situation.knob, request.proposal
    if knob is None or knob.type not in {KnobType.INT, KnobType.FLOAT}:
        return None
    if knob.low is None or knob.high is None:
        return request.approve(
            "bounds", f"{request.label} has no lower and upper bound; approve the change if it is right"
        )
    before, after = request.before_number, request.after_number
    if (
        proposal.before in {None, 0}
        or before is None
        or after is None
        or not largest_step(request, knob, before, after)
    ):
        return request.approve(
            "step",
            f"{request.label} goes {proposal.before!r} -> {proposal.after!r}, whose size cannot be measured; "
            "approve the change if it is right",
        )
    return None


def irreversible_change(request: GuardRequest) -> GuardDecision | None:
    """Require approval for a change that cannot be undone."""
    knob = request.situation.knob
    if knob is None:
        return None
    if knob.name == "maxmemory" and direction(request.before_number, request.after_number) < 0:
        return request.approve(
            "irreversible",
            f"lowering {request.label} evicts keys: setting reversible, data not; approve it",
        )
    if knob.reversible:
        return None
    return request.approve(
        "irreversible", f"{request.label} cannot be set back; approve the change if it is right"
    )


def uncertain_outcome(request: GuardRequest) -> GuardDecision | None:
    """Require approval if the newest action on the target has an unknown outcome or is a failed undo."""
    newest = next(iter(request.target_actions), None)
    if newest is None:
        return None
    action = newest.action
    undone_badly = action.undoes is not None and action.state is ActionState.FAILED
    if action.state is not ActionState.UNKNOWN and not undone_badly:
        return None
    what = "a rollback" if action.undoes else action.subject
    return request.approve(
        "uncertain",
        f"{what} of {request.proposal.target} ended {action.state} {format_duration(newest.age_s)} ago; "
        "check the target, then approve",
    )
