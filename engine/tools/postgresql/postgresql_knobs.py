"""PostgreSQL knobs: the allow-list of settings that a reload applies, their bounds and their memory use."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.engine.errors import RefusedError
from trimtab.engine.tools.memory_budget import MAX_FILL_RATIO, MemoryBudget, MemoryProjection
from trimtab.engine.types import Knob, KnobReading, KnobType, Lasts, Value

MB = 2**20
FORBIDDEN_SETTINGS = {
    "fsync": "a crash could destroy the database",
    "full_page_writes": "a crash could leave torn pages",
    "synchronous_commit": "a crash would lose commits that were acknowledged",
    "autovacuum": "tables would bloat until transaction ids run out",
    "zero_damaged_pages": "it destroys data",
    "wal_level": "replicas and backups could break",
}
"""Settings that are never changed because they trade safety for speed, with the reason."""

_UNIT_FACTORS = {"B": 1, "kB": 1024, "8kB": 8192, "MB": MB, "GB": 1024 * MB, "ms": 0.001, "s": 1, "min": 60}
_BYTES = ("B", "kB", "8kB", "MB", "GB")
MEMORY_KNOBS = ("work_mem", "hash_mem_multiplier", "maintenance_work_mem")
"""Settings that raise the memory use of sessions and workers."""


_KNOB_TABLE: tuple[tuple[str, KnobType, str, str, float, float | None, float, str], ...] = (
    ("work_mem", KnobType.INT, "memory", "B", MB, None, 60, "Memory of one sort or hash."),
    ("hash_mem_multiplier", KnobType.FLOAT, "memory", "", 1, 4, 60, "Memory of a hash, times work_mem."),
    ("maintenance_work_mem", KnobType.INT, "memory", "B", 16 * MB, None, 600, "Memory of one vacuum."),
    ("effective_cache_size", KnobType.INT, "planner", "B", 64 * MB, None, 60, "Cache the planner assumes."),
    ("random_page_cost", KnobType.FLOAT, "planner", "", 1, 4, 60, "Cost of a random page; 1.1 suits SSDs."),
    ("effective_io_concurrency", KnobType.INT, "planner", "", 0, 256, 60, "Concurrent reads of a disk."),
    ("default_statistics_target", KnobType.INT, "planner", "", 50, 1000, 600, "Detail of ANALYZE."),
    ("max_parallel_workers_per_gather", KnobType.INT, "planner", "", 0, 8, 60, "Workers of a query."),
    ("jit", KnobType.BOOL, "planner", "", 0, 1, 60, "Compile expressions of expensive queries."),
    ("checkpoint_timeout", KnobType.INT, "wal", "s", 60, 1800, 900, "Longer = fewer, and longer recovery."),
    ("checkpoint_completion_target", KnobType.FLOAT, "wal", "", 0.5, 0.95, 900, "How far one is spread."),
    ("max_wal_size", KnobType.INT, "wal", "B", 256 * MB, None, 900, "WAL between checkpoints; uses disk."),
    ("bgwriter_lru_maxpages", KnobType.INT, "wal", "", 100, 1000, 60, "Pages per background write round."),
    ("autovacuum_vacuum_scale_factor", KnobType.FLOAT, "vacuum", "", 0.01, 0.4, 600, "Share of dead rows."),
    ("autovacuum_vacuum_insert_scale_factor", KnobType.FLOAT, "vacuum", "", 0.01, 0.4, 600, "Of new rows."),
    ("autovacuum_analyze_scale_factor", KnobType.FLOAT, "vacuum", "", 0.01, 0.4, 600, "Of changed rows."),
    ("autovacuum_vacuum_cost_limit", KnobType.INT, "vacuum", "", 200, 10_000, 600, "Work between pauses."),
    ("autovacuum_vacuum_cost_delay", KnobType.FLOAT, "vacuum", "s", 0, 0.02, 600, "Length of the pauses."),
    ("autovacuum_naptime", KnobType.INT, "vacuum", "s", 10, 300, 600, "Time between autovacuum runs."),
)  # fmt: skip
"""Name, type, group, unit, low, high, warm-up in seconds, help. Statement and session timeouts are left out:
they would abort the work of clients."""


def _grain(kind: KnobType, unit: str, high: float | None) -> float:
    """Return the step width of proposals: fine enough, and exact in the setting's own unit."""
    if kind is KnobType.BOOL:
        return 0.0
    if kind is KnobType.INT:
        return float(MB) if unit == "B" else 1.0
    return 0.01 if (high or 0.0) >= 0.5 else 0.001 if unit == "" else 0.0001


