"""Selects the series that measure load: they rise and fall with the requested work."""

import re
from collections.abc import Iterable

from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import part_of
from trimtab.engine.types import SeriesInfo

LOAD_ROLES = (
    Role.THROUGHPUT, Role.QUEUE_LENGTH, Role.CONNECTIONS_USED, Role.CPU, Role.CONNECTIONS_WAITING,
    Role.DEPENDENCY_CALLS, Role.POOL_RATIO, Role.LOOP, Role.IO,
)  # fmt: skip
"""Roles that are forecast, most useful for capacity decisions first."""


def select_loads(infos: Iterable[SeriesInfo], max_series: int, pattern: str = "") -> list[SeriesInfo]:
    """Return up to `max_series` series that measure load, most useful first.

    pattern : regular expression; if given, the series whose name contains a match, whatever their role

    Raises re.error for an invalid pattern.

    >>> from trimtab.engine.types import SeriesKey
    >>> names = ("redis_connected_clients", "redis_memory_used_bytes")
    >>> [info.key.metric for info in select_loads((SeriesInfo(SeriesKey("p", name)) for name in names), 10)]
    ['redis_connected_clients']
    """
    wanted = re.compile(pattern) if pattern else None
    found: list[tuple[int, str, SeriesInfo]] = []
    for info in infos:
        name = str(info.key)
        if wanted is not None:
            if wanted.search(name):
                found.append((0, name, info))
        elif not info.is_transient and (rank := _role_rank(info)) is not None:
            found.append((rank, name, info))
    found.sort(key=lambda row: row[:2])
    return [info for _, _, info in found[:max_series]]


def _role_rank(info: SeriesInfo) -> int | None:
    """Return the position of the series' role; None = it measures no load."""
    part = part_of(info.key, info.unit, info.kind)
    if part is None or part.role not in LOAD_ROLES:
        return None
    return LOAD_ROLES.index(part.role)
