"""The role of a series for its entity, told by name, unit and labels; see `role_table` for the table."""

import re
from dataclasses import dataclass
from functools import lru_cache

from trimtab.engine.patterns.role_table import GENERIC, ROWS, Role
from trimtab.engine.types import SeriesKey

_IGNORED = re.compile(
    r"(go|promhttp|prometheus|scrape|net_conntrack|trimtab)_.+"
    r"|.+_(created|bucket|sum|info)|.+_(cache|swap|mapped_file|failcnt|virtual_memory(_max)?_bytes)"
)
"""What tells of the exporter itself, or in a unit of its own."""
_EXPORTERS = re.compile(
    r"(redis|memcached|pg(?!_pool)|pgbouncer|node|host|nginx_connections|jvm|hikaricp|kube|container|pm2|rabbitmq|kafka|nodejs)_.+"
)
"""Names that the table knows whole: what it does not say of them their words do not say either."""
_SIZE_UNITS = frozenset({"", "B", "kB", "MB", "ratio", "%"})
_TIME_UNITS = frozenset({"", "s", "ms", "us", "ns"})
_COUNTER_ROLES = frozenset({Role.HITS, Role.MISSES, Role.EVICTIONS, Role.ERRORS, Role.THROUGHPUT})
_UNITS = {
    Role.LATENCY: _TIME_UNITS,
    Role.DEPENDENCY_LATENCY: _TIME_UNITS,
    Role.MEMORY_USED: _SIZE_UNITS,
    Role.MEMORY_LIMIT: _SIZE_UNITS,
    Role.QUEUE_LENGTH: frozenset({""}),
}
"""Units in which a generic row can be right; a role that is not here may have any."""


@dataclass(frozen=True, slots=True)
class SeriesRole:
    """What a series is to its entity.

    family : of tools that it tells of, as "redis"; "" = not known
    take   : how several series of one metric become one figure: sum, max, min, mean, percent
    rank   : place of its row in the table: of several metrics with one role the first one speaks
    """

    role: Role
    family: str
    aggregation: str
    rank: int


_Compiled = tuple[re.Pattern[str], dict[str, re.Pattern[str]], SeriesRole]


def _compile_table() -> list[_Compiled]:
    rows = [*ROWS, *GENERIC]
    return [
        (
            re.compile(name),
            {k: re.compile(v) for k, v in labels.items()},
            SeriesRole(role, family, take, rank),
        )
        for rank, (family, role, take, name, labels) in enumerate(rows)
    ]


_TABLE = _compile_table()


def find_role(key: SeriesKey, unit: str = "", kind: str = "gauge") -> SeriesRole | None:
    """The part of a series; None = it plays none that a pattern asks for.

    unit, kind : as in `SeriesInfo`; they decide only where no exporter is known

    >>> part_of(SeriesKey.of("p", "redis_keyspace_hits_total", {"job": "redis"})).role
    <Role.HITS: 'hits'>
    >>> part_of(SeriesKey.of("p", "http_requests_total", {"code": "503"}), "1/s", "rate").role
    <Role.ERRORS: 'errors'>
    >>> part_of(SeriesKey.of("p", "node_time_zone_offset_seconds")) is None
    True
    """
    labels = dict(key.labels)
    for wanted, part in _matching_rows(key.metric):
        fits = part.rank < len(ROWS) or _unit_fits(part.role, unit, kind)
        if fits and all(name in labels and value.fullmatch(labels[name]) for name, value in wanted):
            return part
    return None


@lru_cache(maxsize=20_000)
def _matching_rows(metric: str) -> tuple[tuple[tuple[tuple[str, re.Pattern[str]], ...], SeriesRole], ...]:
    """Rows whose name pattern a metric matches, in the order of the table."""
    if _IGNORED.fullmatch(metric):
        return ()
    rows = _TABLE[: len(ROWS)] if _EXPORTERS.fullmatch(metric) else _TABLE
    return tuple((tuple(wanted.items()), part) for name, wanted, part in rows if name.fullmatch(metric))


def _unit_fits(role: Role, unit: str, kind: str) -> bool:
    if role in _UNITS:
        return unit in _UNITS[role] and kind == "gauge"
    return kind == "rate" or unit == "1/s" if role in _COUNTER_ROLES else True
