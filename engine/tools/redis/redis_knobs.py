"""Redis knobs: the allow-list of settings, their current bounds, and the checks of each change."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trimtab.engine.errors import RefusedError
from trimtab.engine.tools.memory_budget import MAX_FILL_RATIO, MemoryBudget, MemoryProjection, format_bytes
from trimtab.engine.types import Knob, KnobType, Value

POLICIES = (
    "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
    "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
)  # fmt: skip
REPLICA_BUFFER_BYTES = 256 * 2**20
"""Largest output buffer of one replica: Redis' default hard limit."""
_MIN_MEASURED_BYTES = 64 * 2**20
"""With less data than this, measured overheads cannot be extrapolated to larger data."""
RedisInfo = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KnobSpec:
    """A knob and its value in an unconfigured Redis."""

    knob: Knob
    default: Value


def _spec(name: str, default: Value, **given: Any) -> tuple[str, KnobSpec]:  # noqa: ANN401 - fields of a Knob
    kind = KnobType.BOOL if isinstance(default, bool) else KnobType.INT
    return name, KnobSpec(Knob(name, given.pop("type", kind), default=default, **given), default)


KNOB_SPECS: dict[str, KnobSpec] = dict([
    _spec("maxmemory", 0, unit="B", low=2**20, group="memory", warm_up_s=120.0, zero="no limit",
          help="Memory for keys; 0 = no limit. Lowering it evicts keys, which cannot be undone."),
    _spec("maxmemory-policy", "noeviction", type=KnobType.CHOICE, choices=POLICIES, denied=("noeviction",),
          group="memory", warm_up_s=120.0, reversible=False, help="Which keys a full Redis evicts."),
    _spec("maxmemory-samples", 5, low=3, high=16, step=5, group="memory",
          help="Keys sampled to choose one to evict."),
    _spec("maxmemory-eviction-tenacity", 10, low=0, high=50, step=10, group="memory",
          help="How much time eviction may take, 0..100."),
    _spec("lfu-log-factor", 10, low=1, high=100, step=10, group="memory",
          help="Hits that saturate an LFU counter."),
    _spec("lfu-decay-time", 1, unit="min", low=1, high=60, step=5, group="memory",
          help="Minutes until an LFU counter is decreased."),
    _spec("lazyfree-lazy-eviction", False, help="Free evicted keys in the background."),
    _spec("lazyfree-lazy-expire", False, help="Free expired keys in the background."),
    _spec("lazyfree-lazy-server-del", False, help="Free overwritten keys in the background."),
    _spec("lazyfree-lazy-user-del", False, help="Let DEL free in the background, like UNLINK."),
    _spec("activedefrag", False, group="cpu", help="Defragment memory at run time; uses CPU."),
    _spec("activerehashing", True, group="cpu", help="Rehash tables in idle time."),
    _spec("hz", 10, unit="1/s", low=10, high=100, step=10, group="cpu", help="Background runs per second."),
    _spec("dynamic-hz", True, group="cpu", help="Run background work more often with more clients."),
    _spec("timeout", 0, unit="s", low=0, high=86_400, step=3600, group="connections", zero="never",
          help="Close idle clients after this time; 0 = never."),
    _spec("tcp-keepalive", 300, unit="s", low=60, high=600, step=120, group="connections",
          help="Interval of keepalive probes on a silent connection."),
    _spec("maxclients", 10_000, low=100, high=100_000, group="connections", help="Most clients at once."),
])  # fmt: skip
"""The allow-list; no other parameter is ever set, such as dir, dbfilename or requirepass."""

_INFO_FIELDS = {
    "maxmemory": "maxmemory", "maxmemory-policy": "maxmemory_policy", "hz": "configured_hz",
    "maxclients": "maxclients",
}  # fmt: skip


def parse_value(name: str, text: object) -> Value:
    """Parse a value as Redis writes it.

    >>> parse_value("hz", "10"), parse_value("activedefrag", "no")
    (10, False)
    """
    kind = KNOB_SPECS[name].knob.type
    if kind is KnobType.INT:
        return int(str(text))
    return str(text) == "yes" if kind is KnobType.BOOL else str(text)


def format_value(name: str, value: Value) -> str:
    """Format a value for CONFIG SET; None = the default of Redis.

    >>> format_value("activedefrag", True), format_value("hz", None)
    ('yes', '10')
    """
    value = KNOB_SPECS[name].default if value is None else value
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def value_from_info(name: str, info: RedisInfo) -> Value:
    """Return a value from INFO, for servers without CONFIG; None when INFO does not have it."""
    found = info.get(_INFO_FIELDS.get(name, ""))
    return None if found is None else parse_value(name, found)


def validate_value(name: str, value: Value) -> Value:
    """Return the value in the knob's type. Raises RefusedError when it is invalid, out of range or denied."""
    knob = KNOB_SPECS[name].knob
    if knob.type is KnobType.INT and isinstance(value, float) and value.is_integer():
        value = int(value)
    wanted = {KnobType.INT: int, KnobType.BOOL: bool}.get(knob.type, str)
    if type(value) is not wanted or (knob.choices and value not in knob.choices):
        expected = " or ".join(knob.choices) or {int: "a whole number", bool: "true or false"}[wanted]
        raise RefusedError(f"{name} {value!r}: it must be {expected}")
    if isinstance(value, int) and not _is_in_range(name, value):
        raise RefusedError(f"{name} {value}: {_range_text(knob)}")
    if value in knob.denied:
        raise RefusedError(f"{name} {value!r} is never applied: {_denial_reason(name)}")
    return value


