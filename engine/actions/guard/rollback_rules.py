"""Taking back an own change: little stands in its way, and no rate, cooldown or denied value."""

from trimtab.engine.actions.guard import input_rules, plan_rules
from trimtab.engine.actions.guard.guard_request import Ask, Row
from trimtab.engine.actions.guard.situation import Decision
from trimtab.engine.types import Action, ActionState


def _undone(ask: Ask) -> Action:
    assert ask.situation.undoes is not None  # noqa: S101 - these rows are asked of rollbacks only
    return ask.situation.undoes


def same_place(ask: Ask) -> Decision | None:
    """It takes back a change of this knob, to the exact value before."""
    proposal, action = ask.proposal, _undone(ask)
    place = (proposal.tool, proposal.target, proposal.subject, proposal.is_action)
    if action.is_action or place != (action.tool, action.target, action.subject, False):
        return ask.refuse("rollback", f"{ask.place}: only a change of the same knob can be taken back")
    prior = action.before if action.set_before else None
    if proposal.after != prior or type(proposal.after) is not type(prior):
        return ask.refuse("rollback", f"{ask.place} would go to {proposal.after!r}, it was {prior!r} before")
    return None


def once(ask: Ask) -> Decision | None:
    """A rollback is tried once; one that failed a person may try again, one that was refused was none."""
    action = _undone(ask)
    for past in ask.others:
        tried = past.action
        if tried.undoes != action.id or tried.state is ActionState.REFUSED:
            continue
        if not (ask.person and tried.state is ActionState.FAILED):
            return ask.refuse(
                "rollback", f"the change of {ask.place} was taken back before ({tried.state}); look at it"
            )
    return None


def still_ours(ask: Ask) -> Decision | None:
    """The value is the one that we set."""
    reading, action = ask.situation.reading, _undone(ask)
    if reading is None:
        return ask.refuse("rollback", f"{ask.place} cannot be read now; look at the tool's status")
    if reading.value != action.after:
        return ask.refuse(
            "rollback",
            f"{ask.place} is {reading.value!r}, not our {action.after!r}: somebody changed it since, "
            "so it is left; look at it",
        )
    return None


def alone(ask: Ask) -> Decision | None:
    """Nothing else of this target is being changed."""
    action = _undone(ask)
    for past in ask.here:
        if not past.action.state.is_final and past.action.id != action.id:
            return ask.wait(
                "rate", f"{past.action.subject} of {ask.proposal.target} is being changed; wait for its end"
            )
    return None


def mass(ask: Ask) -> Decision | None:
    """While much is wrong at once only a person takes something back."""
    return None if ask.person else input_rules.mass(ask)


ROWS: tuple[Row, ...] = (
    plan_rules.targets, plan_rules.subject, same_place, once, still_ours, mass, alone,
)  # fmt: skip
