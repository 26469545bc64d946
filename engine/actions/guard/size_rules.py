"""Guard rules that refuse changes by their size and by their effect on memory and data."""

import math

from trimtab.engine.actions.guard.guard_request import GuardRequest, direction, format_value
from trimtab.engine.actions.guard.situation import GuardDecision
from trimtab.engine.types import Knob, KnobType, format_bytes

REPLICA_KNOBS = frozenset({"replicas", "instances"})
"""Knob names and units that count replicas of a service."""
MEMORY_KNOBS = frozenset(
    {
        "maxmemory", "max_memory_restart", "work_mem", "maintenance_work_mem", "autovacuum_work_mem",
        "logical_decoding_work_mem", "shared_buffers", "temp_buffers", "wal_buffers",
    }
)  # fmt: skip
"""Knobs whose increase uses more host memory."""
REDIS_POLICY_KNOB = "maxmemory-policy"


def step(request: GuardRequest) -> GuardDecision | None:
    """Refuse a change larger than a share of the value or the knob's own step."""
    sizes = _measurable_step(request)
    if sizes is None:
        return None
    knob, before, after = sizes
    most = largest_step(request, knob, before, after)
    if most is None or abs(after - before) <= most * (1 + 1e-9):
        return None
    edge = before + math.copysign(most, after - before)
    return request.refuse(
        "step",
        f"{request.label} {format_value(knob, before)} -> {format_value(knob, after)} is a step of "
        f"{format_value(knob, abs(after - before))}, at most {format_value(knob, most)} is allowed at once; "
        f"go to {format_value(knob, edge)} first",
    )


def largest_step(request: GuardRequest, knob: Knob, before: float, after: float) -> float | None:
    """Return the largest allowed step in the knob's unit; None = unknown (no own step, current value 0).

    A knob's own step applies in full only to increases of reversible knobs, and up to `limits.growth` times.
    """
    share = request.limits.step * abs(before)
    least = 1.0 if knob.type is KnobType.INT else 0.0
    if knob.step is None:
        most = share
    elif before and knob.reversible and direction(before, after) > 0:
        most = min(knob.step, (request.limits.growth - 1) * abs(before))
    else:
        most = min(knob.step, share) if before else knob.step
    return max(most, least) or None


def dead_band(request: GuardRequest) -> GuardDecision | None:
    """Refuse a change below the dead band."""
    sizes = _measurable_step(request)
    if sizes is None:
        return _no_change(request)
    knob, before, after = sizes
    least = request.limits.dead_band * abs(before)
    if knob.step is not None:
        least = min(least, knob.step)
    if after != before and abs(after - before) >= least * (1 - 1e-9):
        return None
    return request.refuse(
        "dead band",
        f"{request.label} {format_value(knob, before)} -> {format_value(knob, after)} changes it "
        f"by less than "
        f"{format_value(knob, least)}, the dead band; no change is needed",
    )


def _no_change(request: GuardRequest) -> GuardDecision | None:
    if request.proposal.is_action or request.proposal.after != request.proposal.before:
        return None
    return request.refuse(
        "dead band", f"{request.label} is {request.proposal.after!r} already; no change is needed"
    )


def _measurable_step(request: GuardRequest) -> tuple[Knob, float, float] | None:
    """Return knob, current and proposed value if the step can be measured, else None."""
    knob, before, after = request.situation.knob, request.before_number, request.after_number
    if knob is None or before is None or after is None or math.isinf(before) or math.isinf(after):
        return None
    return knob, before, after


def replicas(request: GuardRequest) -> GuardDecision | None:
    """Refuse a reduction below the minimum number of replicas."""
    knob, after, least = request.situation.knob, request.after_number, request.limits.fewest_replicas
    if knob is None or after is None or not REPLICA_KNOBS & {knob.name, knob.unit}:
        return None
    if not request.is_reduction or after >= least:
        return None
    return request.refuse("replicas", f"{request.label} would be {after:g}; the minimum is {least}")


def redis_policy(request: GuardRequest) -> GuardDecision | None:
    """Refuse eviction policies under which Redis would lose keys that must stay."""
    proposal, share = request.proposal, request.situation.ttl_share
    if proposal.is_action or proposal.subject != REDIS_POLICY_KNOB:
        return None
    before, after = str(proposal.before), str(proposal.after)
    if before == "noeviction":
        return request.refuse(
            "Redis policy", f"{proposal.target} never evicts now; with {after} a queue in it would lose jobs"
        )
    if not after.startswith("allkeys-") or before.startswith("allkeys-") or share == 1:
        return None
    expiring = "the share that expires is unknown" if share is None else f"{share:.0%} of them expire"
    return request.refuse(
        "Redis policy",
        f"{after} would evict keys of {proposal.target} that never expire ({expiring}); "
        "use volatile-*, or set TTLs",
    )


def memory(request: GuardRequest) -> GuardDecision | None:
    """Refuse an increase of a memory knob beyond the memory limit, or with an unknown limit."""
    knob, outlook = request.situation.knob, request.situation.memory
    if (
        knob is None
        or direction(request.before_number, request.after_number) <= 0
        or not (outlook or knob.name in MEMORY_KNOBS)
    ):
        return None
    share = request.limits.memory_share
    if outlook is None or outlook.limit_bytes is None:
        return request.refuse(
            "memory", f"the memory limit of {request.proposal.target} is unknown; set memory_limit"
        )
    projected = outlook.projected_bytes
    if projected is not None and projected <= share * outlook.limit_bytes:
        return None
    total = "unknown" if projected is None else format_bytes(projected)
    return request.refuse(
        "memory",
        f"{outlook.breakdown} = {total}, over {share:.0%} of {format_bytes(outlook.limit_bytes)} "
        f"({format_bytes(share * outlook.limit_bytes)}); raise {request.label} by less, or raise the limit",
    )


def cache_warming(request: GuardRequest) -> GuardDecision | None:
    """Refuse cache warming whose request rate or error rate exceeds the limits of the origin."""
    if not request.proposal.is_action or not request.proposal.subject.startswith("warm"):
        return None
    facts, limits = request.situation.warming, request.limits
    if facts is None or facts.asked_per_s is None or facts.origin_per_s is None or facts.errors is None:
        return request.refuse(
            "cache warming",
            f"the load on {request.proposal.target}'s origin is unknown; warm the cache manually",
        )
    if facts.errors >= limits.warm_errors:
        return request.refuse(
            "cache warming",
            f"{facts.errors:.1%} of the origin's answers are errors; the limit is {limits.warm_errors:.1%}",
        )
    most = min(limits.warm_per_s, limits.warm_share * facts.origin_per_s)
    if facts.asked_per_s <= most:
        return None
    return request.refuse(
        "cache warming",
        f"{facts.asked_per_s:g} requests/s exceed {most:g} (at most {limits.warm_per_s:g}, and "
        f"{limits.warm_share:.0%} of the origin's {facts.origin_per_s:g}); warm more slowly",
    )
