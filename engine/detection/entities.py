"""The entity of a series (service instance, pod, process), derived from its labels alone."""

from collections.abc import Mapping
from functools import lru_cache

from trimtab.engine.types import SeriesKey

_SERVICE_LABELS = ("job", "service", "app", "application", "service_name", "deployment", "name")
_HOST_LABELS = ("instance", "target", "node", "host")
_SCOPE_LABELS = ("namespace", "cluster", "environment", "env", "region", "project", "stack")
_CALLEE_LABELS = (
    "upstream", "dependency", "backend", "peer_service", "destination_service", "envoy_cluster_name",
    "client_name", "remote", "downstream",
)  # fmt: skip
"""Labels with which a client's series name the service it calls."""


@lru_cache(maxsize=200_000)
def entity_of(key: SeriesKey) -> str:
    """Return the most specific entity of a series: its pod, job/instance, job, instance, or source.

    >>> entity_of(SeriesKey.of("prometheus", "up", {"job": "redis", "instance": "cache-1:9121"}))
    'redis/cache-1:9121'
    >>> entity_of(SeriesKey.of("prometheus", "x", {"namespace": "shop", "pod": "web-7", "job": "kubelet"}))
    'shop/web-7'
    >>> entity_of(SeriesKey.of("host", "host_load1"))
    'host'
    """
    labels = dict(key.labels)
    pod = labels.get("pod") or labels.get("pod_name")
    if pod:
        return f"{labels['namespace']}/{pod}" if labels.get("namespace") else pod
    if key.source == "host":
        return f"host/{labels['name']}" if labels.get("name") else "host"
    app = labels.get("app") if key.metric.startswith("pm2_") else None
    group = app or _first(labels, _SERVICE_LABELS)
    host = _first(labels, _HOST_LABELS)
    if group and host:
        return f"{group}/{host}"
    return group or host or labels.get("for") or key.source


def shared_labels_of(key: SeriesKey) -> frozenset[str]:
    """Return what a series shares with its neighbours: `label=value` pairs and the host of its instance.

    >>> sorted(shared_labels_of(SeriesKey.of("p", "up", {"instance": "db-1:9187", "namespace": "shop"})))
    ['host=db-1', 'namespace=shop']
    """
    labels = dict(key.labels)
    shared = {f"{label}={labels[label]}" for label in _SCOPE_LABELS if labels.get(label)}
    host = _first(labels, _HOST_LABELS)
    if host:
        shared.add(f"host={host_of(host)}")
    return frozenset(shared)


def host_of(address: str) -> str:
    """Return an address without scheme and port.

    >>> host_of("redis://10.0.0.5:6379"), host_of("[::1]:9100"), host_of("db-1")
    ('10.0.0.5', '::1', 'db-1')
    """
    rest = address.rpartition("://")[2].partition("/")[0].rpartition("@")[2]
    if rest.startswith("["):
        return rest[1:].partition("]")[0]
    return rest.partition(":")[0] if rest.count(":") == 1 else rest


def callee_of(key: SeriesKey) -> str:
    """Return the service that a client's series names as its callee, "" for none.

    >>> callee_of(SeriesKey.of("p", "calls_total", {"job": "web", "upstream": "redis"}))
    'redis'
    """
    return _first(dict(key.labels), _CALLEE_LABELS)


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
