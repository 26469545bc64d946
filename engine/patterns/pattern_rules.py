"""Rules for each pattern, over roles, and the optimisations that usually help.

A rule collects evidence: a weight, a strength (0..1, NaN = unknown) and a sentence with its numbers. Required
evidence must be known and strong; unknown evidence lowers the confidence.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from trimtab.engine.patterns.entity_view import EntityView
from trimtab.engine.patterns.evidence import Evidence, PatternFinding, weigh_evidence
from trimtab.engine.patterns.leak_trend import LeakTrend, fit_leak_trend
from trimtab.engine.patterns.metric_window import RECENT_ROWS, MetricWindow, known_max, ramp
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.step_after_change import shift_after_deploy
from trimtab.engine.types.figures import format_duration, format_quantity, format_ratio

Rule = Callable[[EntityView], PatternFinding | None]
_NAN = math.nan


def cache_thrash(view: EntityView) -> PatternFinding | None:
    """A cache evicts about as much as it stores, is full, and its hit ratio is low."""
    ratio, evictions, misses = view.hit_ratio, view.metric(Role.EVICTIONS), view.metric(Role.MISSES)
    if ratio is None or evictions is None or math.isnan(ratio.current):
        return None
    drop = ramp(ratio.usual - ratio.current, 0.05, 0.2)
    low = known_max([ramp(ratio.current, 0.85, 0.65), drop])
    churn = evictions.current / misses.current if misses is not None and misses.current > 0 else _NAN
    churn_strength = evictions.elevation(1.5, 3.0) if math.isnan(churn) else ramp(churn, 0.15, 0.5)
    per_miss = "" if math.isnan(churn) else f", {format_quantity(churn)} for each miss"
    memory_ratio = view.memory_ratio
    return weigh_evidence(
        [
            Evidence(
                3,
                low,
                f"hit ratio {format_ratio(ratio.current)}, usually {format_ratio(ratio.usual)}",
                required=True,
            ),
            Evidence(
                3,
                churn_strength,
                f"{format_quantity(evictions.current)} evictions/s{per_miss}",
                required=True,
            ),
            Evidence(2, ramp(memory_ratio, 0.8, 0.93), f"memory {format_ratio(memory_ratio)} of its limit"),
        ],
        ratio,
        evictions,
    )


def memory_leak(view: EntityView) -> PatternFinding | None:
    """The floor of memory use keeps rising, load does not explain it, and a limit is near."""
    memory = view.memory
    if memory is None or view.is_cache:
        return None
    trend = fit_leak_trend(memory)
    if trend is None:
        return None
    left_s = (view.memory_limit - memory.current) / trend.slope_per_s if trend.slope_per_s > 0 else _NAN
    limit_near = ramp(math.log10(max(left_s, 1.0)), math.log10(48 * 3600.0), math.log10(6 * 3600.0))
    growth_strength = ramp(trend.growth, 0.05, 0.12)
    limit = format_quantity(view.memory_limit, "B")
    return weigh_evidence(
        [
            Evidence(
                4,
                trend.steadiness,
                f"memory rose by {format_quantity(trend.slope_per_s * 3600, 'B')}/h over "
                f"{format_duration(trend.window_s)}, {format_ratio(trend.rising_ratio)} of the time",
                required=True,
            ),
            Evidence(3, _unexplained_by_load(view, trend), "load did not rise with it", required=True),
            Evidence(
                2,
                ramp(trend.growth, 0.01, 0.04),
                f"memory grew by {format_ratio(trend.growth)} over the window",
                required=True,
            ),
            Evidence(
                2,
                growth_strength if math.isnan(limit_near) else limit_near,
                f"at this rate the limit of {limit} is reached in {format_duration(left_s)}"
                if not math.isnan(left_s)
                else "the memory limit is unknown",
                required=True,
            ),
        ],
        memory,
    )


def _unexplained_by_load(view: EntityView, trend: LeakTrend) -> float:
    load = view.load
    if load is None:
        return 0.7
    half = len(load.values) // 2
    first, second = load.values[:half], load.values[half:]
    if np.isnan(first).all() or np.isnan(second).all() or np.nanmean(first) <= 0:
        return 0.7
    grown = float(np.nanmean(second) / np.nanmean(first)) - 1.0
    return ramp(grown, 1.0 * trend.growth + 0.1, 0.5 * trend.growth)


def saturation_under_load(view: EntityView) -> PatternFinding | None:
    """A resource is used up while load is normal or higher, and latency rises."""
    resources = {"CPU": view.cpu, "disk": view.metric(Role.IO), "event loop": view.metric(Role.LOOP)}
    resource = max(resources, key=lambda name: known_max([_current(resources[name]), 0.0]))
    window, load = resources[resource], view.load
    if window is None:
        return None
    used, load_ratio = window.current, _NAN if load is None else load.ratio_to_usual
    slowdown = known_max([view.slowdown, view.elevation(Role.PRESSURE, 2.0, 4.0)])
    return weigh_evidence(
        [
            Evidence(
                4,
                ramp(used, 0.75, 0.9),
                f"{resource} {format_ratio(used)} used, usually {format_ratio(window.usual)}",
                required=True,
            ),
            Evidence(
                2, ramp(load_ratio, 0.3, 0.9), f"load {_describe_ratio(load)}", required=load is not None
            ),
            Evidence(
                3, slowdown, f"answers take {_describe_ratio(view.metric(Role.LATENCY))}", required=True
            ),
        ],
        window,
        load,
        view.metric(Role.LATENCY),
    )


def traffic_surge(view: EntityView) -> PatternFinding | None:
    """Load is far above usual."""
    load = view.load
    if load is None or load.current < 0.1:
        return None
    return weigh_evidence(
        [
            Evidence(4, ramp(load.ratio_to_usual, 1.25, 1.6), f"load {_describe_ratio(load)}", required=True),
            Evidence(
                3,
                ramp(load.ratio_outside(+1), 0.6, 0.95),
                f"{format_ratio(load.ratio_outside(+1))} of the last ticks are far above usual",
                required=True,
            ),
        ],
        load,
    )


def dependency_error_burst(view: EntityView) -> PatternFinding | None:
    """Requests fail because a dependency fails."""
    calls = view.metric(Role.DEPENDENCY_ERRORS)
    own_failures = view.failure_rise
    failed_calls = _dependency_failure(view, calls)
    neighbour_trouble, neighbour = max(
        (
            (other.trouble, name)
            for name, other in view.unhealthy_neighbours.items()
            if not math.isnan(other.trouble)
        ),
        default=(_NAN, ""),
    )
    cause = known_max([failed_calls, neighbour_trouble])
    errors = view.metric(Role.ERRORS)
    if math.isnan(cause):
        return None
    callee_names = ", ".join(sorted(view.entity.callees)) or "a dependency"
    cause_text = f"calls of {callee_names} fail {format_quantity(_current(calls))} times/s"
    if math.isnan(failed_calls) or failed_calls < neighbour_trouble:
        cause_text = f"{neighbour} is unhealthy too"
    return weigh_evidence(
        [
            Evidence(
                3,
                own_failures,
                f"{format_ratio(view.error_ratio)} of its requests fail",
                required=not math.isnan(own_failures),
            ),
            Evidence(4, cause, cause_text, required=True),
        ],
        errors,
        calls,
    )


def _dependency_failure(view: EntityView, failed: MetricWindow | None) -> float:
    if failed is None:
        return _NAN
    rise = failed.elevation(2.0, 4.0)
    calls = view.metric(Role.DEPENDENCY_CALLS)
    if calls is None or not calls.current > 0:
        return rise
    total = calls.current + (failed.current if calls.metric == failed.metric else 0.0)
    return rise * ramp(failed.current / total, 0.01, 0.05)


def connection_pool_exhaustion(view: EntityView) -> PatternFinding | None:
    """Nearly all connections are in use, and requests wait, are refused, or connections are held idle."""
    used, idle = view.connections, view.metric(Role.IDLE_IN_TRANSACTION)
    waiting, refused = view.metric(Role.CONNECTIONS_WAITING), view.metric(Role.CONNECTIONS_REFUSED)
    used_ratio = view.pool_ratio
    idle_ratio = (
        idle.current / used.current if idle is not None and used is not None and used.current > 0 else _NAN
    )
    rise = _NAN if used is None else used.elevation(1.2, 1.6)
    waiting_strength = (
        _NAN
        if waiting is None
        else ramp(waiting.current, 0.5, 2.0) * known_max([waiting.elevation(1.5, 3.0), 0.0])
    )
    refused_strength = _NAN if refused is None else refused.elevation(1.5, 3.0)
    symptoms = [
        (waiting_strength, f"{format_quantity(_current(waiting))} wait for a connection"),
        (refused_strength, f"{format_quantity(_current(refused))} connections/s are refused"),
        (ramp(idle_ratio, 0.2, 0.5), f"{format_ratio(idle_ratio)} of them are idle in a transaction"),
        (rise, f"usually it is {format_quantity(_usual(used))}"),
    ]
    symptom = max((s for s in symptoms if not math.isnan(s[0])), default=(_NAN, ""), key=lambda s: s[0])
    return weigh_evidence(
        [
            Evidence(
                4,
                ramp(used_ratio, 0.75, 0.9),
                f"{format_quantity(_current(used))} connections in use, "
                f"{format_ratio(used_ratio)} of the limit",
                required=True,
            ),
            Evidence(3, symptom[0], symptom[1], required=True),
            Evidence(1, known_max([view.slowdown, view.failure_rise]), "requests are slower or fail"),
        ],
        used,
        idle,
        waiting,
        refused,
    )


def queue_backlog(view: EntityView) -> PatternFinding | None:
    """A queue is far longer than usual and does not shrink."""
    queue = view.metric(Role.QUEUE_LENGTH)
    if queue is None:
        return None
    tail = queue.values[~np.isnan(queue.values)][-3 * RECENT_ROWS :]
    if len(tail) < 3 * RECENT_ROWS:
        return None
    change = float(tail[-RECENT_ROWS:].mean() / max(tail[:RECENT_ROWS].mean(), 1e-9))
    not_shrinking = ramp(change, 0.8, 0.95) * ramp(float(tail[-1] / max(tail.max(), 1e-9)), 0.7, 0.85)
    lasting = float(np.mean(tail > max(2.0 * queue.usual, queue.usual + 5.0)))
    return weigh_evidence(
        [
            Evidence(
                3,
                ramp(queue.current, 5.0, 15.0) * ramp(queue.ratio_to_usual, 2.0, 4.0),
                f"{format_quantity(queue.current)} items wait, usually {format_quantity(queue.usual)}",
                required=True,
            ),
            Evidence(3, not_shrinking, "the queue does not shrink", required=True),
            Evidence(
                3,
                ramp(lasting, 0.7, 1.0),
                f"{format_ratio(lasting)} of the last ticks were far above usual",
                required=True,
            ),
            Evidence(1, view.slowdown, f"answers take {_describe_ratio(view.metric(Role.LATENCY))}"),
        ],
        queue,
    )


def level_shift_after_deploy(view: EntityView) -> PatternFinding | None:
    """A metric is worse by a lasting step since a change."""
    return shift_after_deploy(view)


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        cache_thrash, memory_leak, saturation_under_load, traffic_surge, dependency_error_burst,
        connection_pool_exhaustion, queue_backlog, level_shift_after_deploy,
    )
}  # fmt: skip
EXPLAINS = {
    "cache_thrash": ("traffic_surge",),
    "saturation_under_load": ("traffic_surge",),
    "level_shift_after_deploy": ("saturation_under_load",),
}
"""Pattern -> patterns of the same entity that it makes redundant."""

REMEDIES: dict[str, dict[str, tuple[str, ...]]] = {
    "cache_thrash": {
        "redis": ("redis.maxmemory", "redis.maxmemory-policy", "redis.maxmemory-samples"),
        "memcached": ("memcached.memory_limit",),
        "": ("http_service.cache_size", "http_service.cache_ttl"),
    },
    "memory_leak": {
        "pm2": ("pm2.reload", "pm2.max_memory_restart"),
        "kubernetes": ("kubernetes.restart", "kubernetes.memory_limit"),
        "": ("process.restart", "http_service.gc"),
    },
    "saturation_under_load": {
        "pm2": ("pm2.instances",),
        "kubernetes": ("kubernetes.replicas", "kubernetes.cpu_limit"),
        "postgresql": ("postgresql.work_mem", "postgresql.analyze"),
        "": ("http_service.workers", "http_service.concurrency_limit"),
    },
    "traffic_surge": {
        "pm2": ("pm2.instances",),
        "kubernetes": ("kubernetes.replicas",),
        "": ("http_service.workers", "http_service.cache_ttl", "http_service.rate_limit"),
    },
    "dependency_error_burst": {
        "pm2": ("http_service.circuit_breaker", "http_service.retry_budget"),
        "": ("http_service.circuit_breaker", "http_service.timeout", "http_service.retry_budget"),
    },
    "connection_pool_exhaustion": {
        "postgresql": (
            "postgresql.terminate_idle_in_transaction",
            "postgresql.idle_in_transaction_session_timeout",
        ),
        "redis": ("redis.timeout", "redis.maxclients"),
        "": ("http_service.pool_size", "http_service.pool_timeout"),
    },
    "queue_backlog": {
        "pm2": ("pm2.instances",),
        "kubernetes": ("kubernetes.replicas",),
        "": ("http_service.workers", "http_service.queue_limit"),
    },
    "level_shift_after_deploy": {
        "kubernetes": ("kubernetes.rollback",),
        "": ("change.rollback",),
    },
}
"""Optimisations that usually help, best first, by tool family; "" = for every family."""


def remedies(pattern: str, families: Iterable[str]) -> tuple[str, ...]:
    """Return the optimisations for a pattern, those of the entity's own tools first.

    >>> remedies("memory_leak", {"pm2", "nodejs"})
    ('pm2.reload', 'pm2.max_memory_restart', 'process.restart', 'http_service.gc')
    """
    table = REMEDIES[pattern]
    own = [remedy for family in sorted(families) for remedy in table.get(family, ())]
    return tuple(dict.fromkeys([*own, *table[""]]))


def _current(window: MetricWindow | None) -> float:
    return _NAN if window is None else window.current


def _usual(window: MetricWindow | None) -> float:
    return _NAN if window is None else window.usual


def _describe_ratio(window: MetricWindow | None) -> str:
    if window is None or not math.isfinite(window.ratio_to_usual):
        return (
            "unknown against usual"
            if window is None
            else f"{format_quantity(window.current)}, usually nothing"
        )
    return f"{format_quantity(window.current)}, {format_quantity(window.ratio_to_usual)} times the usual"
