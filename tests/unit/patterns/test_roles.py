"""Role and entity of a series, from its name, unit and labels."""

import pytest

from trimtab.engine.detection.entities import entity_of
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import find_role
from trimtab.engine.types import SeriesKey

EXPORTER_METRICS = [
    ("redis_keyspace_hits_total", {}, Role.HITS),  # redis_exporter
    ("redis_keyspace_misses_total", {}, Role.MISSES),
    ("redis_evicted_keys_total", {}, Role.EVICTIONS),
    ("redis_memory_used_bytes", {}, Role.MEMORY_USED),
    ("redis_memory_max_bytes", {}, Role.MEMORY_LIMIT),
    ("redis_connected_clients", {}, Role.CONNECTIONS_USED),
    ("redis_config_maxclients", {}, Role.CONNECTIONS_LIMIT),
    ("redis_rejected_connections_total", {}, Role.CONNECTIONS_REFUSED),
    ("redis_commands_processed_total", {}, Role.THROUGHPUT),
    ("redis_latency_percentiles_usec", {"quantile": "99"}, Role.LATENCY),
    ("redis_up", {}, Role.UP),
    ("redis_db_keys", {"db": "db0"}, None),
    ("redis_mem_fragmentation_ratio", {}, None),
    ("memcached_commands_total", {"command": "get", "status": "hit"}, Role.HITS),  # memcached_exporter
    ("memcached_commands_total", {"command": "get", "status": "miss"}, Role.MISSES),
    ("memcached_items_evicted_total", {}, Role.EVICTIONS),
    ("memcached_limit_bytes", {}, Role.MEMORY_LIMIT),
    ("pg_stat_activity_count", {"state": "active"}, Role.CONNECTIONS_USED),  # postgres_exporter
    ("pg_stat_activity_count", {"state": "idle in transaction"}, Role.IDLE_IN_TRANSACTION),
    ("pg_stat_activity_count", {"state": "idle in transaction (aborted)"}, Role.IDLE_IN_TRANSACTION),
    ("pg_stat_database_numbackends", {"datname": "shop"}, Role.CONNECTIONS_USED),
    ("pg_settings_max_connections", {}, Role.CONNECTIONS_LIMIT),
    ("pg_stat_database_blks_hit", {"datname": "shop"}, Role.HITS),
    ("pg_stat_database_blks_read", {"datname": "shop"}, Role.MISSES),
    ("pg_stat_database_xact_commit", {"datname": "shop"}, Role.THROUGHPUT),
    ("pg_stat_database_deadlocks", {"datname": "shop"}, Role.ERRORS),
    ("pg_up", {}, Role.UP),
    ("pgbouncer_pools_client_waiting_connections", {}, Role.CONNECTIONS_WAITING),  # pgbouncer_exporter
    ("node_cpu_seconds_total", {"cpu": "0", "mode": "idle"}, Role.CPU_IDLE),  # node_exporter
    ("node_cpu_seconds_total", {"cpu": "0", "mode": "user"}, None),
    ("node_memory_MemAvailable_bytes", {}, Role.MEMORY_FREE),
    ("node_memory_MemTotal_bytes", {}, Role.MEMORY_LIMIT),
    ("node_memory_Mapped_bytes", {}, None),
    ("node_disk_io_time_seconds_total", {"device": "sda"}, Role.IO),
    ("node_pressure_cpu_waiting_seconds_total", {}, Role.PRESSURE),
    ("host_cpu_busy_ratio", {"core": "1"}, Role.CPU),  # the host source
    ("host_memory_used_ratio", {}, Role.MEMORY_RATIO),
    ("host_process_resident_memory_bytes", {"name": "java"}, Role.MEMORY_USED),
    ("process_resident_memory_bytes", {}, Role.MEMORY_USED),  # client libraries
    ("process_virtual_memory_bytes", {}, None),
    ("process_cpu_seconds_total", {}, Role.CPU),
    ("process_start_time_seconds", {}, Role.START_TIME),
    ("process_open_fds", {}, None),
    ("nginx_connections_active", {}, Role.CONNECTIONS_USED),  # nginx-prometheus-exporter, vts
    ("nginx_connections_waiting", {}, None),
    ("nginx_http_requests_total", {}, Role.THROUGHPUT),
    ("nginx_vts_server_requests_total", {"code": "5xx", "host": "shop"}, Role.ERRORS),
    ("nginx_vts_upstream_requests_total", {"code": "5xx", "upstream": "api"}, Role.DEPENDENCY_ERRORS),
    ("envoy_cluster_upstream_rq_xx", {"envoy_response_code_class": "5"}, Role.DEPENDENCY_ERRORS),
    ("istio_requests_total", {"response_code": "200"}, Role.THROUGHPUT),
    ("jvm_memory_used_bytes", {"area": "heap"}, Role.MEMORY_USED),  # Micrometer
    ("jvm_memory_used_bytes", {"area": "nonheap"}, None),
    ("jvm_memory_bytes_max", {"area": "heap"}, Role.MEMORY_LIMIT),  # jmx_exporter
    ("jvm_gc_collection_seconds_count", {"gc": "G1 Young Generation"}, Role.GC),
    ("hikaricp_connections_active", {"pool": "main"}, Role.CONNECTIONS_USED),
    ("hikaricp_connections_max", {"pool": "main"}, Role.CONNECTIONS_LIMIT),
    ("hikaricp_connections_pending", {"pool": "main"}, Role.CONNECTIONS_WAITING),
    ("hikaricp_connections_timeout_total", {"pool": "main"}, Role.CONNECTIONS_REFUSED),
    ("http_server_requests_seconds_count", {"status": "200"}, Role.THROUGHPUT),
    ("http_server_requests_seconds_count", {"status": "503"}, Role.ERRORS),
    ("http_server_requests_seconds_max", {"status": "200"}, Role.LATENCY),
    ("http_client_requests_seconds_count", {"status": "500", "client_name": "a"}, Role.DEPENDENCY_ERRORS),
    ("executor_queued_tasks", {"name": "mail"}, Role.QUEUE_LENGTH),
    ("cache_gets_total", {"result": "miss"}, Role.MISSES),
    ("python_gc_collections_total", {"generation": "2"}, Role.GC),  # prometheus_client
    ("celery_queue_length", {"queue_name": "mail"}, Role.QUEUE_LENGTH),
    ("nodejs_heap_size_used_bytes", {}, Role.MEMORY_USED),  # prom-client
    ("nodejs_eventloop_lag_p99_seconds", {}, Role.PRESSURE),
    ("nodejs_gc_duration_seconds_count", {"kind": "major"}, Role.GC),
    ("pm2_memory", {"app": "api", "instance": "0"}, Role.MEMORY_USED),  # PM2's exporters
    ("pm2_app_total_memory", {"app": "api"}, Role.MEMORY_USED),
    ("pm2_memory_largest_bytes", {"target": "api"}, Role.MEMORY_USED),  # the PM2 tool
    ("pm2_memory_bytes", {"target": "api"}, Role.MEMORY_USED),
    ("pm2_memory_limit_bytes", {"target": "api"}, Role.MEMORY_LIMIT),
    ("pm2_restarts_total", {"target": "api"}, Role.RESTARTS),
    ("pm2_cpu", {"app": "api"}, Role.CPU),
    ("pm2_restart_count", {"app": "api"}, Role.RESTARTS),
    ("pm2_event_loop_latency_p95", {"app": "api"}, Role.PRESSURE),
    ("container_memory_working_set_bytes", {"pod": "web-1"}, Role.MEMORY_USED),  # cAdvisor
    ("container_memory_cache", {"pod": "web-1"}, None),
    ("container_cpu_usage_seconds_total", {"pod": "web-1"}, Role.CPU),
    ("kube_pod_container_resource_limits", {"resource": "memory"}, Role.MEMORY_LIMIT),  # kube-state-metrics
    ("kube_pod_container_resource_limits", {"resource": "cpu"}, Role.CPU_LIMIT),
    ("kube_pod_container_status_restarts_total", {"pod": "web-1"}, Role.RESTARTS),
    ("kube_deployment_status_observed_generation", {"deployment": "web"}, Role.DEPLOY),
    ("rabbitmq_queue_messages_ready", {"queue": "mail"}, Role.QUEUE_LENGTH),
    ("kafka_consumergroup_lag", {"topic": "orders"}, Role.QUEUE_LENGTH),
]

