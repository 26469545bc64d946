"""The guard: decides whether a proposal is allowed, needs approval, or is refused, and why.

Pure functions. The rules run in order: pause, refusals, waits, approvals. The first rule that objects
decides.
"""

from trimtab.engine.actions.guard import (
    approval_rules,
    input_rules,
    plan_rules,
    rollback_rules,
    size_rules,
    wait_rules,
)
from trimtab.engine.actions.guard.guard_request import GuardRequest, GuardRule, make_guard_request
from trimtab.engine.actions.guard.situation import GuardDecision, GuardVerdict, Situation
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.types import Recommendation

__all__ = ["GuardDecision", "GuardVerdict", "Situation", "decide"]

REFUSAL_RULES: tuple[GuardRule, ...] = (
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
    size_rules.cache_warming,
    input_rules.freshness,
    input_rules.suspect_values,
    input_rules.reducing_inputs,
    input_rules.mass_breaker,
    wait_rules.reversal_lock,
)
WAIT_RULES: tuple[GuardRule, ...] = (
    wait_rules.start_up,
    wait_rules.persistence,
    wait_rules.reduction_hold,
    wait_rules.cooldown,
    wait_rules.concurrency,
    wait_rules.rate,
    wait_rules.target_rate,
)
SKIPPED_FOR_MANUAL_REVERT: tuple[GuardRule, ...] = (
    size_rules.step,
    size_rules.dead_band,
    wait_rules.cooldown,
)
"""Rules skipped when an operator manually restores an earlier value of the knob."""
APPROVAL_RULES: tuple[GuardRule, ...] = (
    approval_rules.mode,
    approval_rules.reversal,
    approval_rules.unbounded_knob,
    approval_rules.irreversible_change,
    approval_rules.uncertain_outcome,
)


def decide(
    proposal: Recommendation, situation: Situation, limits: Guardrails, person: bool = False
) -> GuardDecision:
    """Return whether a proposal may run now.

    person : whether an operator decided on it (an approver in the proposal counts). This replaces mode,
             persistence, reduction hold, start-up and the approval rules, and nothing else. A manual revert
             also skips SKIPPED_FOR_MANUAL_REVERT, a manual rollback also skips the pause.

    Call it when the action is journaled and again before it is sent: of two actions journaled at the same
    time only the earlier one passes the second call. Rollbacks (`situation.undoes`) have their own rules.

    >>> from trimtab.engine.actions.guard.situation_builder import manual_proposal
    >>> from trimtab.engine.types import Pause
    >>> paused = Situation(now=0, uptime_s=0, pause=Pause(on=True, by="ann"))
    >>> decide(manual_proposal("redis", "cache-1", "hz", 10, 12), paused, Guardrails()).reason
    'ann paused all actions; an operator has to resume'
    """
    request = make_guard_request(proposal, situation, limits, person)
    rules = _rules_for(request)
    objection = next((decision for rule in rules if (decision := rule(request)) is not None), None)
    return objection or request.allow(_allow_reason(request))


def _rules_for(request: GuardRequest) -> tuple[GuardRule, ...]:
    if request.situation.undoes is not None:
        return (
            rollback_rules.ROLLBACK_RULES
            if request.person
            else (plan_rules.pause, *rollback_rules.ROLLBACK_RULES)
        )
    approvals = () if request.person else APPROVAL_RULES
    rules = (plan_rules.pause, *REFUSAL_RULES, *WAIT_RULES, *approvals)
    return (
        tuple(rule for rule in rules if rule not in SKIPPED_FOR_MANUAL_REVERT)
        if request.is_manual_revert
        else rules
    )


def _allow_reason(request: GuardRequest) -> str:
    """Return why the proposal is allowed, with warnings for the operator."""
    words = f"{_authority(request)}, and it is within every limit"
    if (
        request.person
        and request.situation.undoes is None
        and (note := approval_rules.irreversible_change(request))
    ):
        words = f"{words}; {note.reason.removesuffix('; approve it')}"
    scale = request.limits.time_scale
    return words if scale == 1 else f"{words}, with durations scaled by {scale:g} for a trial target"


def _authority(request: GuardRequest) -> str:
    if request.person:
        return "an operator decided it"
    return (
        "it rolls back the engine's own change"
        if request.situation.undoes
        else f"the mode of {request.label} is auto"
    )
