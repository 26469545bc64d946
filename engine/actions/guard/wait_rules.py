"""Guard rules that pass with time: start-up, persistence, reduction hold, cooldown, rates and locks."""

import itertools

from trimtab.engine.actions.guard.guard_request import (
    GuardRequest,
    format_duration,
    is_reversal,
    may_have_taken_effect,
)
from trimtab.engine.actions.guard.situation import AgedAction, GuardDecision
from trimtab.engine.types import ActionState

HOUR_S, DAY_S = 3600.0, 86_400.0


def start_up(request: GuardRequest) -> GuardDecision | None:
    """Refuse automatic changes for a while after the start."""
    left_s = request.limits.settle - request.situation.uptime_s
    if request.person or left_s <= 0:
        return None
    return request.wait(
        "start-up", f"the engine started {format_duration(request.situation.uptime_s)} ago", left_s
    )


def persistence(request: GuardRequest) -> GuardDecision | None:
    """Refuse until enough consecutive evaluations produced the proposal for long enough."""
    stability, limits = request.situation.stability, request.limits
    if request.person:
        return None
    left_s = limits.persistence - stability.since_s
    if stability.evaluations >= limits.evaluations and left_s <= 0:
        return None
    reason = (
        f"{stability.evaluations} evaluations in {format_duration(stability.since_s)} produced it, "
        f"{limits.evaluations} in {format_duration(limits.persistence)} are needed"
    )
    if left_s > 0:
        return request.wait("persistence", reason, left_s)
    return request.wait("persistence", f"{reason}; wait for the next")


def reduction_hold(request: GuardRequest) -> GuardDecision | None:
    """Refuse a reduction below the maximum proposed within the hold (as in Kubernetes' HPA)."""
    stability, limits = request.situation.stability, request.limits
    if request.person or not request.is_reduction:
        return None
    left_s = limits.hold - stability.since_s
    if left_s > 0:
        return request.wait(
            "reducing",
            f"a reduction of {request.label} was proposed for {format_duration(stability.since_s)}",
            left_s,
        )
    if request.proposal.is_action:
        return None
    after = request.after_number
    if stability.max_value is None or after is None or after < stability.max_value:
        most = "an unknown maximum" if stability.max_value is None else f"a value of {stability.max_value:g}"
        return request.wait(
            "reducing",
            f"{most} was proposed within {format_duration(limits.hold)}, more than the proposed {after}; "
            "wait until that has passed",
        )
    return None


def cooldown(request: GuardRequest) -> GuardDecision | None:
    """Refuse during the cooldown after an action on the target, which is longer after a rollback."""
    waits = [(_cooldown_s(request, past) - past.age_s, past) for past in request.target_actions]
    left_s, past = max(waits, key=lambda wait: wait[0], default=(0.0, None))
    if past is None or left_s <= 0:
        return None
    what = "a rollback" if _was_rolled_back(past) else f"{past.action.subject}"
    return request.wait(
        "cooldown", f"{what} changed {request.proposal.target} {format_duration(past.age_s)} ago", left_s
    )


def _cooldown_s(request: GuardRequest, past: AgedAction) -> float:
    return request.limits.cooldown_after_rollback if _was_rolled_back(past) else request.limits.cooldown


def _was_rolled_back(past: AgedAction) -> bool:
    return past.action.undoes is not None or past.action.state is ActionState.ROLLED_BACK


def concurrency(request: GuardRequest) -> GuardDecision | None:
    """Limit running changes: one per target, one per group of coupled knobs, and a total."""
    open_ones = [past.action for past in request.counted_actions if not past.action.state.is_final]
    here = [a for a in open_ones if (a.tool, a.target) == (request.proposal.tool, request.proposal.target)]
    if len(here) >= request.limits.running_per_target:
        advice = "wait until that ends, or undo it" if request.person else "wait until that ends"
        return request.wait(
            "rate", f"{here[0].subject} of {request.proposal.target} is being changed; {advice}"
        )
    for action in open_ones:
        if (action.tool, action.target, action.subject) in request.situation.coupled_knobs:
            return request.wait(
                "rate",
                f"{action.subject} of {action.target}, which affects it, is being changed; "
                "wait until that ends",
            )
    if len(open_ones) >= request.limits.running:
        return request.wait(
            "rate",
            f"{len(open_ones)} changes are running, {request.limits.running} are allowed; "
            "wait until one ends",
        )
    return None


