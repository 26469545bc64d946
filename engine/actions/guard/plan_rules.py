"""Rows of the guard that refuse: whether it may be done at all, to this target, from this plan."""

import math

from trimtab.engine.actions.guard.guard_request import Ask, figure, number, span
from trimtab.engine.actions.guard.situation import Decision
from trimtab.engine.types import Knob, KnobType, Mode, Value

WILDCARDS = frozenset({"", "*", "all", "any"})
OFF = frozenset({"off", "false", "no", "0"})
"""What PostgreSQL reads as off."""
DENIED = frozenset(
    {
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("maxmemory-policy", "noeviction"),
    }
)
"""Never applied, whatever a tool says of its knobs: speed that costs safety is no gain."""


def pause(ask: Ask) -> Decision | None:
    """The kill switch beats everything."""
    switch = ask.situation.pause
    if not switch.on:
        return None
    why = f" ({switch.reason})" if switch.reason else ""
    return ask.refuse("pause", f"{switch.by or 'somebody'} paused all actions{why}; a person has to resume")


def targets(ask: Ask) -> Decision | None:
    """Only a target that the settings name, and never a wildcard."""
    target, named = ask.proposal.target, ask.situation.targets
    wild = [name for name in (target, *named) if name.strip().lower() in WILDCARDS or "*" in name]
    setting = f"tools.{ask.proposal.tool}.targets"
    if wild:
        return ask.refuse("targets", f"{wild[0]!r} names no single target; name each in {setting}")
    if target in named:
        return None
    known = ", ".join(named) or "none"
    return ask.refuse(
        "targets",
        f"{target!r} is not a target of {ask.proposal.tool} ({known}); add it to {setting}",
    )


def subject(ask: Ask) -> Decision | None:
    """The tool has such a knob or action."""
    about, proposal = ask.situation, ask.proposal
    there = about.action if proposal.is_action else about.knob
    if there is not None and there.name == proposal.subject:
        return None
    kind = "action" if proposal.is_action else "knob"
    return ask.refuse(
        "subject", f"{proposal.target} has no {kind} {proposal.subject!r} now; look at {proposal.tool}"
    )


def switched_off(ask: Ask) -> Decision | None:
    """Mode `off` asks for nothing."""
    if ask.person or ask.situation.mode is not Mode.OFF:
        return None
    return ask.refuse("mode", f"{ask.place} is off; set its mode in tools.{ask.proposal.tool}.mode")


def approval(ask: Ask) -> Decision | None:
    """An approver is somebody else than the proposer, and has not agreed too long ago."""
    proposal, age_s = ask.proposal, ask.situation.approval_age_s
    if not proposal.approver:
        return None
    if proposal.approver == proposal.proposer:
        return ask.refuse("approval", f"{proposal.approver} proposed it; somebody else has to approve")
    if age_s is None or age_s > ask.limits.approval_life:
        age = "at an unknown time" if age_s is None else f"{span(age_s)} ago"
        return ask.refuse(
            "approval",
            f"{proposal.approver} approved it {age}, which holds for {span(ask.limits.approval_life)}; "
            "approve again",
        )
    return None


def plan(ask: Ask) -> Decision | None:
    """A plan is young, of the newest knowledge, and starts from the value that is there."""
    proposal, about = ask.proposal, ask.situation
    if about.now >= proposal.expires:
        ago = span((about.now - proposal.expires) / 1e9)
        return ask.refuse("plan", f"the recommendation expired {ago} ago; look at the newest")
    if proposal.generation != about.generation:
        return ask.refuse(
            "plan",
            f"it was made from generation {proposal.generation} of what is known, "
            f"now it is {about.generation}; look at the newest recommendation",
        )
    last_s, life_s = about.standing.last_s, ask.limits.plan_life
    if not ask.person and (last_s is None or last_s > life_s):
        age = "never evaluated" if last_s is None else f"last evaluated {span(last_s)} ago"
        return ask.refuse("plan", f"it was {age}, and holds for {span(life_s)}; wait for the next time")
    return None if proposal.is_action else _still_there(ask)


def _still_there(ask: Ask) -> Decision | None:
    reading = ask.situation.reading
    if reading is None:
        return ask.refuse("plan", f"{ask.place} cannot be read now; look at the tool's status")
    if reading.value != ask.proposal.before:
        return ask.refuse(
            "plan",
            f"{ask.place} is {reading.value!r}, not {ask.proposal.before!r}: somebody changed it; "
            "look at the newest recommendation",
        )
    return None


def denied(ask: Ask) -> Decision | None:
    """Values that are never applied."""
    knob, value = ask.situation.knob, ask.proposal.after
    if knob is None:
        return None
    plain = str(value).lower()
    plain = "off" if plain in OFF else plain
    if value in knob.denied or (knob.name, plain) in DENIED:
        return ask.refuse("denied", f"{ask.place} = {value!r} is never applied: it trades safety away")
    return None


def bounds(ask: Ask) -> Decision | None:
    """The value is one that the knob can take."""
    knob, value = ask.situation.knob, ask.proposal.after
    if knob is None or value is None:
        return None
    wanted = _wanted(knob, value)
    return None if wanted is None else ask.refuse("bounds", f"{ask.place} = {value!r}; it must be {wanted}")


def _wanted(knob: Knob, value: Value) -> str | None:
    """What the knob takes instead; None = this value is fine."""
    if knob.type is KnobType.CHOICE:
        return None if value in knob.choices else f"one of {', '.join(knob.choices) or 'nothing'}"
    if knob.type is KnobType.BOOL:
        return None if isinstance(value, bool) else "true or false"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "a number"
    if knob.type is KnobType.INT and value != int(value):
        return "a whole number"
    if number(knob.name, value) == math.inf:
        return "above 0, which would lift the limit"
    if knob.low is not None and value < knob.low:
        return f"at least {figure(knob, knob.low)}"
    if knob.high is not None and value > knob.high:
        return f"at most {figure(knob, knob.high)}"
    return None
