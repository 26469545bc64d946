"""From what a load needs to a draft of a change: a knob that counts replicas, one step of its way."""

from trimtab.engine.recommendations.remedies import Draft, amount, as_value
from trimtab.engine.recommendations.target_facts import Facts, stepped
from trimtab.engine.types import Capacity, Effect, Risk


def draft_of(capacity: Capacity, facts: Facts) -> Draft | None:
    """The change that is due; None where nothing is known, or the count fits."""
    now = facts.number(capacity.knob)
    if capacity.wanted is None or now is None or capacity.knob not in facts.knobs:
        return None
    knob = facts.knobs[capacity.knob][0]
    after = None if capacity.wanted == now else stepped(now, float(capacity.wanted), knob)
    if after is None:
        return None
    return Draft(
        facts, capacity.knob, False, facts.value(capacity.knob), as_value(after, knob),
        f"Scale {capacity.name} from {now:g} to {after:g} {capacity.kind}", _effect(capacity),
        _evidence(capacity, now, after), Risk.LOW if after > now else Risk.MEDIUM,
        _cost(capacity, now, after),
        "utilisation does not follow the count: something else is the bottleneck", capacity.confidence,
    )  # fmt: skip


def _effect(capacity: Capacity) -> Effect | None:
    """The load that comes in: a change of what serves it must not make it break off."""
    if capacity.load is None:
        return None
    path = capacity.path
    likely, high = (path.likely[-1], path.high[-1]) if path is not None else (capacity.load, capacity.load)
    return Effect(
        capacity.load_id, f"load of {capacity.name}", capacity.unit, capacity.load, likely,
        min(capacity.load, likely), max(capacity.load, high),
    )  # fmt: skip


def _evidence(capacity: Capacity, now: float, after: float) -> tuple[str, ...]:
    said = []
    path, unit = capacity.path, capacity.unit
    if path is not None and capacity.ahead is not None:
        highest = max(path.high)
        said.append(
            f"the load is forecast to stay below {amount(highest, unit)} for {path.ahead_s[-1] / 60:.0f} min "
            f"(but for a chance of {path.risk:.0%}), which takes {capacity.ahead} {capacity.kind}"
        )
    said.append(
        f"the load is {amount(capacity.load, unit)}; the reactive rule asks for {capacity.floor} "
        f"{capacity.kind} at least"
    )
    if capacity.capacity_per_replica is not None:
        one = capacity.capacity_per_replica
        said.append(
            f"one serves {amount(one.value, unit)} ({one.source}; {amount(one.low, unit)} to "
            f"{amount(one.high, unit)})"
        )
        if capacity.load is not None and now > 0 and after > 0:
            before, then = (capacity.load / count / one.value for count in (now, after))
            said.append(f"utilisation goes from {before:.0%} to {then:.0%}")
    return tuple(said)


def _cost(capacity: Capacity, now: float, after: float) -> str:
    if capacity.cost_per_day is None or not capacity.current:
        return f"{abs(after - now):g} {capacity.kind} {'more' if after > now else 'fewer'}"
    a_day = capacity.cost_per_day / capacity.current * (after - now)
    return f"{abs(a_day):.2f} a day {'more' if a_day > 0 else 'less'}"
