"""Table of metric names and their roles, for the usual exporters; the first match wins.

A row is (family, role, aggregation, name pattern, label patterns); patterns match whole names and values.
Counters are listed under their own names, although the engine holds them as rates. Histograms end in `_p50`
and `_p99`.
"""

from enum import StrEnum


class Role(StrEnum):
    """What a series measures for its entity, independent of the exporter."""

    HIT_RATIO = "hit ratio"
    HITS = "hits"
    MISSES = "misses"
    EVICTIONS = "evictions"
    MEMORY_USED = "memory used"
    MEMORY_FREE = "memory free"
    MEMORY_LIMIT = "memory limit"
    MEMORY_RATIO = "memory used of its limit"
    LATENCY = "latency"
    THROUGHPUT = "throughput"
    ERRORS = "errors"
    ERROR_RATIO = "error ratio"
    CPU = "CPU use"
    CPU_IDLE = "CPU idle"
    CPU_LIMIT = "CPU limit"
    IO = "disk use"
    LOOP = "event loop use"
    PRESSURE = "waiting for CPU or event loop"
    POOL_RATIO = "pool use"
    QUEUE_LENGTH = "queue length"
    CONNECTIONS_USED = "connections in use"
    CONNECTIONS_LIMIT = "connections allowed"
    CONNECTIONS_WAITING = "waiting for a connection"
    CONNECTIONS_REFUSED = "refused connections"
    IDLE_IN_TRANSACTION = "sessions idle in a transaction"
    DEPENDENCY_ERRORS = "errors of a dependency"
    DEPENDENCY_LATENCY = "latency of a dependency"
    DEPENDENCY_CALLS = "calls of a dependency"
    UP = "reachable"
    RESTARTS = "restarts"
    UPTIME = "uptime"
    START_TIME = "start time"
    DEPLOY = "deploy marker"
    GC = "garbage collection"
    THREADS = "threads"


Row = tuple[str, Role, str, str, dict[str, str]]
_R = Role
_ANY: dict[str, str] = {}
FAILED = r"5\d\d|5xx|5XX|5|SERVER_ERROR|error|failed|failure|exception|timeout"
_CODE = (
    "code",
    "status",
    "status_code",
    "http_status",
    "response_code",
    "outcome",
    "http_response_status_code",
)


def _by_code(family: str, name: str, good: Role, bad: Role) -> list[Row]:
    """Return rows for a request counter whose labels show failed requests."""
    failed: list[Row] = [(family, bad, "sum", name, {label: FAILED}) for label in _CODE]
    return [*failed, (family, good, "sum", name, _ANY)]


