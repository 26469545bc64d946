"""What of Redis may be set at all: an allow-list, with the bounds that hold now and the rules of each."""

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
"""Bytes that the output buffer of one replica may take: Redis' own hard limit."""
_MIN_MEASURED_BYTES = 64 * 2**20
"""Below so many bytes of data the overheads say nothing about larger data."""
RedisInfo = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KnobSpec:
    """A knob and what holds where nobody set it."""

    knob: Knob
    default: Value


def _spec(name: str, default: Value, **given: Any) -> tuple[str, KnobSpec]:  # noqa: ANN401 - fields of a Knob
    kind = KnobType.BOOL if isinstance(default, bool) else KnobType.INT
    return name, KnobSpec(Knob(name, given.pop("type", kind), default=default, **given), default)


KNOB_SPECS: dict[str, KnobSpec] = dict([
    _spec("maxmemory", 0, unit="B", low=2**20, group="memory", warm_up_s=120.0, zero="no limit",
          help="Memory for keys; 0 = no limit. Lowering it evicts: setting reversible, data not."),
    _spec("maxmemory-policy", "noeviction", type=KnobType.CHOICE, choices=POLICIES, denied=("noeviction",),
          group="memory", warm_up_s=120.0, reversible=False, help="Which keys go when memory is full."),
    _spec("maxmemory-samples", 5, low=3, high=16, step=5, group="memory",
          help="Keys looked at to find one to evict."),
    _spec("maxmemory-eviction-tenacity", 10, low=0, high=50, step=10, group="memory",
          help="How much time eviction may take, 0..100."),
    _spec("lfu-log-factor", 10, low=1, high=100, step=10, group="memory",
          help="Hits that a counter of LFU needs to be full."),
    _spec("lfu-decay-time", 1, unit="min", low=1, high=60, step=5, group="memory",
          help="Minutes until a counter of LFU is lowered."),
    _spec("lazyfree-lazy-eviction", False, help="Evicted keys are freed in the background."),
    _spec("lazyfree-lazy-expire", False, help="Expired keys are freed in the background."),
    _spec("lazyfree-lazy-server-del", False, help="Overwritten keys are freed in the background."),
    _spec("lazyfree-lazy-user-del", False, help="DEL frees in the background, as UNLINK does."),
    _spec("activedefrag", False, group="cpu", help="Memory is defragmented while running; takes CPU."),
    _spec("activerehashing", True, group="cpu", help="Tables are rehashed in spare time."),
    _spec("hz", 10, unit="1/s", low=10, high=100, step=10, group="cpu", help="Rounds of background work."),
    _spec("dynamic-hz", True, group="cpu", help="More rounds of background work with more clients."),
    _spec("timeout", 0, unit="s", low=0, high=86_400, step=3600, group="connections", zero="never",
          help="Idle clients are closed after so long; 0 = never."),
    _spec("tcp-keepalive", 300, unit="s", low=60, high=600, step=120, group="connections",
          help="How often a silent connection is probed."),
    _spec("maxclients", 10_000, low=100, high=100_000, group="connections", help="Clients at once."),
])  # fmt: skip
"""Nothing else is ever set: no dir, no dbfilename, no requirepass."""

_INFO_FIELDS = {
    "maxmemory": "maxmemory", "maxmemory-policy": "maxmemory_policy", "hz": "configured_hz",
    "maxclients": "maxclients",
}  # fmt: skip


def parse_value(name: str, text: object) -> Value:
    """A value as Redis writes it.

    >>> parse_value("hz", "10"), parse_value("activedefrag", "no"), parse_value("maxmemory-policy", "allkeys-lru")
    (10, False, 'allkeys-lru')
    """
    kind = KNOB_SPECS[name].knob.type
    if kind is KnobType.INT:
        return int(str(text))
    return str(text) == "yes" if kind is KnobType.BOOL else str(text)


def format_value(name: str, value: Value) -> str:
    """A value as Redis reads it; None = what holds where nobody set it.

    >>> format_value("activedefrag", True), format_value("hz", None)
    ('yes', '10')
    """
    value = KNOB_SPECS[name].default if value is None else value
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def value_from_info(name: str, info: RedisInfo) -> Value:
    """A value where CONFIG cannot be asked; None = it is not to be seen."""
    found = info.get(_INFO_FIELDS.get(name, ""))
    return None if found is None else parse_value(name, found)


