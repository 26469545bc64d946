"""The role of a series for its entity, from its name, unit and labels; `role_table` has the table."""

import re
from dataclasses import dataclass
from functools import lru_cache

from trimtab.engine.patterns.role_table import GENERIC, ROWS, Role
from trimtab.engine.types import SeriesKey

_IGNORED = re.compile(
    r"(go|promhttp|prometheus|scrape|net_conntrack|trimtab)_.+"
    r"|.+_(created|bucket|sum|info)|.+_(cache|swap|mapped_file|failcnt|virtual_memory(_max)?_bytes)"
)
"""Metrics of the exporter itself, or without a usable unit."""
_EXPORTERS = re.compile(
    r"(redis|memcached|pg(?!_pool)|pgbouncer|node|host|nginx_connections|jvm|hikaricp|kube|container|pm2|rabbitmq|kafka|nodejs)_.+"
)
"""Exporters that the table covers completely: generic rows do not apply to their metrics."""
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
"""Units for which a generic row applies; a role not listed accepts every unit."""


@dataclass(frozen=True, slots=True)
class SeriesRole:
    """Role of a series for its entity.

    family      : tool family, for example "redis"; "" = unknown
    aggregation : how several series of one metric are combined: sum, max, min, mean, percent
    rank        : index of its table row: the metric with the lowest rank of a role is used
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
            SeriesRole(role, family, aggregation, rank),
        )
        for rank, (family, role, aggregation, name, labels) in enumerate(rows)
    ]


_TABLE = _compile_table()


def find_role(key: SeriesKey, unit: str = "", kind: str = "gauge") -> SeriesRole | None:
    """Return the role of a series; None if no pattern uses it.

    unit, kind : as in `SeriesInfo`; used only for metrics of unknown exporters

    >>> find_role(SeriesKey.of("p", "redis_keyspace_hits_total", {"job": "redis"})).role
    <Role.HITS: 'hits'>
    >>> find_role(SeriesKey.of("p", "http_requests_total", {"code": "503"}), "1/s", "rate").role
    <Role.ERRORS: 'errors'>
    >>> find_role(SeriesKey.of("p", "node_time_zone_offset_seconds")) is None
    True
    """
    labels = dict(key.labels)
    for label_patterns, series_role in _matching_rows(key.metric):
        fits = series_role.rank < len(ROWS) or _unit_fits(series_role.role, unit, kind)
        if fits and all(name in labels and value.fullmatch(labels[name]) for name, value in label_patterns):
            return series_role
    return None


@lru_cache(maxsize=20_000)
def _matching_rows(metric: str) -> tuple[tuple[tuple[tuple[str, re.Pattern[str]], ...], SeriesRole], ...]:
    """Return the rows whose name pattern matches a metric, in table order."""
    if _IGNORED.fullmatch(metric):
        return ()
    rows = _TABLE[: len(ROWS)] if _EXPORTERS.fullmatch(metric) else _TABLE
    return tuple(
        (tuple(label_patterns.items()), series_role)
        for name, label_patterns, series_role in rows
        if name.fullmatch(metric)
    )


def _unit_fits(role: Role, unit: str, kind: str) -> bool:
    if role in _UNITS:
        return unit in _UNITS[role] and kind == "gauge"
    return kind == "rate" or unit == "1/s" if role in _COUNTER_ROLES else True
