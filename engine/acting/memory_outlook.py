"""The sums that memory comes to, by kind of server."""

from trimtab.engine.types import MemoryOutlook, in_words

__all__ = ["MemoryOutlook", "in_words", "postgresql_memory", "redis_memory"]


def redis_memory(
    limit_bytes: float | None,
    others_bytes: float | None,
    maxmemory: float,
    *,
    forks: bool = True,
    written_share: float = 1.0,
    replicas: int = 0,
    replica_buffer_bytes: float = 256 * 2**20,
    fragmentation: float = 1.0,
) -> MemoryOutlook:
    """Memory when a Redis is full up to `maxmemory`.

    others_bytes  : what everything but this Redis uses
    forks         : it saves, rewrites its log, or has replicas: a copy of what is written meanwhile is kept
    written_share : of the data that is written while a fork runs, 0..1; 1 = unknown, the worst case
    fragmentation : resident over used memory; below 1 (something is swapped) counts as 1

    >>> redis_memory(16 * 2**30, 2**30, 4 * 2**30, replicas=1).sum
    '4.0 GiB data + 4.0 GiB copied on write while it saves + 256.0 MiB buffers of 1 replica + 1.0 GiB others'
    """
    data = maxmemory * max(fragmentation, 1.0)
    parts: list[tuple[str, float | None]] = [("data", data)]
    if forks:
        parts.append(("copied on write while it saves", data * written_share))
    if replicas:
        plural = "" if replicas == 1 else "s"
        parts.append((f"buffers of {replicas} replica{plural}", replicas * replica_buffer_bytes))
    return MemoryOutlook(limit_bytes, (*parts, ("others", others_bytes)))


def postgresql_memory(
    limit_bytes: float | None,
    others_bytes: float | None,
    *,
    shared_buffers: float,
    work_mem: float,
    connections: int,
    hash_mem_multiplier: float = 2.0,
    maintenance_work_mem: float = 64 * 2**20,
    workers: int = 3,
) -> MemoryOutlook:
    """Memory when every connection sorts or hashes at once, and every autovacuum worker works.

    connections : max_connections; workers : autovacuum_max_workers; all sizes in bytes

    >>> postgresql_memory(2**33, 0, shared_buffers=2**30, work_mem=2**22, connections=100).sum
    '1.0 GiB shared buffers + 800.0 MiB work_mem of 100 connections + 192.0 MiB autovacuum + 0 bytes others'
    """
    return MemoryOutlook(
        limit_bytes,
        (
            ("shared buffers", shared_buffers),
            (f"work_mem of {connections} connections", work_mem * hash_mem_multiplier * connections),
            ("autovacuum", maintenance_work_mem * workers),
            ("others", others_bytes),
        ),
    )