def validate_value(name: str, value: Value) -> Value:
    """The value, if it is one of this knob. Raises RefusedError."""
    knob = KNOB_SPECS[name].knob
    if knob.type is KnobType.INT and isinstance(value, float) and value.is_integer():
        value = int(value)
    wanted = {KnobType.INT: int, KnobType.BOOL: bool}.get(knob.type, str)
    if type(value) is not wanted or (knob.choices and value not in knob.choices):
        words = " or ".join(knob.choices) or {int: "a whole number", bool: "true or false"}[wanted]
        raise RefusedError(f"{name} {value!r}: it must be {words}")
    if isinstance(value, int) and not _is_in_range(name, value):
        raise RefusedError(f"{name} {value}: {_range_text(knob)}")
    if value in knob.denied:
        raise RefusedError(f"{name} {value!r} is never applied: {_denial_reason(name)}")
    return value


def refuse_unrestorable(name: str, now: Value) -> None:
    """Raises RefusedError where somebody chose a value that we would not: it could not be given back."""
    if isinstance(now, int) and not _is_in_range(name, now):
        raise RefusedError(
            f"{name} is {now}, somebody chose that; {_range_text(KNOB_SPECS[name].knob)} for us, so it is left alone"
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
    """Memory that Redis may come to take with this maxmemory, at its worst.

    saves : snapshots are configured; with them, an append-only file or replicas the process forks, and then
            every page that is written meanwhile is there twice
    """
    used, rss = int(info.get("used_memory", 0)), int(info.get("used_memory_rss", 0))
    waste = max(0, rss - used)
    if used >= _MIN_MEASURED_BYTES:
        waste = round(waste / used * maxmemory)
    replicas = int(info.get("connected_slaves", 0))
    parts: list[tuple[str, float]] = [("maxmemory", maxmemory), ("fragmentation", waste)]
    if has_snapshots or info.get("aof_enabled") or replicas:
        share, how = _fork_copy_ratio(info, used)
        parts.append((f"fork copy-on-write ({how})", round(share * maxmemory)))
    if replicas:
        parts.append(
            (f"buffers of {replicas} replica{'s' * (replicas > 1)}", replicas * REPLICA_BUFFER_BYTES)
        )
    if budget.others_bytes:
        parts.append((f"others on {budget.scope}", budget.others_bytes))
    return MemoryProjection(tuple(parts), budget)


def _fork_copy_ratio(info: RedisInfo, used: int) -> tuple[float, str]:
    """Share of the data that a fork came to copy, at least a tenth; all of it where none was measured."""
    copied = max(int(info.get("rdb_last_cow_size", 0)), int(info.get("aof_last_cow_size", 0)))
    if not copied or used < _MIN_MEASURED_BYTES:
        return 1.0, "worst case"
    share = min(1.0, max(0.1, copied / used))
    return share, f"{share:.0%} at the last one"


def bound_maxmemory(info: RedisInfo, budget: MemoryBudget, *, has_snapshots: bool) -> Knob:
    """The knob maxmemory with the bounds that hold now; high is None where the limit is unknown."""
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
    """Raises RefusedError where keys that were safe could go, or nothing could go any more."""
    if before == "noeviction":
        raise RefusedError(
            f"maxmemory-policy stays noeviction: with {after} a full Redis would drop keys, such as jobs of "
            "a queue; a person who knows that all keys can be fetched again may change it by hand"
        )
    keys, expiring = count_keys(info)
    if after.startswith("allkeys") and not before.startswith("allkeys") and expiring < keys:
        raise RefusedError(
            f"maxmemory-policy {after} is refused: {keys - expiring} of {keys} keys have no time to live and "
            f"would be dropped, which {before} does not do"
        )
    if after.startswith("volatile") and keys and not expiring:
        raise RefusedError(
            f"maxmemory-policy {after} is refused: none of {keys} keys has a time to live, so that "
            "nothing could be evicted and writes would fail"
        )


def count_keys(info: RedisInfo) -> tuple[int, int]:
    """Keys of all databases, and how many of them have a time to live."""
    found = [value for name, value in info.items() if name.startswith("db") and isinstance(value, dict)]
    return sum(each.get("keys", 0) for each in found), sum(each.get("expires", 0) for each in found)


def eviction_warning(info: RedisInfo, after: int) -> str:
    """What lowering maxmemory to `after` bytes takes, in words; "" = nothing."""
    used = int(info.get("used_memory", 0))
    if not after or used <= after:
        return ""
    return f"{format_bytes(used - after)} of keys are evicted: the setting is reversible, the data is not"
