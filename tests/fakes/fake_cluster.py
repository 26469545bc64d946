"""A small installation for tests of incidents: its series, and anomalies of them told tick by tick."""

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
    """A series of an instance of a job."""
    return SeriesKey.of(source, metric, {"job": job, "instance": instance, **labels})


def service_keys(
    *jobs: str, instances: int = 2, metrics=METRICS, source: str = "prometheus"
) -> list[SeriesKey]:
    """Every metric of every instance of these jobs."""
    return [
        series_key(job, f"{job}-{i}:9000", metric, source)
        for job in jobs for i in range(instances) for metric in metrics
    ]  # fmt: skip


class FakeCluster:
    """Feeds `Incidents`, and keeps what it told by id."""

    def __init__(self, keys, correlator=None):
        self.keys = list(keys)
        self.correlator = correlator or IncidentCorrelator(INTERVAL_S)
        self.now = START
        self.open_anomalies = {}
        self.latest: dict[str, Incident] = {}
        self.history: list[Incident] = []
        self.correlator.step(self.now, [], [SeriesInfo(key) for key in self.keys])

    def find_key(self, text):
        """The series in whose Prometheus form every word stands."""
        (found,) = [key for key in self.keys if all(word in str(key) for word in text.split())]
        return found

    def tick(self, *keys, score=1.6, seconds=INTERVAL_S, patterns=(), **changed):
        """Time passes, then these series become unusual (or more so)."""
        self.now += round(seconds * SECOND)
        told = []
        for key in keys:
            before = self.open_anomalies.get(key)
            start = self.now if before is None else before.start
            anomaly = anomaly_of(key, anomaly_id(key, start, "score"), start=start, score=score, **changed)
            self.open_anomalies[key] = anomaly
            told.append(anomaly)
        return self._step(told, patterns)

    def close(self, *keys, seconds=INTERVAL_S):
        """Time passes, and these (or all) are usual again."""
        self.now += round(seconds * SECOND)
        chosen = keys or tuple(self.open_anomalies)
        return self._step(
            [replace(self.open_anomalies.pop(key), end=self.now, reason="recovered") for key in chosen]
        )

    def wait(self, seconds):
        """Nothing happens for a while, tick by tick."""
        told = []
        for _ in range(round(seconds / INTERVAL_S)):
            self.now += round(INTERVAL_S * SECOND)
            told += self._step([])
        return told

    def _step(self, anomalies, patterns=()):
        told = self.correlator.step(self.now, anomalies, patterns=patterns)
        self.latest |= {incident.id: incident for incident in told}
        self.history += told
        return told

    def current_incidents(self):
        """The incidents as they were told last, without those that were merged; oldest first."""
        return sorted((i for i in self.latest.values() if i.merged_into is None), key=lambda i: i.id)
