"""Typed rules over roles: what makes a cache thrash, a leak, a surge ... and what usually helps.

A rule collects signs: each with a weight, how clearly it shows (0..1, NaN = unknown) and a sentence with
its figures. Needed signs must be known and show; what is not known lowers the confidence.
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
from trimtab.engine.types.figures import format_quantity, format_ratio, format_duration

Rule = Callable[[EntityView], PatternFinding | None]
_NAN = math.nan


def cache_thrash(scene: EntityView) -> PatternFinding | None:
    """It evicts about as much as it takes in, is full, and misses more than a cache should."""
    ratio, evicted, missed = scene.hit_ratio, scene.metric(Role.EVICTIONS), scene.metric(Role.MISSES)
    if ratio is None or evicted is None or math.isnan(ratio.current):
        return None
    fallen = ramp(ratio.usual - ratio.current, 0.05, 0.2)
    low = known_max([ramp(ratio.current, 0.85, 0.65), fallen])
    churn = evicted.current / missed.current if missed is not None and missed.current > 0 else _NAN
    turning = evicted.elevation(1.5, 3.0) if math.isnan(churn) else ramp(churn, 0.15, 0.5)
    each = "" if math.isnan(churn) else f", {format_quantity(churn)} for each miss"
    full = scene.memory_ratio
    return weigh_evidence(
        [
            Evidence(3, low, f"hit ratio {format_ratio(ratio.current)}, usually {format_ratio(ratio.usual)}", required=True),
            Evidence(3, turning, f"{format_quantity(evicted.current)} evictions/s{each}", required=True),
            Evidence(2, ramp(full, 0.8, 0.93), f"memory {format_ratio(full)} of its limit"),
        ],
        ratio, evicted,
    )  # fmt: skip


def memory_leak(scene: EntityView) -> PatternFinding | None:
    """The floor of its memory only ever rises, load does not explain it, and a limit is in sight."""
    memory = scene.memory
    if memory is None or scene.is_cache:
        return None
    trend = fit_leak_trend(memory)
    if trend is None:
        return None
    left_s = (scene.memory_limit - memory.current) / trend.slope_per_s if trend.slope_per_s > 0 else _NAN
    near = ramp(math.log10(max(left_s, 1.0)), math.log10(48 * 3600.0), math.log10(6 * 3600.0))
    far = ramp(trend.growth, 0.05, 0.12)
    limit = format_quantity(scene.memory_limit, "B")
    return weigh_evidence(
        [
            Evidence(4, trend.steadiness, f"memory rose by {format_quantity(trend.slope_per_s * 3600, 'B')}/h over "
                 f"{format_duration(trend.window_s)}, {format_ratio(trend.rising_ratio)} of the time", required=True),
            Evidence(3, _unexplained_by_load(scene, trend), "load did not rise with it", required=True),
            Evidence(2, ramp(trend.growth, 0.01, 0.04),
                 f"it uses {format_ratio(trend.growth)} more than at the beginning", required=True),
            Evidence(2, far if math.isnan(near) else near,
                 f"at this pace its limit of {limit} is reached in {format_duration(left_s)}"
                 if not math.isnan(left_s) else "its limit is not known", required=True),
        ],
        memory,
    )  # fmt: skip


def _unexplained_by_load(scene: EntityView, trend: LeakTrend) -> float:
    load = scene.load
    if load is None:
        return 0.7
    half = len(load.values) // 2
    first, second = load.values[:half], load.values[half:]
    if np.isnan(first).all() or np.isnan(second).all() or np.nanmean(first) <= 0:
        return 0.7
    grown = float(np.nanmean(second) / np.nanmean(first)) - 1.0
    return ramp(grown, 1.0 * trend.growth + 0.1, 0.5 * trend.growth)


def saturation_under_load(scene: EntityView) -> PatternFinding | None:
    """Something that it needs is used up while the load is as usual or above, and answers take longer."""
    needs = {"CPU": scene.cpu, "disk": scene.metric(Role.IO), "event loop": scene.metric(Role.LOOP)}
    what = max(needs, key=lambda name: known_max([_current(needs[name]), 0.0]))
    course, load = needs[what], scene.load
    if course is None:
        return None
    full, loaded = course.current, _NAN if load is None else load.ratio_to_usual
    slow = known_max([scene.slowdown, scene.elevation(Role.PRESSURE, 2.0, 4.0)])
    return weigh_evidence(
        [
            Evidence(4, ramp(full, 0.75, 0.9),
                 f"{what} {format_ratio(full)} used, usually {format_ratio(course.usual)}", required=True),
            Evidence(2, ramp(loaded, 0.3, 0.9), f"load {_describe_ratio(load)}", required=load is not None),
            Evidence(3, slow, f"answers take {_describe_ratio(scene.metric(Role.LATENCY))}", required=True),
        ],
        course, load, scene.metric(Role.LATENCY),
    )  # fmt: skip


def traffic_surge(scene: EntityView) -> PatternFinding | None:
    """Far more is asked of it than is usual at this time."""
    load = scene.load
    if load is None or load.current < 0.1:
        return None
    return weigh_evidence(
        [
            Evidence(4, ramp(load.ratio_to_usual, 1.25, 1.6), f"load {_describe_ratio(load)}", required=True),
            Evidence(3, ramp(load.ratio_outside(+1), 0.6, 0.95),
                 f"{format_ratio(load.ratio_outside(+1))} of the last ticks lie far above", required=True),
        ],
        load,
    )  # fmt: skip


def dependency_error_burst(scene: EntityView) -> PatternFinding | None:
    """Its requests fail because somebody whom it calls fails."""
    calls = scene.metric(Role.DEPENDENCY_ERRORS)
    own = scene.failure_rise
    named = _dependency_failure(scene, calls)
    sick, ill = max(
        (
            (other.trouble, name)
            for name, other in scene.unhealthy_neighbours.items()
            if not math.isnan(other.trouble)
        ),
        default=(_NAN, ""),
    )
    cause = known_max([named, sick])
    errors = scene.metric(Role.ERRORS)
    if math.isnan(cause):
        return None
    who = ", ".join(sorted(scene.entity.callees)) or "a dependency"
    told = f"calls of {who} fail {format_quantity(_current(calls))} times/s"
    if math.isnan(named) or named < sick:
        told = f"{ill} is in trouble, too"
    return weigh_evidence(
        [
            Evidence(3, own, f"{format_ratio(scene.error_ratio)} of its requests fail", required=not math.isnan(own)),
            Evidence(4, cause, told, required=True),
        ],
        errors, calls,
    )  # fmt: skip


def _dependency_failure(scene: EntityView, failed: MetricWindow | None) -> float:
    if failed is None:
        return _NAN
    rise = failed.elevation(2.0, 4.0)
    calls = scene.metric(Role.DEPENDENCY_CALLS)
    if calls is None or not calls.current > 0:
        return rise
    whole = calls.current + (failed.current if calls.metric == failed.metric else 0.0)
    return rise * ramp(failed.current / whole, 0.01, 0.05)


def connection_pool_exhaustion(scene: EntityView) -> PatternFinding | None:
    """Nearly all connections are taken, and somebody waits, is refused, or holds them idle."""
    used, idle = scene.connections, scene.metric(Role.IDLE_IN_TRANSACTION)
    waiting, refused = scene.metric(Role.CONNECTIONS_WAITING), scene.metric(Role.CONNECTIONS_REFUSED)
    full = scene.pool_ratio
    held = idle.current / used.current if idle is not None and used is not None and used.current > 0 else _NAN
    more = _NAN if used is None else used.elevation(1.2, 1.6)
    queue = (
        _NAN
        if waiting is None
        else ramp(waiting.current, 0.5, 2.0) * known_max([waiting.elevation(1.5, 3.0), 0.0])
    )
    turned = _NAN if refused is None else refused.elevation(1.5, 3.0)
    symptoms = [
        (queue, f"{format_quantity(_current(waiting))} wait for a connection"),
        (turned, f"{format_quantity(_current(refused))} connections/s are refused"),
        (ramp(held, 0.2, 0.5), f"{format_ratio(held)} of them are idle in a transaction"),
        (more, f"usually it is {format_quantity(_usual(used))}"),
    ]
    shown = max((s for s in symptoms if not math.isnan(s[0])), default=(_NAN, ""), key=lambda s: s[0])
    return weigh_evidence(
        [
            Evidence(4, ramp(full, 0.75, 0.9),
                 f"{format_quantity(_current(used))} connections in use, {format_ratio(full)} of the limit", required=True),
            Evidence(3, shown[0], shown[1], required=True),
            Evidence(1, known_max([scene.slowdown, scene.failure_rise]), "its requests are slower, or fail"),
        ],
        used, idle, waiting, refused,
    )  # fmt: skip


def queue_backlog(scene: EntityView) -> PatternFinding | None:
    """What waits is far more than usual and does not get less."""
    queue = scene.metric(Role.QUEUE_LENGTH)
    if queue is None:
        return None
    tail = queue.values[~np.isnan(queue.values)][-3 * RECENT_ROWS :]
    if len(tail) < 3 * RECENT_ROWS:
        return None
    draining = float(tail[-RECENT_ROWS:].mean() / max(tail[:RECENT_ROWS].mean(), 1e-9))
    stays = ramp(draining, 0.8, 0.95) * ramp(float(tail[-1] / max(tail.max(), 1e-9)), 0.7, 0.85)
    lasting = float(np.mean(tail > max(2.0 * queue.usual, queue.usual + 5.0)))
    return weigh_evidence(
        [
            Evidence(3, ramp(queue.current, 5.0, 15.0) * ramp(queue.ratio_to_usual, 2.0, 4.0),
                 f"{format_quantity(queue.current)} are waiting, usually {format_quantity(queue.usual)}", required=True),
            Evidence(3, stays, "it does not get less", required=True),
            Evidence(3, ramp(lasting, 0.7, 1.0),
                 f"{format_ratio(lasting)} of the last ticks were far above usual", required=True),
            Evidence(1, scene.slowdown, f"answers take {_describe_ratio(scene.metric(Role.LATENCY))}"),
        ],
        queue,
    )  # fmt: skip


def level_shift_after_deploy(scene: EntityView) -> PatternFinding | None:
    """Since a change it is worse by a step, and stays so."""
    return shift_after_deploy(scene)


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
"""A pattern that says all that another would say of the same entity."""

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
"""Optimisations that usually help, best first, by the family of tools; "" = those that help anybody."""


def remedies(pattern: str, families: Iterable[str]) -> tuple[str, ...]:
    """What usually helps against a pattern, those of its own tools first.

    >>> remedies("memory_leak", {"pm2", "nodejs"})
    ('pm2.reload', 'pm2.max_memory_restart', 'process.restart', 'http_service.gc')
    """
    table = REMEDIES[pattern]
    own = [remedy for family in sorted(families) for remedy in table.get(family, ())]
    return tuple(dict.fromkeys([*own, *table[""]]))


def _current(course: MetricWindow | None) -> float:
    return _NAN if course is None else course.current


def _usual(course: MetricWindow | None) -> float:
    return _NAN if course is None else course.usual


def _describe_ratio(course: MetricWindow | None) -> str:
    if course is None or not math.isfinite(course.ratio_to_usual):
        return (
            "unknown against usual"
            if course is None
            else f"{format_quantity(course.current)}, usually nothing"
        )
    return f"{format_quantity(course.current)}, {format_quantity(course.ratio_to_usual)} times the usual"
