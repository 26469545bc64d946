"""The engine's own metrics, `trimtab_...`, in a separate Prometheus registry."""

import math
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trimtab.engine.types import SeriesView, SourceState

MAX_UNUSUAL_SERIES = 100
_TICK_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_HTTP_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class _UnusualSeriesCollector(Collector):
    """Collects the scores of at most MAX_UNUSUAL_SERIES unusual series."""

    def __init__(self) -> None:
        self.scores: list[tuple[str, str, float]] = []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "trimtab_anomaly_score",
            f"The {MAX_UNUSUAL_SERIES} highest scores of unusual series; above 1 is an anomaly.",
            labels=("source", "series"),
        )
        for source, series, score in self.scores:
            family.add_metric((source, series), score)
        yield family


class Metrics:
    """Counters and gauges of the engine.

    >>> metrics = Metrics("0.1.0")
    >>> metrics.observe_tick("host", seconds=0.002, lag_s=0.1, n=120)
    >>> 'trimtab_ticks_total{source="host"} 1.0' in metrics.render()
    True
    """

    def __init__(self, version: str) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._unusual_collector = _UnusualSeriesCollector()
        registry.register(self._unusual_collector)
        _gauge(registry, "build_info", "Constant 1; the label is the version.", "version").labels(
            version
        ).set(1)
        self._engine_metrics(registry)
        self._http_metrics(registry)

    def _engine_metrics(self, registry: CollectorRegistry) -> None:
        self._ticks = _counter(registry, "ticks", "Scored ticks.", "source")
        self._tick_s = Histogram(
            "trimtab_tick_duration_seconds", "Seconds to score a tick.", ("source",), registry=registry,
            buckets=_TICK_BUCKETS_S,
        )  # fmt: skip
        self._lag_s = _gauge(
            registry, "tick_lag_seconds", "Age of the newest tick when it was scored, in seconds.", "source"
        )
        self._scored = _counter(registry, "samples_scored", "Scored samples.", "source")
        self._series = _gauge(registry, "series", "Watched series.", "source")
        self._learning = _gauge(registry, "series_learning", "Series that do not have a score yet.", "source")
        self._unusual_series = _gauge(registry, "series_unusual", "Series with a score above 1.", "source")
        self._open_anomalies = _gauge(registry, "anomalies_open", "Open anomalies.")
        self._source_state = _gauge(
            registry, "source_state", "1 for the current state of the source, else 0.", "source", "state"
        )
        self._source_up = _gauge(registry, "source_up", "1 if the source responds, else 0.", "source")
        self._store_healthy = _gauge(registry, "store_healthy", "1 if the store is usable, else 0.")
        self._store_healthy.set(math.nan)
        self._samples_sent = _counter(
            registry, "writer_samples_sent", "Samples accepted by a receiver.", "sink"
        )
        self._samples_dropped = _counter(
            registry, "writer_samples_dropped", "Dropped samples.", "sink", "reason"
        )

        self._forecast_error = _gauge(
            registry, "forecast_error", "Pinball loss of past forecasts, relative to seasonal naive.",
            "model", "version",
        )  # fmt: skip
        self._notices_sent = _counter(
            registry, "notices_sent", "Delivered notifications.", "notifier", "kind"
        )
        self._notices_failed = _counter(
            registry, "notices_failed", "Failed delivery attempts.", "notifier", "reason"
        )
        self._notices_dropped = _counter(
            registry, "notices_dropped", "Dropped notifications.", "notifier", "reason"
        )
        self._wanted_replicas = _gauge(
            registry,
            "capacity_wanted_replicas",
            "Replicas needed for the load; absent while unknown.",
            "name",
        )
        self._notices_waiting = _gauge(
            registry, "notices_waiting", "Notifications waiting for delivery.", "notifier"
        )

    def _http_metrics(self, registry: CollectorRegistry) -> None:
        self._requests = _counter(registry, "http_requests", "HTTP responses.", "method", "route", "status")
        self._request_s = Histogram(
            "trimtab_http_request_duration_seconds", "Seconds to respond.", ("route",), registry=registry,
            buckets=_HTTP_BUCKETS_S,
        )  # fmt: skip

    def observe_tick(self, source: str, seconds: float, lag_s: float, n: int) -> None:
        """Record a scored tick: duration in seconds, lag behind the tick time in seconds, and n samples."""
        self._ticks.labels(source).inc()
        self._tick_s.labels(source).observe(seconds)
        self._lag_s.labels(source).set(lag_s)
        self._scored.labels(source).inc(n)

    def set_series_counts(self, source: str, total: int, learning: int, unusual: int) -> None:
        """Set the numbers of a source's series: watched, learning, unusual."""
        self._series.labels(source).set(total)
        self._learning.labels(source).set(learning)
        self._unusual_series.labels(source).set(unusual)

    def set_open_anomalies(self, n: int) -> None:
        """Set the number of open anomalies."""
        self._open_anomalies.set(n)

    def set_store_healthy(self, healthy: bool) -> None:
        """Set whether the store is usable."""
        self._store_healthy.set(healthy)

    def set_source_state(self, name: str, state: SourceState) -> None:
        """Set the state of a source."""
        self._source_up.labels(name).set(state is SourceState.UP)
        for each in SourceState:
            self._source_state.labels(name, each).set(each is state)

    def set_forecast_error(self, model: str, version: str, error: float | None) -> None:
        """Set the forecast error of the model in use; None = unknown, exported as NaN."""
        self._forecast_error.clear()
        self._forecast_error.labels(model, version).set(math.nan if error is None else error)

    def remove_source(self, source: str) -> None:
        """Remove the gauges of a source that is no longer watched; its counters stay."""
        for gauge in (self._lag_s, self._series, self._learning, self._unusual_series, self._source_up):
            gauge.remove_by_labels({"source": source})
        self._source_state.remove_by_labels({"source": source})

    def count_samples_sent(self, sink: str, n: int) -> None:
        """Count n samples that a receiver accepted."""
        self._samples_sent.labels(sink).inc(n)

    def count_samples_dropped(self, sink: str, reason: str, n: int) -> None:
        """Count n dropped samples; `reason` has few values."""
        self._samples_dropped.labels(sink, reason).inc(n)

    def count_notice_sent(self, notifier: str, kind: str) -> None:
        """Count a delivered notification."""
        self._notices_sent.labels(notifier, kind).inc()

    def count_notice_failed(self, notifier: str, reason: str) -> None:
        """Count a failed attempt; `reason` has few values."""
        self._notices_failed.labels(notifier, reason).inc()

    def count_notice_dropped(self, notifier: str, reason: str) -> None:
        """Count a dropped notification."""
        self._notices_dropped.labels(notifier, reason).inc()

    def set_notices_waiting(self, notifier: str, n: int) -> None:
        """Set the number of notifications waiting for a channel."""
        self._notices_waiting.labels(notifier).set(n)

    def set_wanted_replicas(self, name: str, wanted: int | None) -> None:
        """Set the wanted replicas of a capacity; None = unknown, which removes the sample."""
        if wanted is None:
            self._wanted_replicas.remove_by_labels({"name": name})
        else:
            self._wanted_replicas.labels(name).set(wanted)

    def set_unusual_series(self, views: Iterable[SeriesView]) -> None:
        """Replace the unusual series; unknown scores are skipped."""
        scored = (
            (v.source, v.series, v.anomaly_score)
            for v in views
            if v.anomaly_score is not None and not math.isnan(v.anomaly_score)
        )
        self._unusual_collector.scores = sorted(scored, key=lambda row: -row[2])[:MAX_UNUSUAL_SERIES]

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record an HTTP response; `route` is the path template, which has few values."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def render(self) -> str:
        """Return all metrics in the Prometheus text format 0.0.4."""
        return generate_latest(_WithoutCreated(self._registry)).decode()


class _WithoutCreated(Collector):
    """Collects a registry without the `..._created` samples."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def _counter(registry: CollectorRegistry, name: str, help_text: str, *labels: str) -> Counter:
    return Counter(f"trimtab_{name}", help_text, labels, registry=registry)


def _gauge(registry: CollectorRegistry, name: str, help_text: str, *labels: str) -> Gauge:
    return Gauge(f"trimtab_{name}", help_text, labels, registry=registry)