def refuse_unrestorable(name: str, now: Value) -> None:
    """Raise RefusedError when the current value is outside our range: a rollback could not restore it."""
    if isinstance(now, int) and not _is_in_range(name, now):
        raise RefusedError(
            f"{name} is {now}, which Trimtab could not restore: {_range_text(KNOB_SPECS[name].knob)}; "
            "change it by hand"
        )


def _is_in_range(name: str, value: int) -> bool:
    knob = KNOB_SPECS[name].knob
    return value == KNOB_SPECS[name].default or (knob.low or 0) <= value <= (knob.high or math.inf)


def _range_text(knob: Knob) -> str:
    low, high = f"{knob.low or 0:g}", "" if knob.high is None else f" and at most {knob.high:g}"
    return f"it must be at least {low}{high}"


def _denial_reason(name: str) -> str:
    return "writes would fail when memory is full" if name == "maxmemory-policy" else "it is not safe"


def project_memory(
    info: RedisInfo, maxmemory: int, budget: MemoryBudget, *, has_snapshots: bool = True
) -> MemoryProjection:
    """Return the worst-case memory use of Redis with this maxmemory.

    maxmemory     : bytes
    has_snapshots : whether snapshots are configured. With snapshots, an append-only file or replicas the
                    process forks, and every page written during the fork exists twice.
    """
    used, rss = int(info.get("used_memory", 0)), int(info.get("used_memory_rss", 0))
    fragmentation = max(0, rss - used)
    if used >= _MIN_MEASURED_BYTES:
        fragmentation = round(fragmentation / used * maxmemory)
    replicas = int(info.get("connected_slaves", 0))
    parts: list[tuple[str, float]] = [("maxmemory", maxmemory), ("fragmentation", fragmentation)]
    if has_snapshots or info.get("aof_enabled") or replicas:
        ratio, basis = _fork_copy_ratio(info, used)
        parts.append((f"fork copy-on-write ({basis})", round(ratio * maxmemory)))
    if replicas:
        parts.append(
            (f"buffers of {replicas} replica{'s' * (replicas > 1)}", replicas * REPLICA_BUFFER_BYTES)
        )
    if budget.others_bytes:
        parts.append((f"others on {budget.scope}", budget.others_bytes))
    return MemoryProjection(tuple(parts), budget)


def _fork_copy_ratio(info: RedisInfo, used: int) -> tuple[float, str]:
    """Return the ratio of the data that a fork copies, 0.1 to 1 (1 when unmeasured), and its basis."""
    copied = max(int(info.get("rdb_last_cow_size", 0)), int(info.get("aof_last_cow_size", 0)))
    if not copied or used < _MIN_MEASURED_BYTES:
        return 1.0, "worst case"
    ratio = min(1.0, max(0.1, copied / used))
    return ratio, f"{ratio:.0%} at the last one"


def bound_maxmemory(info: RedisInfo, budget: MemoryBudget, *, has_snapshots: bool) -> Knob:
    """Return the knob maxmemory with its current bounds; high is None when the memory limit is unknown."""
    knob = KNOB_SPECS["maxmemory"].knob
    low = float(max(2**20, int(info.get("used_memory_overhead", 0))))
    now = int(info.get("maxmemory", 0))
    step = float(now) if now else None
    if budget.limit_bytes is None:
        return replace(knob, low=low, step=step)
    unit = 2**30
    fixed = project_memory(info, 0, budget, has_snapshots=has_snapshots).projected_bytes
    slope = (project_memory(info, unit, budget, has_snapshots=has_snapshots).projected_bytes - fixed) / unit
    high = max(low, (MAX_FILL_RATIO * budget.limit_bytes - fixed) // slope)
    return replace(knob, low=low, high=high, step=step)


def refuse_unsafe_policy(info: RedisInfo, before: str, after: str) -> None:
    """Raise RefusedError when a policy would evict keys that are safe now, or could evict none at all."""
    if before == "noeviction":
        raise RefusedError(
            f"maxmemory-policy stays noeviction: with {after} a full Redis would evict keys, such as jobs "
            "of a queue; change it by hand if all keys can be fetched again"
        )
    keys, expiring = count_keys(info)
    if after.startswith("allkeys") and not before.startswith("allkeys") and expiring < keys:
        raise RefusedError(
            f"maxmemory-policy {after} is refused: {keys - expiring} of {keys} keys have no time to live and "
            f"could be evicted, unlike with {before}"
        )
    if after.startswith("volatile") and keys and not expiring:
        raise RefusedError(
            f"maxmemory-policy {after} is refused: none of {keys} keys has a time to live, so nothing could "
            "be evicted and writes would fail"
        )


def count_keys(info: RedisInfo) -> tuple[int, int]:
    """Return the number of keys of all databases, and how many of them have a time to live."""
    databases = [value for name, value in info.items() if name.startswith("db") and isinstance(value, dict)]
    return sum(db.get("keys", 0) for db in databases), sum(db.get("expires", 0) for db in databases)


def eviction_warning(info: RedisInfo, after: int) -> str:
    """Return what lowering maxmemory to `after` bytes evicts; "" when it evicts nothing."""
    used = int(info.get("used_memory", 0))
    if not after or used <= after:
        return ""
    return f"{format_bytes(used - after)} of keys are evicted: the setting is reversible, the data is not"