KNOBS: dict[str, Knob] = {
    name: Knob(
        name,
        kind,
        unit,
        low,
        high,
        group=group,
        warm_up_s=warm_up_s,
        help=words,
        grain=_grain(kind, unit, high),
    )
    for name, kind, group, unit, low, high, warm_up_s, words in _KNOB_TABLE
}
"""The allow-list: knob name -> knob."""


@dataclass(frozen=True, slots=True)
class PgSetting:
    """A row of pg_settings. `file` is None when no file sets it, or when our role may not see the file."""

    name: str
    raw_value: str
    raw_default: str
    unit: str | None
    vartype: str
    source: str
    file: str | None
    line: int | None

    @property
    def value(self) -> Value:
        """Current value in base units: bytes, seconds."""
        return to_base_unit(self, self.raw_value)

    @property
    def default(self) -> Value:
        """Built-in default in base units."""
        return to_base_unit(self, self.raw_default)

    @property
    def is_set_by_alter_system(self) -> bool:
        """Whether ALTER SYSTEM set it; undoing a change of any other setting means a reset."""
        return self.file is not None and self.file.endswith("postgresql.auto.conf")


def to_base_unit(setting: PgSetting, text: str) -> Value:
    """Convert a setting's text to bytes, seconds, a number or a bool.

    >>> to_base_unit(PgSetting("work_mem", "4096", "4096", "kB", "integer", "default", None, None), "4096")
    4194304
    """
    if setting.vartype == "bool":
        return text == "on"
    factor = _UNIT_FACTORS.get(setting.unit or "", 1)
    number = float(text)
    if number < 0 or (KNOBS[setting.name].type is KnobType.INT and factor >= 1):
        return int(number * (factor if number >= 0 else 1))
    return round(number * factor, 9)


def format_value(setting: PgSetting, value: Value) -> str:
    """Format a value for ALTER SYSTEM.

    >>> format_value(PgSetting("work_mem", "4096", "4096", "kB", "integer", "default", None, None), 8 * 2**20)
    '8MB'
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    number = float(str(value))
    if number < 0 or setting.unit is None:
        return f"{number:.10g}"
    steps = round(number / _UNIT_FACTORS[setting.unit], 9)
    if setting.unit == "8kB":
        return f"{steps * 8:.0f}kB" if steps % 128 else f"{steps / 128:.0f}MB"
    if setting.unit == "kB" and steps % 1024 == 0:
        return f"{steps / 1024:.0f}MB"
    # PostgreSQL rounds a fraction with a unit down to the next smaller unit; a bare number stays exact.
    return f"{steps:.0f}{setting.unit}" if steps.is_integer() else f"{steps:.6g}"


def validate_value(setting: PgSetting, value: Value) -> Value:
    """Return the value as PostgreSQL stores it. Raises RefusedError when it is inexact or out of range."""
    knob = KNOBS[setting.name]
    if knob.type is KnobType.BOOL:
        if not isinstance(value, bool):
            raise RefusedError(f"{knob.name} {value!r}: it must be true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RefusedError(
            f"{knob.name} {value!r}: it must be a number{f', in {knob.unit}' if knob.unit else ''}"
        )
    stored = to_base_unit(
        setting, _raw_text(value if value < 0 else value / _UNIT_FACTORS.get(setting.unit or "", 1), knob)
    )
    if not values_equal(stored, value):
        raise RefusedError(f"{knob.name} {value}: PostgreSQL would store {stored}; use that")
    if not is_in_range(setting, value):
        raise RefusedError(f"{knob.name} {value}: {_range_text(knob)}")
    return stored


def values_equal(one: Value, other: Value) -> bool:
    """Return whether two values are equal up to the last digits of a float."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return one == other


def _raw_text(steps: float, knob: Knob) -> str:
    """Return a number in the setting's unit as pg_settings shows it: whole, or six significant digits."""
    return str(round(steps)) if knob.type is KnobType.INT else f"{steps:.6g}"


