"""Rows of the guard that refuse: how far a change goes, and what it does to memory and to data."""

import math

from trimtab.engine.actions.guard.guard_request import Ask, direction, figure
from trimtab.engine.actions.guard.situation import Decision
from trimtab.engine.types import Knob, KnobType, format_bytes

REPLICAS = frozenset({"replicas", "instances"})
"""Knobs, or units, that count copies of a service."""
MEMORY = frozenset(
    {
        "maxmemory", "max_memory_restart", "work_mem", "maintenance_work_mem", "autovacuum_work_mem",
        "logical_decoding_work_mem", "shared_buffers", "temp_buffers", "wal_buffers",
    }
)  # fmt: skip
"""Knobs of which more takes more of the host's memory."""
POLICY = "maxmemory-policy"


def step(ask: Ask) -> Decision | None:
    """No change is larger than a share of the value, or the knob's own step."""
    sizes = _sizes(ask)
    if sizes is None:
        return None
    knob, before, after = sizes
    most = largest_step(ask, knob, before, after)
    if most is None or abs(after - before) <= most * (1 + 1e-9):
        return None
    edge = before + math.copysign(most, after - before)
    return ask.refuse(
        "step",
        f"{ask.place} {figure(knob, before)} -> {figure(knob, after)} is a step of "
        f"{figure(knob, abs(after - before))}, at most {figure(knob, most)} may be at once; "
        f"go to {figure(knob, edge)} first",
    )


def largest_step(ask: Ask, knob: Knob, before: float, after: float) -> float | None:
    """In the knob's unit; None = unknown: it has no step of its own and starts at 0.

    A step of its own counts in full only upwards, where going back is possible, and to the double at most.
    """
    share = ask.limits.step * abs(before)
    least = 1.0 if knob.type is KnobType.INT else 0.0
    if knob.step is None:
        most = share
    elif before and knob.reversible and direction(before, after) > 0:
        most = min(knob.step, (ask.limits.growth - 1) * abs(before))
    else:
        most = min(knob.step, share) if before else knob.step
    return max(most, least) or None


def dead_band(ask: Ask) -> Decision | None:
    """A small change is not worth one."""
    sizes = _sizes(ask)
    if sizes is None:
        return _no_change(ask)
    knob, before, after = sizes
    least = ask.limits.dead_band * abs(before)
    if knob.step is not None:
        least = min(least, knob.step)
    if after != before and abs(after - before) >= least * (1 - 1e-9):
        return None
    return ask.refuse(
        "dead band",
        f"{ask.place} {figure(knob, before)} -> {figure(knob, after)} changes it by less than "
        f"{figure(knob, least)}, which is not worth it; leave it",
    )


def _no_change(ask: Ask) -> Decision | None:
    if ask.proposal.is_action or ask.proposal.after != ask.proposal.before:
        return None
    return ask.refuse("dead band", f"{ask.place} is {ask.proposal.after!r} already; leave it")


def _sizes(ask: Ask) -> tuple[Knob, float, float] | None:
    """Knob, before and after where a step can be measured."""
    knob, before, after = ask.situation.knob, ask.before, ask.after
    if knob is None or before is None or after is None or math.isinf(before) or math.isinf(after):
        return None
    return knob, before, after


def replicas(ask: Ask) -> Decision | None:
    """So few replicas are left that one may fail."""
    knob, after, least = ask.situation.knob, ask.after, ask.limits.fewest_replicas
    if knob is None or after is None or not REPLICAS & {knob.name, knob.unit}:
        return None
    if not ask.reduces or after >= least:
        return None
    return ask.refuse("replicas", f"{ask.place} would be {after:g}, at least {least} have to stay")


def redis_policy(ask: Ask) -> Decision | None:
    """A Redis that must not lose keys does not begin to."""
    proposal, share = ask.proposal, ask.situation.ttl_share
    if proposal.is_action or proposal.subject != POLICY:
        return None
    before, after = str(proposal.before), str(proposal.after)
    if before == "noeviction":
        return ask.refuse(
            "Redis policy", f"{proposal.target} never evicts now; with {after} a queue in it would lose jobs"
        )
    if not after.startswith("allkeys-") or before.startswith("allkeys-") or share == 1:
        return None
    told = "how many is unknown" if share is None else f"{share:.0%} of them expire"
    return ask.refuse(
        "Redis policy",
        f"{after} would evict keys of {proposal.target} that never expire ({told}); "
        "take volatile-*, or set TTLs",
    )


def memory(ask: Ask) -> Decision | None:
    """More memory is only given where the host, or its control group, has it."""
    knob, outlook = ask.situation.knob, ask.situation.memory
    if knob is None or direction(ask.before, ask.after) <= 0 or not (outlook or knob.name in MEMORY):
        return None
    share = ask.limits.memory_share
    if outlook is None or outlook.limit_bytes is None:
        return ask.refuse(
            "memory", f"how much memory {ask.proposal.target} may use is unknown; set memory_limit"
        )
    projected = outlook.projected_bytes
    if projected is not None and projected <= share * outlook.limit_bytes:
        return None
    total = "unknown" if projected is None else format_bytes(projected)
    return ask.refuse(
        "memory",
        f"{outlook.breakdown} = {total}, over {share:.0%} of {format_bytes(outlook.limit_bytes)} "
        f"({format_bytes(share * outlook.limit_bytes)}); raise {ask.place} less, or give it more memory",
    )


def warming(ask: Ask) -> Decision | None:
    """A cache is warmed so gently that its origin does not notice."""
    if not ask.proposal.is_action or not ask.proposal.subject.startswith("warm"):
        return None
    facts, limits = ask.situation.warming, ask.limits
    if facts is None or facts.asked_per_s is None or facts.origin_per_s is None or facts.errors is None:
        return ask.refuse(
            "cache warming", f"how {ask.proposal.target}'s origin does is unknown; warm it by hand"
        )
    if facts.errors >= limits.warm_errors:
        return ask.refuse(
            "cache warming",
            f"{facts.errors:.1%} of the origin's answers are errors, {limits.warm_errors:.1%} end it",
        )
    most = min(limits.warm_per_s, limits.warm_share * facts.origin_per_s)
    if facts.asked_per_s <= most:
        return None
    return ask.refuse(
        "cache warming",
        f"{facts.asked_per_s:g} requests/s are more than {most:g} (at most {limits.warm_per_s:g}, and "
        f"{limits.warm_share:.0%} of the origin's {facts.origin_per_s:g}); warm more slowly",
    )
