"""Rows of the guard that pass by themselves with time: settling, persistence, cooldown, pace."""

import itertools

from trimtab.engine.actions.guard.guard_request import Ask, span, took_effect, turns
from trimtab.engine.actions.guard.situation import Decision, Past
from trimtab.engine.types import ActionState

HOUR_S, DAY_S = 3600.0, 86_400.0


def settling(ask: Ask) -> Decision | None:
    """An engine that has just started observes only."""
    left_s = ask.limits.settle - ask.situation.uptime_s
    if ask.person or left_s <= 0:
        return None
    return ask.wait("start-up", f"the engine runs for {span(ask.situation.uptime_s)}", left_s)


def persistence(ask: Ask) -> Decision | None:
    """A proposal stands for a while before it is believed."""
    stood, limits = ask.situation.standing, ask.limits
    if ask.person:
        return None
    left_s = limits.persistence - stood.since_s
    if stood.evaluations >= limits.evaluations and left_s <= 0:
        return None
    reason = (
        f"{stood.evaluations} evaluations in {span(stood.since_s)} came to it, "
        f"{limits.evaluations} in {span(limits.persistence)} are needed"
    )
    if left_s > 0:
        return ask.wait("persistence", reason, left_s)
    return ask.wait("persistence", f"{reason}; wait for the next")


def hold(ask: Ask) -> Decision | None:
    """A reduction goes no lower than the most that was asked for within the hold."""
    stood, limits = ask.situation.standing, ask.limits
    if ask.person or not ask.reduces:
        return None
    left_s = limits.hold - stood.since_s
    if left_s > 0:
        return ask.wait("reducing", f"a reduction of {ask.place} stands for {span(stood.since_s)}", left_s)
    if ask.proposal.is_action:
        return None
    after = ask.after
    if stood.most is None or after is None or after < stood.most:
        most = "an unknown value" if stood.most is None else f"a value of {stood.most:g}"
        return ask.wait(
            "reducing",
            f"{most} was asked for within {span(limits.hold)}, more than the proposed {after}; "
            "wait until that is past",
        )
    return None


def cooldown(ask: Ask) -> Decision | None:
    """A target is left alone after it was touched, longer after something was taken back."""
    waits = [(_cooldown_s(ask, past) - past.age_s, past) for past in ask.here]
    left_s, past = max(waits, key=lambda wait: wait[0], default=(0.0, None))
    if past is None or left_s <= 0:
        return None
    what = "a rollback" if _taken_back(past) else f"{past.action.subject}"
    return ask.wait("cooldown", f"{what} touched {ask.proposal.target} {span(past.age_s)} ago", left_s)


def _cooldown_s(ask: Ask, past: Past) -> float:
    return ask.limits.cooldown_after_rollback if _taken_back(past) else ask.limits.cooldown


def _taken_back(past: Past) -> bool:
    return past.action.undoes is not None or past.action.state is ActionState.ROLLED_BACK


def running(ask: Ask) -> Decision | None:
    """One change at a time of a target and of a group, and few in all."""
    open_ones = [past.action for past in ask.others if not past.action.state.is_final]
    here = [a for a in open_ones if (a.tool, a.target) == (ask.proposal.tool, ask.proposal.target)]
    if len(here) >= ask.limits.running_per_target:
        way = "wait for its end, or undo it" if ask.person else "wait for its end"
        return ask.wait("rate", f"{here[0].subject} of {ask.proposal.target} is being changed; {way}")
    for action in open_ones:
        if (action.tool, action.target, action.subject) in ask.situation.group:
            return ask.wait(
                "rate",
                f"{action.subject} of {action.target}, which acts on it, is being changed; wait for its end",
            )
    if len(open_ones) >= ask.limits.running:
        return ask.wait(
            "rate", f"{len(open_ones)} changes are running, {ask.limits.running} may; wait for one to end"
        )
    return None


def rate(ask: Ask) -> Decision | None:
    """So many changes an hour and a day, of all targets together."""
    limits = ask.limits
    for seconds, most, name in ((HOUR_S, limits.per_hour, "hour"), (DAY_S, limits.per_day, "day")):
        window_s = seconds * limits.time_scale
        ages = sorted(past.age_s for past in ask.others if past.age_s < window_s)
        if len(ages) >= most:
            reason = f"{len(ages)} changes were made within {span(window_s)}, {most} may be in one {name}"
            return ask.wait("rate", reason, window_s - ages[most - 1])
    return None


def breadth(ask: Ask) -> Decision | None:
    """Few targets are touched within a short time."""
    limits, in_all = ask.limits, ask.situation.targets_in_all
    most = max(1, int(limits.targets_share * in_all))
    ages = sorted(age for age in _ages_elsewhere(ask).values() if age < limits.targets_within)
    if len(ages) < most:
        return None
    within = span(limits.targets_within)
    reason = f"{len(ages)} other targets were touched within {within}, {most} of {in_all} may be"
    return ask.wait("targets", reason, limits.targets_within - ages[most - 1])


def _ages_elsewhere(ask: Ask) -> dict[tuple[str, str], float]:
    """Seconds since each other target was last touched."""
    newest: dict[tuple[str, str], float] = {}
    for past in ask.others:
        where = (past.action.tool, past.action.target)
        if where != (ask.proposal.tool, ask.proposal.target):
            newest[where] = min(past.age_s, newest.get(where, past.age_s))
    return newest


def lock(ask: Ask) -> Decision | None:
    """A target that was turned to and fro is left alone."""
    limits, ages, one_more = ask.limits, _turn_ages(ask), _turns_back(ask)
    if len(ages) + one_more < limits.reversals:
        return None
    frees = limits.reversals - 1 - one_more  # when this one is too old to count, it passes
    age_s = ages[frees] if frees >= 0 else ask.changes[0].age_s
    again = " and this would be once more" if one_more else ""
    reason = (
        f"{ask.proposal.target} was turned to and fro {len(ages)} times within {span(limits.lock)}{again}, "
        f"{limits.reversals} lock it"
    )
    return ask.wait("lock", reason, limits.lock - age_s)


def _turns_back(ask: Ask) -> bool:
    proposal, changes = ask.proposal, ask.changes
    if proposal.is_action or not changes or changes[0].age_s >= ask.limits.lock:
        return False
    return turns(changes[0], proposal.subject, proposal.before, proposal.after)


def _turn_ages(ask: Ask) -> list[float]:
    """Ages of this target's changes of direction within the lock's time, newest first."""
    by_knob: dict[str, list[Past]] = {}
    for past in ask.here:
        if not past.action.is_action and took_effect(past):
            by_knob.setdefault(past.action.subject, []).append(past)
    pairs = [pair for changes in by_knob.values() for pair in itertools.pairwise(changes)]
    ages = [later.age_s for later, before in pairs if _turned(before, later)]
    return sorted(age for age in ages if age < ask.limits.lock)


def _turned(before: Past, later: Past) -> bool:
    action = later.action
    return action.undoes == before.action.id or turns(before, action.subject, action.before, action.after)