OTHER_METRICS = [
    ("up", {}, "", "gauge", Role.UP),
    ("http_requests_total", {"code": "200"}, "1/s", "rate", Role.THROUGHPUT),
    ("http_requests_total", {"status": "5xx"}, "1/s", "rate", Role.ERRORS),
    ("http_requests_total", {"status_code": "404"}, "1/s", "rate", Role.THROUGHPUT),  # a client error
    ("http_request_duration_seconds_count", {}, "1/s", "rate", Role.THROUGHPUT),
    ("http_request_duration_seconds_p99", {}, "s", "gauge", Role.LATENCY),
    ("starlette_requests_total", {"status_code": "500"}, "1/s", "rate", Role.ERRORS),
    ("grpc_server_handled_total", {"grpc_code": "OK"}, "1/s", "rate", Role.THROUGHPUT),
    ("orders_cache_hits_total", {}, "1/s", "rate", Role.HITS),
    ("orders_cache_hit_ratio", {}, "ratio", "gauge", Role.HIT_RATIO),
    ("image_evictions_total", {}, "1/s", "rate", Role.EVICTIONS),
    ("db_pool_connections_active", {}, "", "gauge", Role.CONNECTIONS_USED),
    ("db_pool_connections_max", {}, "", "gauge", Role.CONNECTIONS_LIMIT),
    ("db_pool_connections_waiting", {}, "", "gauge", Role.CONNECTIONS_WAITING),
    ("sqlalchemy_pool_checked_out", {}, "", "gauge", Role.CONNECTIONS_USED),
    ("mail_queue_depth", {}, "", "gauge", Role.QUEUE_LENGTH),
    ("mail_queue_wait_seconds", {}, "s", "gauge", None),
    ("dependency_requests_total", {"upstream": "a", "code": "504"}, "1/s", "rate", Role.DEPENDENCY_ERRORS),
    ("dependency_requests_total", {"upstream": "a", "code": "200"}, "1/s", "rate", Role.DEPENDENCY_CALLS),
    ("upstream_request_errors_total", {}, "1/s", "rate", Role.DEPENDENCY_ERRORS),
    ("checkout_latency", {"for": "checkout_latency"}, "s", "gauge", Role.LATENCY),
    ("go_goroutines", {}, "", "gauge", None),
    ("prometheus_http_requests_total", {"code": "200"}, "1/s", "rate", None),  # Prometheus itself
    ("scrape_duration_seconds", {}, "s", "gauge", None),
    ("node_time_zone_offset_seconds", {}, "s", "gauge", None),
]


