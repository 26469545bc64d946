"""Simulated services with the metric names of several exporters: seasons, noise, gaps, and one fault each."""

import numpy as np

from tests.recordings.library import Recording
from trimtab.engine.types import SeriesInfo, SeriesKey

WEB = {"job": "web", "instance": "10.0.0.5:8000"}
POD = {"namespace": "shop", "pod": "web-7", "container": "web"}
APP = {"job": "shop", "instance": "10.0.0.5:8080"}
NODE = {"job": "gateway", "instance": "10.0.0.5:3000"}
RATE, GAUGE = "rate", "gauge"

FLAVOURS = {
    "python": {
        "good": ("http_requests_total", WEB | {"status": "2xx"}, "1/s", RATE),
        "bad": ("http_requests_total", WEB | {"status": "5xx"}, "1/s", RATE),
        "p99": ("http_request_duration_seconds_p99", WEB, "s", GAUGE),
        "cpu": ("process_cpu_seconds_total", WEB, "ratio", RATE),
        "gc": ("python_gc_collections_total", WEB | {"generation": "2"}, "1/s", RATE),
        "memory": ("process_resident_memory_bytes", WEB, "B", GAUGE),
        "pool": ("sqlalchemy_pool_checked_out", WEB, "", GAUGE),
        "pool_max": ("sqlalchemy_pool_size", WEB, "", GAUGE),
        "waiting": ("sqlalchemy_pool_waiting", WEB, "", GAUGE),
        "queue": ("celery_queue_length", WEB | {"queue_name": "mail"}, "", GAUGE),
        "calls": ("upstream_requests_total", WEB | {"upstream": "stock", "code": "200"}, "1/s", RATE),
        "call_errors": ("upstream_requests_total", WEB | {"upstream": "stock", "code": "502"}, "1/s", RATE),
    },
    "jvm": {
        "good": ("http_server_requests_seconds_count", APP | {"status": "200"}, "1/s", RATE),
        "bad": ("http_server_requests_seconds_count", APP | {"status": "500"}, "1/s", RATE),
        "p99": ("http_server_requests_seconds_p99", APP, "s", GAUGE),
        "cpu": ("process_cpu_usage", APP, "", GAUGE),
        "memory": ("jvm_memory_used_bytes", APP | {"area": "heap", "id": "old"}, "B", GAUGE),
        "memory_max": ("jvm_memory_max_bytes", APP | {"area": "heap", "id": "old"}, "B", GAUGE),
        "pool": ("hikaricp_connections_active", APP | {"pool": "main"}, "", GAUGE),
        "pool_max": ("hikaricp_connections_max", APP | {"pool": "main"}, "", GAUGE),
        "waiting": ("hikaricp_connections_pending", APP | {"pool": "main"}, "", GAUGE),
        "queue": ("executor_queued_tasks", APP | {"name": "mail"}, "", GAUGE),
        "calls": (
            "http_client_requests_seconds_count", APP | {"client_name": "stock", "status": "200"}, "1/s", RATE
        ),
        "call_errors": (
            "http_client_requests_seconds_count", APP | {"client_name": "stock", "status": "503"}, "1/s", RATE
        ),
    },
    "kubernetes": {
        "good": ("http_requests_total", POD | {"code": "200"}, "1/s", RATE),
        "bad": ("http_requests_total", POD | {"code": "500"}, "1/s", RATE),
        "p99": ("http_request_duration_seconds_p99", POD, "s", GAUGE),
        "cpu": ("container_cpu_usage_seconds_total", POD, "ratio", RATE),
        "cpu_max": ("kube_pod_container_resource_limits", POD | {"resource": "cpu"}, "", GAUGE),
        "memory": ("container_memory_working_set_bytes", POD, "B", GAUGE),
        "memory_max": ("kube_pod_container_resource_limits", POD | {"resource": "memory"}, "", GAUGE),
        "pool": ("db_pool_connections_in_use", POD, "", GAUGE),
        "pool_max": ("db_pool_connections_max", POD, "", GAUGE),
        "waiting": ("db_pool_connections_waiting", POD, "", GAUGE),
        "queue": ("worker_queue_depth", POD, "", GAUGE),
        "calls": ("dependency_requests_total", POD | {"dependency": "stock", "status": "ok"}, "1/s", RATE),
        "call_errors": (
            "dependency_requests_total", POD | {"dependency": "stock", "status": "error"}, "1/s", RATE
        ),
    },
    "nodejs": {
        "good": ("http_requests_total", NODE | {"status_code": "200"}, "1/s", RATE),
        "bad": ("http_requests_total", NODE | {"status_code": "504"}, "1/s", RATE),
        "p99": ("http_request_duration_seconds_p99", NODE, "s", GAUGE),
        "cpu": ("process_cpu_seconds_total", NODE, "ratio", RATE),
        "gc": ("nodejs_gc_duration_seconds_count", NODE | {"kind": "major"}, "1/s", RATE),
        "memory": ("nodejs_heap_size_used_bytes", NODE, "B", GAUGE),
        "pool": ("pg_pool_connections_active", NODE, "", GAUGE),
        "pool_max": ("pg_pool_connections_max", NODE, "", GAUGE),
        "waiting": ("pg_pool_connections_waiting", NODE, "", GAUGE),
        "queue": ("bullmq_job_count", NODE | {"queue": "mail", "state": "waiting"}, "", GAUGE),
        "calls": ("backend_requests_total", NODE | {"backend": "stock", "code": "200"}, "1/s", RATE),
        "call_errors": ("backend_requests_total", NODE | {"backend": "stock", "code": "503"}, "1/s", RATE),
    },
}  # fmt: skip
REDIS = {"job": "redis", "instance": "10.0.0.6:9121"}
CACHE = {
    "hits": ("redis_keyspace_hits_total", REDIS, "1/s", RATE),
    "misses": ("redis_keyspace_misses_total", REDIS, "1/s", RATE),
    "evictions": ("redis_evicted_keys_total", REDIS, "1/s", RATE),
    "cache": ("redis_memory_used_bytes", REDIS, "B", GAUGE),
    "cache_max": ("redis_memory_max_bytes", REDIS, "B", GAUGE),
}
OPTIONAL_METRICS = ("gc", "cpu_max", "memory_max", "cache_max", "p99", "queue", "calls")
"""Metrics that a recording may lack."""


