"""Scaling advice: turns the capacity of a service into one step of its replica knob."""

from trimtab.engine.recommendations.remedies import ChangeDraft, format_amount, knob_value
from trimtab.engine.recommendations.target_facts import TargetFacts, step_towards
from trimtab.engine.types import Capacity, Effect, Risk


def draft_scaling(capacity: Capacity, facts: TargetFacts) -> ChangeDraft | None:
    """Return the draft of the due step; None if the capacity is unknown or the count fits."""
    now = facts.knob_number(capacity.knob)
    if capacity.wanted is None or now is None or capacity.knob not in facts.knobs:
        return None
    knob = facts.knobs[capacity.knob][0]
    after = None if capacity.wanted == now else step_towards(now, float(capacity.wanted), knob)
    if after is None:
        return None
    return ChangeDraft(
        facts, capacity.knob, False, facts.knob_value(capacity.knob), knob_value(after, knob),
        f"Scale {capacity.name} from {now:g} to {after:g} {capacity.kind}", _effect(capacity),
        _evidence(capacity, now, after), Risk.LOW if after > now else Risk.MEDIUM,
        _cost(capacity, now, after),
        "utilisation does not follow the number of replicas: something else is the bottleneck",
        capacity.confidence,
    )  # fmt: skip


def _effect(capacity: Capacity) -> Effect | None:
    """Return the effect on the incoming load, which a scaling step must not reduce."""
    if capacity.load is None:
        return None
    path = capacity.path
    likely, high = (path.likely[-1], path.high[-1]) if path is not None else (capacity.load, capacity.load)
    return Effect(
        capacity.load_id, f"load of {capacity.name}", capacity.unit, capacity.load, likely,
        min(capacity.load, likely), max(capacity.load, high),
    )  # fmt: skip


def _evidence(capacity: Capacity, now: float, after: float) -> tuple[str, ...]:
    evidence = []
    path, unit = capacity.path, capacity.unit
    if path is not None and capacity.ahead is not None:
        highest = max(path.high)
        evidence.append(
            f"the load is forecast to stay below {format_amount(highest, unit)} for "
            f"{path.ahead_s[-1] / 60:.0f} min "
            f"(but for a chance of {path.risk:.0%}), which takes {capacity.ahead} {capacity.kind}"
        )
    evidence.append(
        f"the load is {format_amount(capacity.load, unit)}; the reactive rule asks for {capacity.floor} "
        f"{capacity.kind} at least"
    )
    if capacity.capacity_per_replica is not None:
        one = capacity.capacity_per_replica
        evidence.append(
            f"one replica serves {format_amount(one.value, unit)} ({one.source}; "
            f"{format_amount(one.low, unit)} to "
            f"{format_amount(one.high, unit)})"
        )
        if capacity.load is not None and now > 0 and after > 0:
            before, then = (capacity.load / count / one.value for count in (now, after))
            evidence.append(f"utilisation goes from {before:.0%} to {then:.0%}")
    return tuple(evidence)


def _cost(capacity: Capacity, now: float, after: float) -> str:
    if capacity.cost_per_day is None or not capacity.current:
        return f"{abs(after - now):g} {capacity.kind} {'more' if after > now else 'fewer'}"
    a_day = capacity.cost_per_day / capacity.current * (after - now)
    return f"{abs(a_day):.2f} a day {'more' if a_day > 0 else 'less'}"