@pytest.mark.parametrize(
    ("metric", "labels", "role"), EXPORTER_METRICS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_exporter_metrics_have_a_role(metric, labels, role):
    """Metrics of common exporters have a role, whatever their unit."""
    found = find_role(SeriesKey.of("prometheus", metric, labels))
    assert (found and found.role) == role


@pytest.mark.parametrize(
    ("metric", "labels", "unit", "kind", "role"), OTHER_METRICS, ids=lambda v: str(v)[:40]
)
def test_other_metrics_get_a_role_from_name_and_unit(metric, labels, unit, kind, role):
    """The name and unit of a metric of an unknown exporter determine its role."""
    found = find_role(SeriesKey.of("prometheus", metric, labels), unit, kind)
    assert (found and found.role) == role


@pytest.mark.parametrize("unit", ["s", "B"])
def test_implausible_unit_has_no_role(unit):
    """A queue length measured in seconds or bytes has no role."""
    key = SeriesKey.of("prometheus", "mail_queue_length", {})
    assert find_role(key, unit) is None


@pytest.mark.parametrize(
    ("source", "metric", "labels", "entity"),
    [
        ("prometheus", "x", {"job": "redis", "instance": "cache-1:9121"}, "redis/cache-1:9121"),
        ("prometheus", "x", {"namespace": "shop", "pod": "web-7", "job": "kubelet"}, "shop/web-7"),
        ("prometheus", "x", {"pod": "web-7"}, "web-7"),
        ("prometheus", "x", {"service": "checkout"}, "checkout"),
        ("prometheus", "x", {"instance": "db-1:9100"}, "db-1:9100"),
        ("prometheus", "pm2_memory", {"job": "pm2", "app": "api", "instance": "0"}, "api/0"),
        ("prometheus", "latency", {"for": "latency"}, "latency"),
        ("host", "host_load1", {}, "host"),
        ("host", "host_process_cpu_ratio", {"name": "java"}, "host/java"),
        ("files", "y", {}, "files"),
    ],
)
def test_entity(source, metric, labels, entity):
    """A series belongs to the most specific entity of its labels."""
    assert entity_of(SeriesKey.of(source, metric, labels)) == entity
