"""Guard rules that refuse: pause, targets, subject, mode, approval, plan, denied values and bounds."""

import math

from trimtab.engine.actions.guard.guard_request import (
    GuardRequest,
    format_duration,
    format_value,
    knob_number,
)
from trimtab.engine.actions.guard.situation import GuardDecision
from trimtab.engine.types import Knob, KnobType, Mode, Value

WILDCARDS = frozenset({"", "*", "all", "any"})
OFF_VALUES = frozenset({"off", "false", "no", "0"})
"""Values that PostgreSQL reads as off."""
DENIED_VALUES = frozenset(
    {
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("maxmemory-policy", "noeviction"),
    }
)
"""(knob, value) pairs that are never applied, whatever a tool declares."""


def pause(request: GuardRequest) -> GuardDecision | None:
    """Refuse everything while actions are paused."""
    switch = request.situation.pause
    if not switch.on:
        return None
    why = f" ({switch.reason})" if switch.reason else ""
    return request.refuse(
        "pause", f"{switch.by or 'somebody'} paused all actions{why}; an operator has to resume"
    )


def targets(request: GuardRequest) -> GuardDecision | None:
    """Refuse a target that the settings do not name, and any wildcard."""
    target, named = request.proposal.target, request.situation.targets
    wild = [name for name in (target, *named) if name.strip().lower() in WILDCARDS or "*" in name]
    setting = f"tools.{request.proposal.tool}.targets"
    if wild:
        return request.refuse("targets", f"{wild[0]!r} is not a single target; list each target in {setting}")
    if target in named:
        return None
    known = ", ".join(named) or "none"
    return request.refuse(
        "targets",
        f"{target!r} is not a target of {request.proposal.tool} ({known}); add it to {setting}",
    )


def subject(request: GuardRequest) -> GuardDecision | None:
    """Refuse a knob or action that the target does not have."""
    about, proposal = request.situation, request.proposal
    there = about.action if proposal.is_action else about.knob
    if there is not None and there.name == proposal.subject:
        return None
    kind = "action" if proposal.is_action else "knob"
    return request.refuse(
        "subject", f"{proposal.target} has no {kind} {proposal.subject!r} now; check {proposal.tool}"
    )


def switched_off(request: GuardRequest) -> GuardDecision | None:
    """Refuse automatic changes of a subject with mode `off`."""
    if request.person or request.situation.mode is not Mode.OFF:
        return None
    return request.refuse(
        "mode", f"{request.label} is off; set its mode in tools.{request.proposal.tool}.mode"
    )


def approval(request: GuardRequest) -> GuardDecision | None:
    """Refuse an approval by the proposer, or one that has expired."""
    proposal, age_s = request.proposal, request.situation.approval_age_s
    if not proposal.approver:
        return None
    if proposal.approver == proposal.proposer:
        return request.refuse("approval", f"{proposal.approver} proposed it; another operator has to approve")
    if age_s is None or age_s > request.limits.approval_life:
        age = "at an unknown time" if age_s is None else f"{format_duration(age_s)} ago"
        return request.refuse(
            "approval",
            f"{proposal.approver} approved it {age}; an approval is valid for "
            f"{format_duration(request.limits.approval_life)}; "
            "approve again",
        )
    return None


def plan(request: GuardRequest) -> GuardDecision | None:
    """Refuse an expired or outdated plan, or one that does not start from the current value."""
    proposal, about = request.proposal, request.situation
    if about.now >= proposal.expires:
        ago = format_duration((about.now - proposal.expires) / 1e9)
        return request.refuse("plan", f"the recommendation expired {ago} ago; use the newest one")
    if proposal.generation != about.generation:
        return request.refuse(
            "plan",
            f"it is generation {proposal.generation} of the plan, "
            f"the newest is {about.generation}; use the newest recommendation",
        )
    last_s, life_s = about.stability.last_s, request.limits.plan_life
    if not request.person and (last_s is None or last_s > life_s):
        age = "never evaluated" if last_s is None else f"last evaluated {format_duration(last_s)} ago"
        return request.refuse(
            "plan",
            f"it was {age}; a plan is valid for {format_duration(life_s)}; wait for the next evaluation",
        )
    return None if proposal.is_action else _check_value_unchanged(request)


def _check_value_unchanged(request: GuardRequest) -> GuardDecision | None:
    reading = request.situation.reading
    if reading is None:
        return request.refuse("plan", f"{request.label} cannot be read now; check the tool's status")
    if reading.value != request.proposal.before:
        return request.refuse(
            "plan",
            f"{request.label} is {reading.value!r}, not {request.proposal.before!r}: it was changed; "
            "use the newest recommendation",
        )
    return None


def denied(request: GuardRequest) -> GuardDecision | None:
    """Refuse values that are never applied."""
    knob, value = request.situation.knob, request.proposal.after
    if knob is None:
        return None
    plain = str(value).lower()
    plain = "off" if plain in OFF_VALUES else plain
    if value in knob.denied or (knob.name, plain) in DENIED_VALUES:
        return request.refuse(
            "denied", f"{request.label} = {value!r} is never applied: it trades safety away"
        )
    return None


def bounds(request: GuardRequest) -> GuardDecision | None:
    """Refuse a value that the knob does not accept."""
    knob, value = request.situation.knob, request.proposal.after
    if knob is None or value is None:
        return None
    wanted = _allowed_values(knob, value)
    return (
        None
        if wanted is None
        else request.refuse("bounds", f"{request.label} = {value!r}; it must be {wanted}")
    )


def _allowed_values(knob: Knob, value: Value) -> str | None:
    """Return the values that the knob accepts, as text; None = this value is accepted."""
    if knob.type is KnobType.CHOICE:
        return None if value in knob.choices else f"one of {', '.join(knob.choices) or 'nothing'}"
    if knob.type is KnobType.BOOL:
        return None if isinstance(value, bool) else "true or false"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "a number"
    if knob.type is KnobType.INT and value != int(value):
        return "a whole number"
    if knob_number(knob.name, value) == math.inf:
        return "above 0, which would lift the limit"
    if knob.low is not None and value < knob.low:
        return f"at least {format_value(knob, knob.low)}"
    if knob.high is not None and value > knob.high:
        return f"at most {format_value(knob, knob.high)}"
    return None
