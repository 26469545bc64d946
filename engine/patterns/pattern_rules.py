"""Typed rules over roles: what makes a cache thrash, a leak, a surge ... and what usually helps.

A rule collects signs: each with a weight, how clearly it shows (0..1, NaN = unknown) and a sentence with
its figures. Needed signs must be known and show; what is not known lowers the confidence.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from trimtab.engine.patterns.entity_view import Scene
from trimtab.engine.patterns.evidence import Sign, Verdict, weigh
from trimtab.engine.patterns.leak_trend import Trend, trend_of
from trimtab.engine.patterns.metric_window import RECENT, Course, known_max, ramp
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.step_after_change import shift_after_deploy
from trimtab.engine.types.figures import figure, share, span

Rule = Callable[[Scene], Verdict | None]
_NAN = math.nan


def cache_thrash(scene: Scene) -> Verdict | None:
    """It evicts about as much as it takes in, is full, and misses more than a cache should."""
    ratio, evicted, missed = scene.hit_ratio, scene.course(Role.EVICTIONS), scene.course(Role.MISSES)
    if ratio is None or evicted is None or math.isnan(ratio.now):
        return None
    fallen = ramp(ratio.usual - ratio.now, 0.05, 0.2)
    low = known_max([ramp(ratio.now, 0.85, 0.65), fallen])
    churn = evicted.now / missed.now if missed is not None and missed.now > 0 else _NAN
    turning = evicted.up(1.5, 3.0) if math.isnan(churn) else ramp(churn, 0.15, 0.5)
    each = "" if math.isnan(churn) else f", {figure(churn)} for each miss"
    full = scene.memory_share
    return weigh(
        [
            Sign(3, low, f"hit ratio {share(ratio.now)}, usually {share(ratio.usual)}", needed=True),
            Sign(3, turning, f"{figure(evicted.now)} evictions/s{each}", needed=True),
            Sign(2, ramp(full, 0.8, 0.93), f"memory {share(full)} of its limit"),
        ],
        ratio, evicted,
    )  # fmt: skip


def memory_leak(scene: Scene) -> Verdict | None:
    """The floor of its memory only ever rises, load does not explain it, and a limit is in sight."""
    memory = scene.memory
    if memory is None or scene.is_cache:
        return None
    trend = trend_of(memory)
    if trend is None:
        return None
    left_s = (scene.memory_limit - memory.now) / trend.per_s if trend.per_s > 0 else _NAN
    near = ramp(math.log10(max(left_s, 1.0)), math.log10(48 * 3600.0), math.log10(6 * 3600.0))
    far = ramp(trend.growth, 0.05, 0.12)
    limit = figure(scene.memory_limit, "B")
    return weigh(
        [
            Sign(4, trend.steady, f"memory rose by {figure(trend.per_s * 3600, 'B')}/h over "
                 f"{span(trend.over_s)}, {share(trend.rising)} of the time", needed=True),
            Sign(3, _unexplained(scene, trend), "load did not rise with it", needed=True),
            Sign(2, ramp(trend.growth, 0.01, 0.04),
                 f"it uses {share(trend.growth)} more than at the beginning", needed=True),
            Sign(2, far if math.isnan(near) else near,
                 f"at this pace its limit of {limit} is reached in {span(left_s)}"
                 if not math.isnan(left_s) else "its limit is not known", needed=True),
        ],
        memory,
    )  # fmt: skip


def _unexplained(scene: Scene, trend: Trend) -> float:
    load = scene.load
    if load is None:
        return 0.7
    half = len(load.value) // 2
    first, second = load.value[:half], load.value[half:]
    if np.isnan(first).all() or np.isnan(second).all() or np.nanmean(first) <= 0:
        return 0.7
    grown = float(np.nanmean(second) / np.nanmean(first)) - 1.0
    return ramp(grown, 1.0 * trend.growth + 0.1, 0.5 * trend.growth)


def saturation_under_load(scene: Scene) -> Verdict | None:
    """Something that it needs is used up while the load is as usual or above, and answers take longer."""
    needs = {"CPU": scene.cpu, "disk": scene.course(Role.IO), "event loop": scene.course(Role.LOOP)}
    what = max(needs, key=lambda name: known_max([_now(needs[name]), 0.0]))
    course, load = needs[what], scene.load
    if course is None:
        return None
    full, loaded = course.now, _NAN if load is None else load.times_usual
    slow = known_max([scene.slower, scene.lift(Role.PRESSURE, 2.0, 4.0)])
    return weigh(
        [
            Sign(4, ramp(full, 0.75, 0.9),
                 f"{what} {share(full)} used, usually {share(course.usual)}", needed=True),
            Sign(2, ramp(loaded, 0.3, 0.9), f"load {_times(load)}", needed=load is not None),
            Sign(3, slow, f"answers take {_times(scene.course(Role.LATENCY))}", needed=True),
        ],
        course, load, scene.course(Role.LATENCY),
    )  # fmt: skip


def traffic_surge(scene: Scene) -> Verdict | None:
    """Far more is asked of it than is usual at this time."""
    load = scene.load
    if load is None or load.now < 0.1:
        return None
    return weigh(
        [
            Sign(4, ramp(load.times_usual, 1.25, 1.6), f"load {_times(load)}", needed=True),
            Sign(3, ramp(load.outside(+1), 0.6, 0.95),
                 f"{share(load.outside(+1))} of the last ticks lie far above", needed=True),
        ],
        load,
    )  # fmt: skip


def dependency_error_burst(scene: Scene) -> Verdict | None:
    """Its requests fail because somebody whom it calls fails."""
    calls = scene.course(Role.DEPENDENCY_ERRORS)
    own = scene.failing
    named = _dependency_fails(scene, calls)
    sick, ill = max(
        ((other.ill, name) for name, other in scene.ailing.items() if not math.isnan(other.ill)),
        default=(_NAN, ""),
    )
    cause = known_max([named, sick])
    errors = scene.course(Role.ERRORS)
    if math.isnan(cause):
        return None
    who = ", ".join(sorted(scene.member.calls)) or "a dependency"
    told = f"calls of {who} fail {figure(_now(calls))} times/s"
    if math.isnan(named) or named < sick:
        told = f"{ill} is in trouble, too"
    return weigh(
        [
            Sign(3, own, f"{share(scene.error_share)} of its requests fail", needed=not math.isnan(own)),
            Sign(4, cause, told, needed=True),
        ],
        errors, calls,
    )  # fmt: skip


def _dependency_fails(scene: Scene, failed: Course | None) -> float:
    if failed is None:
        return _NAN
    rise = failed.up(2.0, 4.0)
    calls = scene.course(Role.DEPENDENCY_CALLS)
    if calls is None or not calls.now > 0:
        return rise
    whole = calls.now + (failed.now if calls.metric == failed.metric else 0.0)
    return rise * ramp(failed.now / whole, 0.01, 0.05)


def connection_pool_exhaustion(scene: Scene) -> Verdict | None:
    """Nearly all connections are taken, and somebody waits, is refused, or holds them idle."""
    used, idle = scene.connections, scene.course(Role.IDLE_IN_TRANSACTION)
    waiting, refused = scene.course(Role.CONNECTIONS_WAITING), scene.course(Role.CONNECTIONS_REFUSED)
    full = scene.pool_share
    held = idle.now / used.now if idle is not None and used is not None and used.now > 0 else _NAN
    more = _NAN if used is None else used.up(1.2, 1.6)
    queue = _NAN if waiting is None else ramp(waiting.now, 0.5, 2.0) * known_max([waiting.up(1.5, 3.0), 0.0])
    turned = _NAN if refused is None else refused.up(1.5, 3.0)
    symptoms = [
        (queue, f"{figure(_now(waiting))} wait for a connection"),
        (turned, f"{figure(_now(refused))} connections/s are refused"),
        (ramp(held, 0.2, 0.5), f"{share(held)} of them are idle in a transaction"),
        (more, f"usually it is {figure(_usual(used))}"),
    ]
    shown = max((s for s in symptoms if not math.isnan(s[0])), default=(_NAN, ""), key=lambda s: s[0])
    return weigh(
        [
            Sign(4, ramp(full, 0.75, 0.9),
                 f"{figure(_now(used))} connections in use, {share(full)} of the limit", needed=True),
            Sign(3, shown[0], shown[1], needed=True),
            Sign(1, known_max([scene.slower, scene.failing]), "its requests are slower, or fail"),
        ],
        used, idle, waiting, refused,
    )  # fmt: skip


def queue_backlog(scene: Scene) -> Verdict | None:
    """What waits is far more than usual and does not get less."""
    queue = scene.course(Role.QUEUE_LENGTH)
    if queue is None:
        return None
    tail = queue.value[~np.isnan(queue.value)][-3 * RECENT :]
    if len(tail) < 3 * RECENT:
        return None
    draining = float(tail[-RECENT:].mean() / max(tail[:RECENT].mean(), 1e-9))
    stays = ramp(draining, 0.8, 0.95) * ramp(float(tail[-1] / max(tail.max(), 1e-9)), 0.7, 0.85)
    lasting = float(np.mean(tail > max(2.0 * queue.usual, queue.usual + 5.0)))
    return weigh(
        [
            Sign(3, ramp(queue.now, 5.0, 15.0) * ramp(queue.times_usual, 2.0, 4.0),
                 f"{figure(queue.now)} are waiting, usually {figure(queue.usual)}", needed=True),
            Sign(3, stays, "it does not get less", needed=True),
            Sign(3, ramp(lasting, 0.7, 1.0),
                 f"{share(lasting)} of the last ticks were far above usual", needed=True),
            Sign(1, scene.slower, f"answers take {_times(scene.course(Role.LATENCY))}"),
        ],
        queue,
    )  # fmt: skip


def level_shift_after_deploy(scene: Scene) -> Verdict | None:
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


def _now(course: Course | None) -> float:
    return _NAN if course is None else course.now


def _usual(course: Course | None) -> float:
    return _NAN if course is None else course.usual


def _times(course: Course | None) -> str:
    if course is None or not math.isfinite(course.times_usual):
        return "unknown against usual" if course is None else f"{figure(course.now)}, usually nothing"
    return f"{figure(course.now)}, {figure(course.times_usual)} times the usual"
