"""Remedies: turn a named optimisation and the facts of a target into a draft of a change.

An optimisation is named "kind.subject", such as "redis.maxmemory": a tool kind and one of its knobs or
actions.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trimtab.engine.recommendations.target_facts import TargetFacts, step_towards
from trimtab.engine.types import Effect, Knob, Risk, Value

HIT_RATIO = "redis_hit_ratio"
LOW_EXPONENT, USUAL_EXPONENT, HIGH_EXPONENT = 0.15, 0.5, 2.0
"""Exponents of the miss ratio over the cache size: little reuse, the square-root rule, nearly all fits."""


@dataclass(frozen=True, slots=True)
class ChangeDraft:
    """Draft of a change that would help.

    certainty : probability, 0..1, that the change acts on the pattern's cause
    """

    facts: TargetFacts
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


Remedy = Callable[[TargetFacts], "ChangeDraft | None"]


def draft_change(name: str, facts: TargetFacts) -> ChangeDraft | None:
    """Return the change of an optimisation for a target; None if it does not apply."""
    kind, _, subject = name.partition(".")
    if kind != facts.kind:
        return None
    if name in REMEDIES:
        return REMEDIES[name](facts)
    if action := _match_name(subject, facts.actions):
        return _run_action(facts, action)
    knob = _match_name(subject, facts.knobs)
    return _raise_knob(facts, knob) if knob else None


def _match_name(subject: str, names: Iterable[str]) -> str | None:
    """Return the tool's name of a subject: an exact match, or the only name with the same last word.

    >>> _match_name("cache_size", ["sessions_size", "pool"]), _match_name("cache_size", ["a_size", "b_size"])
    ('sessions_size', None)
    """
    known = list(names)
    if subject in known:
        return subject
    alike = [name for name in known if name.endswith(f"_{subject.rpartition('_')[2]}")]
    return alike[0] if len(alike) == 1 else None


def _raise_knob(facts: TargetFacts, subject: str) -> ChangeDraft | None:
    """Return the draft that raises a knob by one step."""
    now = facts.knob_number(subject)
    if now is None:
        return None
    knob = facts.knobs[subject][0]
    after = step_towards(now, 2.0 * now if now > 0 else math.inf, knob)
    if after is None:
        return None
    return ChangeDraft(
        facts, subject, False, facts.knob_value(subject), knob_value(after, knob),
        f"Raise {subject} of {facts.target} from {format_amount(now, knob.unit)} to "
        f"{format_amount(after, knob.unit)}",
        None,
        (f"{subject} is {format_amount(now, knob.unit)}, {format_amount(knob.high, knob.unit)} are allowed",),
        Risk.LOW if knob.reversible and not knob.restart_needed else Risk.MEDIUM,
        "a restart" if knob.restart_needed else f"{format_amount(after - now, knob.unit)} more of it",
        f"the pattern persists {knob.warm_up_s:.0f} s after the change", 0.5,
    )  # fmt: skip


def _run_action(facts: TargetFacts, subject: str) -> ChangeDraft:
    """Return the draft that runs an action of the tool."""
    action = facts.actions[subject]
    return ChangeDraft(
        facts, subject, True, None, None, f"{subject.capitalize()} {facts.target}",
        _freed_memory(facts, subject),
        (action.help,), action.risk, "reduced capacity for a short time" if action.reduces else "none known",
        "the pattern is back within the hour", 0.6,
    )  # fmt: skip


def _freed_memory(facts: TargetFacts, subject: str) -> Effect | None:
    """Return the effect of a restart on memory; None if the memory is unknown."""
    if subject not in {"restart", "reload"}:
        return None
    name = next((m for m in facts.metrics if m.endswith(("resident_memory_bytes", "memory_bytes"))), None)
    now = None if name is None else facts.metric(name)
    if name is None or now is None:
        return None
    expected, low, high = memory_after_restart(now, facts.metrics_after_start.get(name))
    figure = f"memory of {facts.target}"
    return Effect(facts.series_ids.get(name, ""), figure, "B", now, expected, low, high, more_is_better=False)


def _redis_maxmemory(facts: TargetFacts) -> ChangeDraft | None:
    """Return the draft that raises maxmemory of a Redis cache that evicts keys in use."""
    limit = facts.knob_number("maxmemory")
    policy = facts.knob_value("maxmemory-policy")
    if limit is None or limit <= 0 or policy == "noeviction":
        return None
    knob = facts.knobs["maxmemory"][0]
    after = step_towards(limit, 2.0 * limit, knob)
    if after is None:
        return None
    hits, used = facts.metric(HIT_RATIO), facts.metric("redis_memory_used_bytes")
    effect = None
    if hits is not None:
        expected, low, high = hit_ratio_after(hits, after / limit)
        figure = f"hit ratio of {facts.target}"
        effect = Effect(facts.series_ids.get(HIT_RATIO, ""), figure, "ratio", hits, expected, low, high)
    evidence = [f"maxmemory is {format_amount(limit, 'B')}, the policy {policy}"]
    if used is not None:
        evidence.append(f"{format_amount(used, 'B')} of it are used ({used / limit:.0%})")
    return ChangeDraft(
        facts, "maxmemory", False, facts.knob_value("maxmemory"), int(after),
        f"Raise maxmemory of {facts.target} from {format_amount(limit, 'B')} to {format_amount(after, 'B')}",
        effect, tuple(evidence), Risk.LOW, f"{format_amount(after - limit, 'B')} of memory",
        "the hit ratio stays below the lower end of what is expected", 0.9,
    )  # fmt: skip


REMEDIES: dict[str, Remedy] = {"redis.maxmemory": _redis_maxmemory}
"""Optimisations with specific rules; all others raise a knob or run an action."""


def knob_value(number: float, knob: Knob) -> Value:
    """Return a number in the knob's type."""
    return int(number) if knob.type == "int" else number


def format_amount(number: float | None, unit: str) -> str:
    """Format a number with its unit.

    >>> format_amount(134217728, "B"), format_amount(0.25, "ratio"), format_amount(None, "s")
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


def hit_ratio_after(hit_ratio: float, growth: float) -> tuple[float, float, float]:
    """Return (expected, low, high) hit ratio, 0..1, of a cache whose size grows by a factor.

    The miss ratio falls as a power of the size, usually the square root (Hartstein et al., "Cache miss
    behavior: is it sqrt(2)?", 2006); the interval covers the exponents of other cache traces.

    hit_ratio : current hit ratio, 0..1
    growth    : new size / old size, > 0

    >>> [round(x, 3) for x in hit_ratio_after(0.6, 2.0)]
    [0.717, 0.639, 0.9]
    """
    misses = 1.0 - hit_ratio
    expected, low, high = (
        1.0 - misses * growth**-power for power in (USUAL_EXPONENT, LOW_EXPONENT, HIGH_EXPONENT)
    )
    return expected, min(low, high), max(low, high)


def memory_after_restart(now: float, at_start: float | None) -> tuple[float, float, float]:
    """Return (expected, low, high) memory of a process after a restart, bytes.

    at_start : memory after an earlier start, bytes; None = unknown, which gives a wide interval

    >>> memory_after_restart(900.0, 200.0)
    (200.0, 100.0, 400.0)
    """
    if at_start is None or not math.isfinite(at_start):
        return 0.5 * now, 0.05 * now, 0.95 * now
    return at_start, 0.5 * at_start, min(2.0 * at_start, now)
