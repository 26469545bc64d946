"""Redis metrics from INFO, by the names of redis_exporter."""

from collections.abc import Iterator, Mapping

from trimtab.engine.tools.redis.redis_knobs import RedisInfo, count_keys

_METRIC_NAMES = {
    "uptime_in_seconds": "redis_uptime_in_seconds",
    "connected_clients": "redis_connected_clients",
    "blocked_clients": "redis_blocked_clients",
    "maxclients": "redis_config_maxclients",
    "used_memory": "redis_memory_used_bytes",
    "used_memory_rss": "redis_memory_used_rss_bytes",
    "used_memory_peak": "redis_memory_used_peak_bytes",
    "used_memory_overhead": "redis_memory_used_overhead_bytes",
    "used_memory_dataset": "redis_memory_used_dataset_bytes",
    "total_system_memory": "redis_total_system_memory_bytes",
    "maxmemory": "redis_memory_max_bytes",
    "mem_fragmentation_ratio": "redis_mem_fragmentation_ratio",
    "mem_not_counted_for_evict": "redis_mem_not_counted_for_eviction_bytes",
    "lazyfree_pending_objects": "redis_lazyfree_pending_objects",
    "active_defrag_running": "redis_active_defrag_running",
    "loading": "redis_loading_dump_file",
    "rdb_changes_since_last_save": "redis_rdb_changes_since_last_save",
    "rdb_last_cow_size": "redis_rdb_last_cow_size_bytes",
    "aof_last_cow_size": "redis_aof_last_cow_size_bytes",
    "total_connections_received": "redis_connections_received_total",
    "rejected_connections": "redis_rejected_connections_total",
    "total_commands_processed": "redis_commands_processed_total",
    "instantaneous_ops_per_sec": "redis_instantaneous_ops_per_sec",
    "total_net_input_bytes": "redis_net_input_bytes_total",
    "total_net_output_bytes": "redis_net_output_bytes_total",
    "expired_keys": "redis_expired_keys_total",
    "evicted_keys": "redis_evicted_keys_total",
    "keyspace_hits": "redis_keyspace_hits_total",
    "keyspace_misses": "redis_keyspace_misses_total",
    "total_error_replies": "redis_total_error_replies",
    "connected_slaves": "redis_connected_slaves",
    "used_cpu_sys": "redis_cpu_sys_seconds_total",
    "used_cpu_user": "redis_cpu_user_seconds_total",
}


def metrics_from_info(info: RedisInfo) -> Mapping[str, float]:
    """Return the metrics of an INFO reply; missing fields give no metric.

    >>> metrics_from_info({"keyspace_hits": 3, "db0": {"keys": 2, "expires": 1}})["redis_db_keys"]
    2.0
    """
    return {"redis_up": 1.0, **dict(_iter_metrics(info))}


def _iter_metrics(info: RedisInfo) -> Iterator[tuple[str, float]]:
    for field, name in _METRIC_NAMES.items():
        value = info.get(field)
        if isinstance(value, int | float):
            yield name, float(value)
    if isinstance(info.get("latest_fork_usec"), int):
        yield "redis_latest_fork_seconds", info["latest_fork_usec"] / 1e6
    keys, expiring = count_keys(info)
    if "keyspace_hits" in info:
        yield "redis_db_keys", float(keys)
        yield "redis_db_keys_expiring", float(expiring)