def refuse_unrestorable(setting: PgSetting) -> None:
    """Raise RefusedError when ALTER SYSTEM has no effect, or when a rollback could not restore the value."""
    origin = {
        "command line": "given on the command line", "environment variable": "given in the environment",
        "user": "set for our role by ALTER ROLE", "database": "set for this database by ALTER DATABASE",
        "database user": "set for our role in this database", "session": "set in our session",
    }.get(setting.source)  # fmt: skip
    if origin:
        raise RefusedError(f"{setting.name} is {origin}: ALTER SYSTEM would not change it; change it there")
    value = setting.value
    if isinstance(value, int | float) and not is_in_range(setting, value):
        raise RefusedError(
            f"{setting.name} is {value}, which Trimtab could not restore: "
            f"{_range_text(KNOBS[setting.name])}; change it by hand"
        )


def is_in_range(setting: PgSetting, value: float) -> bool:
    """Return whether a value is within the knob's bounds, or the default."""
    knob = KNOBS[setting.name]
    low, high = knob.low or 0, math.inf if knob.high is None else knob.high
    return value == setting.default or low <= value <= high


def _range_text(knob: Knob) -> str:
    high = "" if knob.high is None else f" and at most {knob.high:g}"
    return f"it must be at least {knob.low or 0:g}{high}"


def make_reading(setting: PgSetting, *, sees_source_files: bool) -> KnobReading:
    """Return the reading of a setting. sees_source_files : our role may see which file sets it."""
    note = ""
    if setting.file is not None and not setting.is_set_by_alter_system:
        note = f"set in {setting.file} line {setting.line}; undoing a change resets to it"
    elif setting.source not in {"default", "configuration file", "override"}:
        note = f"set by: {setting.source}"
    elif not sees_source_files:
        note = "pg_read_all_settings is needed to see which file sets it"
    return KnobReading(setting.value, setting.is_set_by_alter_system, Lasts.IN_A_FILE, note)


def project_memory(sizes: Mapping[str, float], budget: MemoryBudget, **change: float) -> MemoryProjection:
    """Return the memory use when every connection sorts or hashes and every autovacuum worker runs at once.

    sizes  : shared_buffers, work_mem and maintenance_work_mem in bytes; hash_mem_multiplier, max_connections,
             autovacuum_max_workers
    change : values that replace those of `sizes`
    """
    now = {**sizes, **change}
    connections, workers = now["max_connections"], now["autovacuum_max_workers"]
    sorts = now["work_mem"] * now["hash_mem_multiplier"] * connections
    parts: list[tuple[str, float]] = [
        ("shared_buffers", now["shared_buffers"]),
        (f"work_mem x {now['hash_mem_multiplier']:g} x {connections:.0f} connections", sorts),
        (f"maintenance_work_mem x {workers:.0f} workers", now["maintenance_work_mem"] * workers),
    ]
    if budget.others_bytes:
        parts.append((f"others on {budget.scope}", budget.others_bytes))
    return MemoryProjection(tuple(parts), budget)


def bound_knob(knob: Knob, sizes: Mapping[str, float], budget: MemoryBudget) -> Knob:
    """Return the knob with its current bounds; high stays None when the memory limit is unknown."""
    if budget.limit_bytes is None or knob.high is not None:
        return knob
    if knob.name == "effective_cache_size":
        return replace(knob, high=float(MAX_FILL_RATIO * budget.limit_bytes // MB * MB))
    if knob.name not in MEMORY_KNOBS:
        return knob
    fixed = project_memory(sizes, budget, **{knob.name: 0.0}).projected_bytes
    slope = (project_memory(sizes, budget, **{knob.name: float(MB)}).projected_bytes - fixed) / MB
    high = max(0.0, (MAX_FILL_RATIO * budget.limit_bytes - fixed) / slope) // 1024 * 1024
    return replace(knob, high=max(float(knob.low or 0), high))


def parse_settings(rows: Sequence[Mapping[str, Any]]) -> dict[str, PgSetting]:
    """Return rows of pg_settings as settings by name."""
    return {
        row["name"]: PgSetting(
            row["name"], row["setting"], row["boot_val"], row["unit"], row["vartype"], row["source"],
            row["sourcefile"], row["sourceline"],
        )
        for row in rows
    }  # fmt: skip