class SimulatedService:
    """A service and its cache, healthy until a fault is applied.

    onset : tick from which a fault acts
    """

    def __init__(self, seed, calm=240, trouble=120):
        self.rng = rng = np.random.default_rng(seed)
        self.ticks, self.onset = calm + trouble, calm
        self.is_faulty = np.arange(self.ticks) >= calm
        self.t = np.arange(self.ticks)
        period, height = rng.choice([60, 90, 150, 240, 960, 5760]), rng.uniform(0.0, 0.3)
        self.season = 1.0 + height * np.sin(2 * np.pi * (self.t / period + rng.random()))
        self.noise = rng.uniform(0.02, 0.12)
        self.base = {
            "load": 10 ** rng.uniform(0.8, 3), "p99": 10 ** rng.uniform(-2.3, -0.3),
            "cpu": rng.uniform(0.1, 0.45),
            "memory": 10 ** rng.uniform(7.8, 9.5), "pool_max": float(rng.choice([5, 10, 20, 50])),
            "hit_ratio": rng.uniform(0.88, 0.98), "errors": 10 ** rng.uniform(-4, -2.3),
            "fill": rng.uniform(0.4, 1.0), "queue": rng.uniform(0.0, 3.0),
        }  # fmt: skip
        self.factors = {name: np.ones(self.ticks) for name in ("load", "p99", "cpu", "errors", "memory")}
        self.additions = {
            name: np.zeros(self.ticks) for name in ("memory", "waiting", "queue", "call_errors")
        }
        self.pool_use = np.full(self.ticks, rng.uniform(0.1, 0.5))
        self.hit_ratio = np.full(self.ticks, self.base["hit_ratio"])
        self.fill = np.full(self.ticks, self.base["fill"])
        self.sawtooth = rng.uniform(0.0, 0.2)
        self.changes = ()

    def noisy(self, values, factor=1.0):
        """Return values with proportional noise."""
        return values * np.exp(self.noise * factor * self.rng.normal(size=self.ticks))

    def metrics(self):
        """Return name -> (ticks,) float64."""
        b, c = self.base, self.factors
        load = self.noisy(b["load"] * self.season * c["load"])
        failed = np.clip(b["errors"] * c["errors"] + self.additions["call_errors"], 0, 0.95)
        bad = self.rng.poisson(load * failed * 15) / 15
        cpu = np.minimum(self.noisy(b["cpu"] * self.season * c["load"] * c["cpu"], 0.5), 1.0)
        tooth = self.sawtooth * ((self.t * 0.137 * (1 + self.sawtooth) + self.rng.random()) % 1.0)
        memory = b["memory"] * (c["memory"] * (1 + tooth) + self.additions["memory"])
        misses = self.noisy(load * (1 - self.hit_ratio))
        full = self.fill > 0.97
        return {
            "good": np.maximum(load - bad, 0), "bad": bad, "p99": self.noisy(b["p99"] * c["p99"], 1.5),
            "cpu": cpu, "cpu_max": np.ones(self.ticks), "gc": self.rng.poisson(2.0, self.ticks) / 15,
            "memory": memory * (1 + 0.003 * self.rng.normal(size=self.ticks)),
            "memory_max": np.full(self.ticks, b["memory"] * self.rng.uniform(1.8, 4.0)),
            "pool": np.round(np.minimum(self.noisy(self.pool_use, 2.0), 1.0) * b["pool_max"]),
            "pool_max": np.full(self.ticks, b["pool_max"]),
            "waiting": np.round(self.noisy(self.additions["waiting"])),
            "queue": self.rng.poisson(b["queue"], self.ticks)
            + np.round(np.maximum(self.additions["queue"], 0)),
            "calls": load * (1 - self.additions["call_errors"]),
            "call_errors": self.rng.poisson(load * (self.additions["call_errors"] + 1e-4) * 15) / 15,
            "hits": np.maximum(load - misses, 0), "misses": misses,
            "evictions": np.where(full, self.noisy(misses) * 0.9, 0.0),
            "cache": 1e9 * self.fill * (1 + 0.002 * self.rng.normal(size=self.ticks)),
            "cache_max": np.full(self.ticks, 1e9),
        }  # fmt: skip

    def recording(self, name, flavour, shows=(), may=(), part="development", keep=()):
        """Return a recording in the names of one exporter; metrics not in `keep` may be missing."""
        rng, metrics = self.rng, self.metrics()
        named = FLAVOURS[flavour] | CACHE
        lacks = {metric for metric in OPTIONAL_METRICS if metric not in keep and rng.random() < 0.15}
        shown = [metric for metric in named if metric in metrics and metric not in lacks]
        infos = tuple(
            SeriesInfo(SeriesKey.of("prometheus", metric, labels), unit, kind)
            for metric, labels, unit, kind in (named[metric] for metric in shown)
        )
        values = np.stack([metrics[metric] for metric in shown], axis=1)
        values[rng.random(values.shape) < rng.choice([0.0, 0.0, 0.02, 0.05])] = np.nan
        onset = self.onset if shows else None
        change_labels = {k: v for k, v in named["good"][1].items() if k in {"job", "pod"}} | {
            "version": "1.2"
        }
        changes = tuple((at, title, change_labels if titled else {}) for at, title, titled in self.changes)
        return Recording(name, infos, values, shows, may, onset, changes, real=False, set=part)

    def rise(self, ticks):
        """Return 0 before the onset, rising to 1 within so many ticks."""
        return np.clip((self.t - self.onset + 1) / max(ticks, 1), 0, 1)

    def deploy(self, at, titled=True):
        """Add a deploy event."""
        self.changes = (*self.changes, (int(at), "deploy of web 1.2", titled))