def rate(request: GuardRequest) -> GuardDecision | None:
    """Limit the changes of all targets per hour and per day."""
    limits = request.limits
    for seconds, most, name in ((HOUR_S, limits.per_hour, "hour"), (DAY_S, limits.per_day, "day")):
        window_s = seconds * limits.time_scale
        ages = sorted(past.age_s for past in request.counted_actions if past.age_s < window_s)
        if len(ages) >= most:
            within = format_duration(window_s)
            reason = f"{len(ages)} changes were made within {within}, {most} are allowed per {name}"
            return request.wait("rate", reason, window_s - ages[most - 1])
    return None


def target_rate(request: GuardRequest) -> GuardDecision | None:
    """Limit the share of targets changed within a short time."""
    limits, in_all = request.limits, request.situation.total_targets
    most = max(1, int(limits.targets_share * in_all))
    ages = sorted(age for age in _ages_of_other_targets(request).values() if age < limits.targets_within)
    if len(ages) < most:
        return None
    within = format_duration(limits.targets_within)
    reason = f"{len(ages)} other targets were changed within {within}, {most} of {in_all} are allowed"
    return request.wait("targets", reason, limits.targets_within - ages[most - 1])


def _ages_of_other_targets(request: GuardRequest) -> dict[tuple[str, str], float]:
    """Return the seconds since each other target was last changed."""
    newest: dict[tuple[str, str], float] = {}
    for past in request.counted_actions:
        where = (past.action.tool, past.action.target)
        if where != (request.proposal.tool, request.proposal.target):
            newest[where] = min(past.age_s, newest.get(where, past.age_s))
    return newest


def reversal_lock(request: GuardRequest) -> GuardDecision | None:
    """Refuse changes of a target that was reversed too often."""
    limits, ages, one_more = request.limits, _reversal_ages(request), _is_another_reversal(request)
    if len(ages) + one_more < limits.reversals:
        return None
    frees = limits.reversals - 1 - one_more  # when this one is too old to count, it passes
    age_s = ages[frees] if frees >= 0 else request.knob_changes[0].age_s
    again = " and this would be another reversal" if one_more else ""
    reason = (
        f"{request.proposal.target} had {len(ages)} reversals within {format_duration(limits.lock)}{again}, "
        f"{limits.reversals} lock it"
    )
    return request.wait("lock", reason, limits.lock - age_s)


def _is_another_reversal(request: GuardRequest) -> bool:
    proposal, changes = request.proposal, request.knob_changes
    if proposal.is_action or not changes or changes[0].age_s >= request.limits.lock:
        return False
    return is_reversal(changes[0], proposal.subject, proposal.before, proposal.after)


def _reversal_ages(request: GuardRequest) -> list[float]:
    """Return the ages of this target's reversals within the lock time, newest first."""
    by_knob: dict[str, list[AgedAction]] = {}
    for past in request.target_actions:
        if not past.action.is_action and may_have_taken_effect(past):
            by_knob.setdefault(past.action.subject, []).append(past)
    pairs = [pair for changes in by_knob.values() for pair in itertools.pairwise(changes)]
    ages = [later.age_s for later, before in pairs if _is_reversal_pair(before, later)]
    return sorted(age for age in ages if age < request.limits.lock)


def _is_reversal_pair(before: AgedAction, later: AgedAction) -> bool:
    action = later.action
    return action.undoes == before.action.id or is_reversal(
        before, action.subject, action.before, action.after
    )
