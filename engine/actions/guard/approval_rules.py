"""Rows of the guard that ask for a person, and are silent once one has decided."""

from trimtab.engine.actions.guard.guard_request import Ask, direction, span, turns
from trimtab.engine.actions.guard.situation import Decision
from trimtab.engine.actions.guard.size_rules import largest_step
from trimtab.engine.types import ActionState, KnobType, Mode


def mode(ask: Ask) -> Decision | None:
    """How far the settings let the engine go."""
    if ask.situation.mode is Mode.AUTO:
        return None
    return ask.approve(
        "mode",
        f"the mode of {ask.place} is {ask.situation.mode}; approve it, or set tools.{ask.proposal.tool}.mode",
    )


def reversal(ask: Ask) -> Decision | None:
    """The opposite of what was done a moment ago."""
    changes, proposal, within_s = ask.changes, ask.proposal, ask.limits.reversal
    if proposal.is_action or not changes or changes[0].age_s >= within_s:
        return None
    if not turns(changes[0], proposal.subject, proposal.before, proposal.after):
        return None
    was, age = changes[0].action, span(changes[0].age_s)
    return ask.approve(
        "reversal",
        f"{ask.place} went {was.before!r} -> {was.after!r} {age} ago, and this turns it back within "
        f"{span(within_s)}; approve it, or wait",
    )


def unbounded(ask: Ask) -> Decision | None:
    """A number without a lowest or highest value, or without a step that can be measured."""
    knob, proposal = ask.situation.knob, ask.proposal
    if knob is None or knob.type not in {KnobType.INT, KnobType.FLOAT}:
        return None
    if knob.low is None or knob.high is None:
        return ask.approve(
            "bounds", f"{ask.place} has no lowest and highest value; approve it if it is right"
        )
    before, after = ask.before, ask.after
    if (
        proposal.before in {None, 0}
        or before is None
        or after is None
        or not largest_step(ask, knob, before, after)
    ):
        return ask.approve(
            "step",
            f"{ask.place} goes {proposal.before!r} -> {proposal.after!r}, a step without measure; "
            "approve it if it is right",
        )
    return None


def irreversible(ask: Ask) -> Decision | None:
    """What cannot be taken back."""
    knob = ask.situation.knob
    if knob is None:
        return None
    if knob.name == "maxmemory" and direction(ask.before, ask.after) < 0:
        return ask.approve(
            "irreversible", f"lowering {ask.place} evicts keys: setting reversible, data not; approve it"
        )
    if knob.reversible:
        return None
    return ask.approve("irreversible", f"{ask.place} cannot be set back; approve it if it is right")


def uncertain(ask: Ask) -> Decision | None:
    """Of the last touch of this target nobody knows what came, or it could not be taken back."""
    newest = next(iter(ask.here), None)
    if newest is None:
        return None
    action = newest.action
    undone_badly = action.undoes is not None and action.state is ActionState.FAILED
    if action.state is not ActionState.UNKNOWN and not undone_badly:
        return None
    what = "a rollback" if action.undoes else action.subject
    return ask.approve(
        "uncertain",
        f"{what} of {ask.proposal.target} ended {action.state} {span(newest.age_s)} ago; "
        "look at it, then approve",
    )