_CACHES: list[Row] = [
    ("redis", _R.HITS, "sum", r"redis_keyspace_hits(_total)?", _ANY),
    ("redis", _R.MISSES, "sum", r"redis_keyspace_misses(_total)?", _ANY),
    ("redis", _R.HIT_RATIO, "mean", r"redis_hit_ratio", _ANY),
    ("redis", _R.EVICTIONS, "sum", r"redis_evicted_keys(_total)?", _ANY),
    ("redis", _R.MEMORY_USED, "sum", r"redis_memory_used_bytes", _ANY),
    ("redis", _R.MEMORY_LIMIT, "sum", r"redis_memory_max_bytes|redis_config_maxmemory", _ANY),
    ("redis", _R.CONNECTIONS_USED, "sum", r"redis_connected_clients", _ANY),
    ("redis", _R.CONNECTIONS_LIMIT, "sum", r"redis_(config_)?max_?clients", _ANY),
    ("redis", _R.CONNECTIONS_REFUSED, "sum", r"redis_rejected_connections_total", _ANY),
    ("redis", _R.THROUGHPUT, "sum", r"redis_commands_processed_total|redis_instantaneous_ops_per_sec", _ANY),
    ("redis", _R.LATENCY, "max", r"redis_latency_percentiles_usec", {"quantile": r"0\.99|99(\.0)?"}),
    ("redis", _R.ERRORS, "sum", r"redis_(unexpected_)?error_replies(_total)?|redis_errors_total", _ANY),
    ("redis", _R.CPU, "sum", r"redis_cpu_(user|sys)_seconds_total", _ANY),
    ("redis", _R.QUEUE_LENGTH, "sum", r"redis_(list_length|stream_length|key_size)", _ANY),
    ("redis", _R.UP, "min", r"redis_up", _ANY),
    ("redis", _R.START_TIME, "max", r"redis_start_time_seconds", _ANY),
    ("redis", _R.UPTIME, "min", r"redis_uptime_in_seconds", _ANY),
    ("memcached", _R.HITS, "sum", r"memcached_commands_total", {"command": "get", "status": "hit"}),
    ("memcached", _R.MISSES, "sum", r"memcached_commands_total", {"command": "get", "status": "miss"}),
    ("memcached", _R.THROUGHPUT, "sum", r"memcached_commands_total", _ANY),
    ("memcached", _R.EVICTIONS, "sum", r"memcached_items_evicted_total", _ANY),
    ("memcached", _R.MEMORY_USED, "sum", r"memcached_current_bytes", _ANY),
    ("memcached", _R.MEMORY_LIMIT, "sum", r"memcached_limit_bytes", _ANY),
    ("memcached", _R.CONNECTIONS_USED, "sum", r"memcached_current_connections", _ANY),
    ("memcached", _R.CONNECTIONS_LIMIT, "sum", r"memcached_max_connections", _ANY),
]
_DATABASES: list[Row] = [
    (
        "postgresql",
        _R.IDLE_IN_TRANSACTION,
        "sum",
        r"pg_stat_activity_count",
        {"state": "idle in transaction.*"},
    ),
    ("postgresql", _R.CONNECTIONS_USED, "sum", r"pg_stat_database_numbackends", _ANY),
    ("postgresql", _R.CONNECTIONS_USED, "sum", r"pg_stat_activity_count", _ANY),
    ("postgresql", _R.CONNECTIONS_LIMIT, "sum", r"pg_settings_max_connections", _ANY),
    ("postgresql", _R.HITS, "sum", r"pg_stat_database_blks_hit(_total)?", _ANY),
    ("postgresql", _R.MISSES, "sum", r"pg_stat_database_blks_read(_total)?", _ANY),
    ("postgresql", _R.HIT_RATIO, "mean", r"pg_cache_hit_ratio", _ANY),
    ("postgresql", _R.THROUGHPUT, "sum", r"pg_stat_database_xact_commit(_total)?", _ANY),
    ("postgresql", _R.ERRORS, "sum", r"pg_stat_database_(xact_rollback|deadlocks)(_total)?", _ANY),
    ("postgresql", _R.LATENCY, "max", r"pg_stat_statements_mean_(exec_)?time_seconds", _ANY),
    ("postgresql", _R.UP, "min", r"pg_up", _ANY),
    ("postgresql", _R.START_TIME, "max", r"pg_postmaster_start_time_seconds", _ANY),
    ("pgbouncer", _R.CONNECTIONS_WAITING, "sum", r"pgbouncer_pools_client_waiting_connections", _ANY),
    ("pgbouncer", _R.CONNECTIONS_USED, "sum", r"pgbouncer_pools_server_active_connections", _ANY),
    ("pgbouncer", _R.CONNECTIONS_LIMIT, "sum", r"pgbouncer_databases_pool_size", _ANY),
]
_MACHINES: list[Row] = [
    ("node", _R.CPU_IDLE, "mean", r"node_cpu_seconds_total", {"mode": "idle"}),
    ("node", _R.MEMORY_FREE, "sum", r"node_memory_MemAvailable_bytes", _ANY),
    ("node", _R.MEMORY_LIMIT, "sum", r"node_memory_MemTotal_bytes", _ANY),
    ("node", _R.IO, "max", r"node_disk_io_time_seconds_total", _ANY),
    ("node", _R.PRESSURE, "sum", r"node_pressure_cpu_waiting_seconds_total", _ANY),
    ("node", _R.START_TIME, "max", r"node_boot_time_seconds", _ANY),
    ("host", _R.CPU, "mean", r"host_cpu_busy_ratio", _ANY),
    ("host", _R.MEMORY_RATIO, "max", r"host_memory_used_ratio", _ANY),
    ("host", _R.MEMORY_FREE, "sum", r"host_memory_available_bytes", _ANY),
    ("host", _R.IO, "max", r"host_disk_busy_ratio", _ANY),
    ("process", _R.CPU, "sum", r"host_process_cpu_ratio", _ANY),
    ("process", _R.MEMORY_USED, "sum", r"host_process_resident_memory_bytes", _ANY),
    ("process", _R.MEMORY_USED, "sum", r"process_resident_memory_bytes", _ANY),
    ("process", _R.MEMORY_LIMIT, "max", r"process_memory_limit_bytes", _ANY),
    ("process", _R.CPU, "sum", r"process_cpu_seconds_total", _ANY),
    ("process", _R.START_TIME, "max", r"process_start_time_seconds", _ANY),
]
_PROXIES: list[Row] = [
    ("nginx", _R.CONNECTIONS_USED, "sum", r"nginx_connections_active", _ANY),
    *_by_code("nginx", r"nginx_vts_upstream_requests_total", _R.DEPENDENCY_CALLS, _R.DEPENDENCY_ERRORS),
    *_by_code("nginx", r"nginxplus_upstream_server_responses", _R.DEPENDENCY_CALLS, _R.DEPENDENCY_ERRORS),
    ("nginx", _R.DEPENDENCY_LATENCY, "max", r"nginx_(vts_)?upstream_response_(duration_)?seconds.*", _ANY),
    *_by_code("nginx", r"nginx_(vts_server|http)_requests_total|nginx_http_response_count_total",
              _R.THROUGHPUT, _R.ERRORS),
    ("nginx", _R.UP, "min", r"nginx_up", _ANY),
    ("envoy", _R.DEPENDENCY_ERRORS, "sum", r"envoy_cluster_upstream_rq_xx",
     {"envoy_response_code_class": "5"}),
    *_by_code("envoy", r"istio_requests_total", _R.THROUGHPUT, _R.ERRORS),
    ("envoy", _R.DEPENDENCY_CALLS, "sum", r"envoy_cluster_upstream_rq_(xx|total)", _ANY),
]  # fmt: skip
_JVM: list[Row] = [
    ("jvm", _R.MEMORY_USED, "sum", r"jvm_memory_(used_bytes|bytes_used)", {"area": "heap"}),
    ("jvm", _R.MEMORY_LIMIT, "sum", r"jvm_memory_(max_bytes|bytes_max)", {"area": "heap"}),
    ("jvm", _R.GC, "sum", r"jvm_gc_(pause_seconds|collection_seconds)_(count|max|p99)", _ANY),
    ("jvm", _R.THREADS, "sum", r"jvm_threads_(live_threads|current)", _ANY),
    ("pool", _R.CONNECTIONS_USED, "sum", r"hikaricp_connections_active|jdbc_connections_active", _ANY),
    ("pool", _R.CONNECTIONS_LIMIT, "sum", r"hikaricp_connections_max|jdbc_connections_max", _ANY),
    ("pool", _R.CONNECTIONS_WAITING, "sum", r"hikaricp_connections_pending", _ANY),
    ("pool", _R.CONNECTIONS_REFUSED, "sum", r"hikaricp_connections_timeout_total", _ANY),
    ("jvm", _R.QUEUE_LENGTH, "sum", r"executor_queued_tasks(_total)?", _ANY),
    *_by_code("jvm", r"http_server_requests_seconds_count", _R.THROUGHPUT, _R.ERRORS),
    ("jvm", _R.LATENCY, "max", r"http_server_requests_seconds(_p99|_p50|_max)", _ANY),
    *_by_code("jvm", r"http_client_requests_seconds_count", _R.DEPENDENCY_CALLS, _R.DEPENDENCY_ERRORS),
    ("jvm", _R.DEPENDENCY_LATENCY, "max", r"http_client_requests_seconds(_p99|_p50|_max)", _ANY),
    ("jvm", _R.CPU, "max", r"process_cpu_usage|system_cpu_usage", _ANY),
    ("jvm", _R.HITS, "sum", r"cache_gets_total", {"result": "hit"}),
    ("jvm", _R.MISSES, "sum", r"cache_gets_total", {"result": "miss"}),
    ("jvm", _R.EVICTIONS, "sum", r"cache_evictions_total", _ANY),
]
_LANGUAGES: list[Row] = [
    ("nodejs", _R.MEMORY_USED, "sum", r"nodejs_heap_size_used_bytes", _ANY),
    ("nodejs", _R.PRESSURE, "max", r"nodejs_eventloop_lag(_p99|_mean)?_seconds", _ANY),
    ("nodejs", _R.LOOP, "max", r"nodejs_eventloop_utili[sz]ation(_ratio)?", _ANY),
    ("nodejs", _R.GC, "sum", r"nodejs_gc_duration_seconds_(count|p99)", _ANY),
    ("python", _R.GC, "sum", r"python_gc_(collections|objects_collected)_total", _ANY),
    ("python", _R.QUEUE_LENGTH, "sum", r"(flower_|celery_)(queue_length|task_prefetched)", _ANY),
    ("python", _R.QUEUE_LENGTH, "sum", r"rq_jobs", {"status": "queued|deferred"}),
    ("nodejs", _R.QUEUE_LENGTH, "sum", r"bullmq_(job_count|jobs)", {"state": "wait|waiting|prioritized"}),
    ("pm2", _R.MEMORY_USED, "max", r"pm2_memory_largest_bytes", _ANY),
    ("pm2", _R.MEMORY_USED, "sum", r"pm2_(memory|app_total_memory)(_bytes)?", _ANY),
    ("pm2", _R.MEMORY_LIMIT, "sum", r"pm2_(max_memory_restart|memory_limit)(_bytes)?", _ANY),
    ("pm2", _R.CPU, "percent", r"pm2_(cpu|app_average_cpu)", _ANY),
    (
        "pm2",
        _R.RESTARTS,
        "sum",
        r"pm2_(restarts?|restart_count|app_restarts_count|unstable_restarts|restarts_total)",
        _ANY,
    ),
    ("pm2", _R.UPTIME, "min", r"pm2_uptime(_seconds)?", _ANY),
    ("pm2", _R.LATENCY, "max", r"pm2_http_(p95|mean)_latency", _ANY),
    ("pm2", _R.PRESSURE, "max", r"pm2_event_loop_latency(_p95)?", _ANY),
    ("pm2", _R.UP, "min", r"pm2_up", _ANY),
]
_KUBERNETES: list[Row] = [
    ("kubernetes", _R.MEMORY_USED, "sum", r"container_memory_working_set_bytes", _ANY),
    ("kubernetes", _R.MEMORY_LIMIT, "sum", r"kube_pod_container_resource_limits", {"resource": "memory"}),
    ("kubernetes", _R.MEMORY_LIMIT, "sum", r"container_spec_memory_limit_bytes", _ANY),
    ("kubernetes", _R.CPU, "sum", r"container_cpu_usage_seconds_total", _ANY),
    ("kubernetes", _R.CPU_LIMIT, "sum", r"kube_pod_container_resource_limits", {"resource": "cpu"}),
    ("kubernetes", _R.PRESSURE, "sum", r"container_cpu_cfs_throttled_seconds_total", _ANY),
    ("kubernetes", _R.RESTARTS, "sum", r"kube_pod_container_status_restarts_total", _ANY),
    ("kubernetes", _R.DEPLOY, "max", r"kube_deployment_(status_observed|metadata)_generation", _ANY),
    ("kubernetes", _R.START_TIME, "max", r"container_start_time_seconds", _ANY),
]
_BROKERS: list[Row] = [
    ("rabbitmq", _R.QUEUE_LENGTH, "sum", r"rabbitmq_queue_messages(_ready)?", _ANY),
    ("kafka", _R.QUEUE_LENGTH, "sum", r"kafka_consumergroup_lag(_sum)?", _ANY),
]
ROWS: list[Row] = [
    *_CACHES, *_DATABASES, *_MACHINES, *_PROXIES, *_JVM, *_LANGUAGES, *_KUBERNETES, *_BROKERS,
]  # fmt: skip

