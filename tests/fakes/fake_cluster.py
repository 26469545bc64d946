"""Fake cluster that feeds an `IncidentCorrelator` tick by tick."""

from dataclasses import replace

from tests.builders.series import SECOND, START, anomaly_of
from trimtab.engine.detection.anomaly_tracker import anomaly_id
from trimtab.engine.incidents.incident_correlator import IncidentCorrelator
from trimtab.engine.types import Incident, SeriesInfo, SeriesKey

METRICS = (
    "redis_evicted_keys_total:rate", "cache_hit_ratio", "http_request_duration_seconds:p99", "heap_bytes",
    "queue_length", "threads", "open_fds", "cpu_seconds_total:rate", "gc_seconds:rate", "sessions",
)  # fmt: skip
INTERVAL_S = 5.0


def series_key(job: str, instance: str, metric: str, source: str = "prometheus", **labels: str) -> SeriesKey:
    """Return a series of an instance of a job."""
    return SeriesKey.of(source, metric, {"job": job, "instance": instance, **labels})


def service_keys(
    *jobs: str, instances: int = 2, metrics=METRICS, source: str = "prometheus"
) -> list[SeriesKey]:
    """Return every metric of every instance of these jobs."""
    return [
        series_key(job, f"{job}-{i}:9000", metric, source)
        for job in jobs for i in range(instances) for metric in metrics
    ]  # fmt: skip


class FakeCluster:
    """Feeds an `IncidentCorrelator` and keeps the latest version of each incident by id.

    keys       : the series of the cluster
    correlator : a new one at `INTERVAL_S` if None
    """

    def __init__(self, keys, correlator=None):
        self.keys = list(keys)
        self.correlator = correlator or IncidentCorrelator(INTERVAL_S)
        self.now = START
        self.open_anomalies = {}
        self.latest: dict[str, Incident] = {}
        self.history: list[Incident] = []
        self.correlator.step(self.now, [], [SeriesInfo(key) for key in self.keys])

    def find_key(self, text):
        """Return the one series whose Prometheus notation contains every word."""
        (found,) = [key for key in self.keys if all(word in str(key) for word in text.split())]
        return found

    def tick(self, *keys, score=1.6, seconds=INTERVAL_S, patterns=(), **changed):
        """Advance time, then open or update anomalies of these series; return the published incidents."""
        self.now += round(seconds * SECOND)
        anomalies = []
        for key in keys:
            previous = self.open_anomalies.get(key)
            start = self.now if previous is None else previous.start
            anomaly = anomaly_of(key, anomaly_id(key, start, "score"), start=start, score=score, **changed)
            self.open_anomalies[key] = anomaly
            anomalies.append(anomaly)
        return self._step(anomalies, patterns)

    def close(self, *keys, seconds=INTERVAL_S):
        """Advance time, then close the anomalies of these series (default: all)."""
        self.now += round(seconds * SECOND)
        chosen = keys or tuple(self.open_anomalies)
        return self._step(
            [replace(self.open_anomalies.pop(key), end=self.now, reason="recovered") for key in chosen]
        )

    def wait(self, seconds):
        """Advance time tick by tick without anomalies; return the published incidents."""
        published = []
        for _ in range(round(seconds / INTERVAL_S)):
            self.now += round(INTERVAL_S * SECOND)
            published += self._step([])
        return published

    def _step(self, anomalies, patterns=()):
        published = self.correlator.step(self.now, anomalies, patterns=patterns)
        self.latest |= {incident.id: incident for incident in published}
        self.history += published
        return published

    def current_incidents(self):
        """Return the latest version of each incident that was not merged, oldest first."""
        return sorted((i for i in self.latest.values() if i.merged_into is None), key=lambda i: i.id)
