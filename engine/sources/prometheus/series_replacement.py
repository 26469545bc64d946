"""Series replacement: whether a new series continues an old one, such as that of a recreated pod."""

import re

from trimtab.engine.types import SeriesKey

_INSTANCE_LABELS = frozenset({
    "container_id", "controller_revision_hash", "exported_instance", "exported_pod", "host_ip", "id",
    "instance", "ip", "kubernetes_pod_name", "pod", "pod_ip", "pod_name", "pod_template_hash", "pod_uid",
    "replica", "replicaset", "uid",
})  # fmt: skip
_HASH = re.compile(r"(?:[-_./](?=[a-z0-9]*\d)[a-z0-9]{4,16}|[-_./]?[0-9a-f]{12,64})+$")


def is_replacement(old: SeriesKey, new: SeriesKey) -> bool:
    """Return whether source, metric and labels agree, except for instance labels and hashes in names.

    >>> a = SeriesKey.of("p", "up", {"job": "web", "instance": "10.0.0.1:80"})
    >>> is_replacement(a, SeriesKey.of("p", "up", {"job": "web", "instance": "10.0.0.9:80"}))
    True
    >>> is_replacement(a, SeriesKey.of("p", "up", {"job": "db", "instance": "10.0.0.1:80"}))
    False
    """
    if old == new or (old.source, old.metric) != (new.source, new.metric):
        return False
    before, after = dict(old.labels), dict(new.labels)
    return before.keys() == after.keys() and all(_is_same_workload(n, before[n], after[n]) for n in before)


def _is_same_workload(label: str, before: str, after: str) -> bool:
    if before == after or label in _INSTANCE_LABELS:
        return True
    stem = _strip_hash(before)
    return stem != before and stem == _strip_hash(after)


def _strip_hash(value: str) -> str:
    """Return a name without the hash at its end.

    >>> _strip_hash("web-5d8f7c9b6d-x2x7k"), _strip_hash("web-blue")
    ('web', 'web-blue')
    """
    return _HASH.sub("", value)