_POOL = r".*(pool|connections?)"
_DEPENDENCY = r"(.*_)?(upstream|dependency|backend|client|outgoing|downstream)_(requests?|calls?|rpc)"
GENERIC: list[Row] = [
    ("", _R.UP, "min", r"up|.+_up", _ANY),
    ("", _R.HIT_RATIO, "mean", r".*hit_?(ratio|rate)", _ANY),
    ("", _R.HITS, "sum", r".*cache.*_hits?(_total)?", _ANY),
    ("", _R.MISSES, "sum", r".*cache.*_miss(es)?(_total)?", _ANY),
    ("", _R.EVICTIONS, "sum", r".*_(evictions?|evicted)(_.*)?", _ANY),
    ("", _R.DEPENDENCY_ERRORS, "sum", rf"{_DEPENDENCY}_(errors?|failures?|failed|timeouts?)(_total)?", _ANY),
    ("", _R.DEPENDENCY_ERRORS, "sum",
     r"(.*_)?(upstream|dependency|backend|downstream)_(errors?|failures?)(_total)?", _ANY),
    *_by_code("", rf"{_DEPENDENCY}(_(duration|latency)?_?seconds)?_(total|count)", _R.DEPENDENCY_CALLS,
              _R.DEPENDENCY_ERRORS),
    ("", _R.DEPENDENCY_LATENCY, "max", rf"{_DEPENDENCY}_(duration|latency).*_(p99|p50)", _ANY),
    ("", _R.CONNECTIONS_WAITING, "sum", rf"{_POOL}_(.*_)?(waiting|waiters|pending|queued)", _ANY),
    ("", _R.CONNECTIONS_LIMIT, "sum", rf"{_POOL}_(.*_)?(max|limit|size|capacity)|.*_max_connections", _ANY),
    ("", _R.CONNECTIONS_USED, "sum", rf"{_POOL}_(.*_)?(active|used|busy|in_use|checked_?out)"
     r"|.*_active_connections", _ANY),
    ("", _R.CONNECTIONS_REFUSED, "sum", rf"{_POOL}_(.*_)?(timeouts?|rejected|refused)(_total)?", _ANY),
    ("", _R.POOL_RATIO, "max", r".*pool.*_(ratio|utili[sz]ation)", _ANY),
    ("", _R.QUEUE_LENGTH, "sum", r".*(queue|backlog)(_.*)?_(length|size|depth|waiting|pending|messages|jobs)"
     r"|.*_(queued|backlog|queue_depth)|.*_jobs_waiting", _ANY),
    ("", _R.ERROR_RATIO, "max", r".*error_?(ratio|rate)", _ANY),
    ("", _R.ERRORS, "sum", r".*(requests?|jobs?|tasks?|calls?|http|responses?|queries)_(.*_)?"
     r"(errors?|failed|failures?|exceptions?|timeouts?)(_total|_count)?", _ANY),
    *_by_code("", r".*(http|grpc|rpc|api).*_(requests?|responses?|handled|calls)(_.*)?_(total|count)|"
                  r"(http_)?requests?_total|starlette_requests_total|.*_requests_total",
              _R.THROUGHPUT, _R.ERRORS),
    *_by_code("", r".*(http|request|response|handler).*(duration|latency|time).*_count",
              _R.THROUGHPUT, _R.ERRORS),
    ("", _R.THROUGHPUT, "sum", r".*_(jobs|tasks|messages|events|queries|commands|operations)_"
     r"(processed|completed|handled|finished|received)?_?(total|per_second)", _ANY),
    ("", _R.LATENCY, "max", r".*(request|response|http|query|handler|latency|rpc|grpc).*_p99", _ANY),
    ("", _R.LATENCY, "max", r".*(request|response|http|query|handler|latency|rpc|grpc).*_p50", _ANY),
    ("", _R.LATENCY, "max", r".*(latency|response_time|request_duration|request_time)(_.*)?", _ANY),
    ("", _R.MEMORY_LIMIT, "sum", r".*memory.*_(limit|max)(_bytes)?|.*_max_memory(_bytes)?", _ANY),
    ("", _R.MEMORY_USED, "sum", r".*(memory|heap|rss)(_.*)?(_used)?_bytes|.*memory_used(_bytes)?", _ANY),
    ("", _R.MEMORY_RATIO, "max", r".*memory.*_ratio", _ANY),
    ("", _R.CPU, "max", r".*cpu.*_(ratio|utili[sz]ation)", _ANY),
    ("", _R.LOOP, "max", r".*(event_?loop|workers?|threads?)_(busy|utili[sz]ation)_ratio", _ANY),
    ("", _R.RESTARTS, "sum", r".*_restarts(_total)?", _ANY),
    ("", _R.START_TIME, "max", r".*_start_time_seconds", _ANY),
    ("", _R.UPTIME, "min", r".*_uptime(_in)?(_seconds)?", _ANY),
]  # fmt: skip
"""Rows for unknown exporters, matched by name and unit."""
