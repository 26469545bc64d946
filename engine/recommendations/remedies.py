"""What helps against what: a named optimisation and a target's facts -> a draft of a change.

An optimisation is named "kind.subject", as "redis.maxmemory": a kind of tool, and a knob or an action of it.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trimtab.engine.recommendations.effects import hit_ratio_after, memory_after_restart
from trimtab.engine.recommendations.target_facts import Facts, stepped
from trimtab.engine.types import Effect, Knob, Risk, Value

HIT_RATIO = "redis_hit_ratio"


@dataclass(frozen=True, slots=True)
class Draft:
    """A change that would help, before it is known whether it is wanted now.

    certainty : 0..1, how sure it is that this change acts on the pattern's cause
    """

    facts: Facts
    subject: str
    is_action: bool
    before: Value
    after: Value
    title: str
    effect: Effect | None
    evidence: tuple[str, ...]
    risk: Risk
    cost: str
    disproof: str
    certainty: float


Remedy = Callable[[Facts], "Draft | None"]


def draft(name: str, facts: Facts) -> Draft | None:
    """The change that optimisation `name` means for this target; None where it does not fit it now."""
    kind, _, subject = name.partition(".")
    if kind != facts.kind:
        return None
    if name in REMEDIES:
        return REMEDIES[name](facts)
    if action := _called(subject, facts.actions):
        return _run(facts, action)
    knob = _called(subject, facts.knobs)
    return _raise(facts, knob) if knob else None


def _called(subject: str, names: Iterable[str]) -> str | None:
    """What a tool calls a subject: that, or the only name with the same last word, as `sessions_size`.

    >>> _called("cache_size", ["sessions_size", "pool"]), _called("cache_size", ["a_size", "b_size"])
    ('sessions_size', None)
    """
    known = list(names)
    if subject in known:
        return subject
    alike = [name for name in known if name.endswith(f"_{subject.rpartition('_')[2]}")]
    return alike[0] if len(alike) == 1 else None


def _raise(facts: Facts, subject: str) -> Draft | None:
    """A knob of which more is known to help, by one step."""
    now = facts.number(subject)
    if now is None:
        return None
    knob = facts.knobs[subject][0]
    after = stepped(now, 2.0 * now if now > 0 else math.inf, knob)
    if after is None:
        return None
    return Draft(
        facts, subject, False, facts.value(subject), as_value(after, knob),
        f"Raise {subject} of {facts.target} from {amount(now, knob.unit)} to {amount(after, knob.unit)}",
        None, (f"{subject} is {amount(now, knob.unit)}, {amount(knob.high, knob.unit)} are allowed",),
        Risk.LOW if knob.reversible and not knob.restart_needed else Risk.MEDIUM,
        "a restart" if knob.restart_needed else f"{amount(after - now, knob.unit)} more of it",
        f"the pattern goes on {knob.warm_up_s:.0f} s after the change", 0.5,
    )  # fmt: skip


def _run(facts: Facts, subject: str) -> Draft:
    """Something that the tool can be told to do."""
    action = facts.actions[subject]
    return Draft(
        facts, subject, True, None, None, f"{subject.capitalize()} {facts.target}", _freed(facts, subject),
        (action.help,), action.risk, "capacity is away for a moment" if action.reduces else "none known",
        "the pattern is back within the hour", 0.6,
    )  # fmt: skip


def _freed(facts: Facts, subject: str) -> Effect | None:
    """The memory that a restart gives back, where memory is known."""
    if subject not in {"restart", "reload"}:
        return None
    name = next((m for m in facts.metrics if m.endswith(("resident_memory_bytes", "memory_bytes"))), None)
    now = None if name is None else facts.figure(name)
    if name is None or now is None:
        return None
    expected, low, high = memory_after_restart(now, facts.at_start.get(name))
    figure = f"memory of {facts.target}"
    return Effect(facts.series.get(name, ""), figure, "B", now, expected, low, high, more_is_better=False)


def _redis_maxmemory(facts: Facts) -> Draft | None:
    """More room for a cache that evicts what is asked for again."""
    limit = facts.number("maxmemory")
    policy = facts.value("maxmemory-policy")
    if limit is None or limit <= 0 or policy == "noeviction":
        return None
    knob = facts.knobs["maxmemory"][0]
    after = stepped(limit, 2.0 * limit, knob)
    if after is None:
        return None
    hits, used = facts.figure(HIT_RATIO), facts.figure("redis_memory_used_bytes")
    effect = None
    if hits is not None:
        expected, low, high = hit_ratio_after(hits, after / limit)
        figure = f"hit ratio of {facts.target}"
        effect = Effect(facts.series.get(HIT_RATIO, ""), figure, "ratio", hits, expected, low, high)
    evidence = [f"maxmemory is {amount(limit, 'B')}, the policy {policy}"]
    if used is not None:
        evidence.append(f"{amount(used, 'B')} of it are used ({used / limit:.0%})")
    return Draft(
        facts, "maxmemory", False, facts.value("maxmemory"), int(after),
        f"Raise maxmemory of {facts.target} from {amount(limit, 'B')} to {amount(after, 'B')}",
        effect, tuple(evidence), Risk.LOW, f"{amount(after - limit, 'B')} of memory",
        "the hit ratio stays below the lower end of what is expected", 0.9,
    )  # fmt: skip


REMEDIES: dict[str, Remedy] = {"redis.maxmemory": _redis_maxmemory}
"""Optimisations of which more is known than the knob itself says."""


def as_value(number: float, knob: Knob) -> Value:
    """A number as the knob takes it."""
    return int(number) if knob.type == "int" else number


def amount(number: float | None, unit: str) -> str:
    """A number with its unit, as people write it.

    >>> amount(134217728, "B"), amount(0.25, "ratio"), amount(None, "s")
    ('128 MiB', '25 %', 'unknown')
    """
    if number is None:
        return "unknown"
    if unit == "ratio":
        return f"{number * 100:.3g} %"
    if unit == "B":
        size, names = float(number), ["B", "KiB", "MiB", "GiB", "TiB"]
        while abs(size) >= 1024 and len(names) > 1:
            size, names = size / 1024, names[1:]
        return f"{size:.4g} {names[0]}"
    return f"{number:.6g} {unit}".rstrip()
