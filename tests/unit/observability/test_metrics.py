import shutil
import subprocess

import pytest

from tests.builders.series import series_view
from trimtab.engine.observability.metrics import MAX_UNUSUAL_SERIES, Metrics
from trimtab.engine.types import SeriesKey, SourceState


@pytest.fixture
def metrics():
    """Metrics of an engine with some activity."""
    metrics = Metrics("0.1.0")
    metrics.observe_tick("host", seconds=0.002, lag_s=0.25, n=120)
    metrics.set_series_counts("host", total=120, learning=20, unusual=1)
    metrics.set_source_state("host", SourceState.UP)
    metrics.set_source_state("prometheus", SourceState.UNKNOWN)
    metrics.set_open_anomalies(2)
    metrics.set_store_healthy(True)
    metrics.count_samples_sent("remote_write", 400)
    metrics.count_samples_dropped("remote_write", "refused", 3)
    metrics.observe_request("GET", "/api/series/{series_id}", 200, 0.004)
    metrics.set_unusual_series([series_view(SeriesKey.of("host", "cpu", {"core": 'a"b'}), anomaly_score=2.5)])
    return metrics


def test_every_metric_is_exported(metrics):
    """Every number that the engine reports is in the text."""
    lines = metrics.render().splitlines()
    for line in (
        'trimtab_ticks_total{source="host"} 1.0',
        'trimtab_tick_duration_seconds_sum{source="host"} 0.002',
        'trimtab_tick_lag_seconds{source="host"} 0.25',
        'trimtab_samples_scored_total{source="host"} 120.0',
        'trimtab_series{source="host"} 120.0',
        'trimtab_series_learning{source="host"} 20.0',
        'trimtab_series_unusual{source="host"} 1.0',
        "trimtab_anomalies_open 2.0",
        "trimtab_store_healthy 1.0",
        'trimtab_source_up{source="host"} 1.0',
        'trimtab_source_up{source="prometheus"} 0.0',
        'trimtab_source_state{source="prometheus",state="unknown"} 1.0',
        'trimtab_source_state{source="prometheus",state="up"} 0.0',
        'trimtab_writer_samples_sent_total{sink="remote_write"} 400.0',
        'trimtab_writer_samples_dropped_total{reason="refused",sink="remote_write"} 3.0',
        'trimtab_http_requests_total{method="GET",route="/api/series/{series_id}",status="200"} 1.0',
        'trimtab_anomaly_score{series="cpu{core=\\"a\\\\\\"b\\"}",source="host"} 2.5',
        'trimtab_build_info{version="0.1.0"} 1.0',
    ):
        assert line in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


def test_only_own_and_process_metrics_are_exported(metrics):
    """There are no metrics of other collectors and no `_created` series."""
    names = {
        line.split("{")[0].split()[0] for line in metrics.render().splitlines() if not line.startswith("#")
    }
    assert all(name.startswith(("trimtab_", "process_")) for name in names)
    assert not [name for name in names if name.endswith("_created")]


def test_two_engines_do_not_share_a_registry():
    """Each Metrics object has its own registry."""
    first, second = Metrics("1"), Metrics("2")
    first.set_open_anomalies(7)
    assert "trimtab_anomalies_open 0.0" in second.render()


def test_unusual_series_are_bounded_and_replaced(metrics):
    """Only the highest known scores are exported, and recovered series disappear."""
    views = [
        series_view(SeriesKey.of("host", "m", {"i": str(i)}), anomaly_score=float(i)) for i in range(1, 301)
    ]
    views.append(series_view(SeriesKey.of("host", "unknown"), anomaly_score=None))
    views.append(series_view(SeriesKey.of("host", "nan"), anomaly_score=float("nan")))
    metrics.set_unusual_series(views)
    shown = [line for line in metrics.render().splitlines() if line.startswith("trimtab_anomaly_score{")]
    assert len(shown) == MAX_UNUSUAL_SERIES
    assert min(float(line.split()[-1]) for line in shown) == 201
    metrics.set_unusual_series([])
    assert "trimtab_anomaly_score{" not in metrics.render()


def test_gauges_of_a_removed_source_disappear(metrics):
    """The gauges of a removed source are removed; its counters stay."""
    metrics.observe_tick("files", 0.001, 0.1, 3)
    metrics.set_series_counts("files", 3, 0, 0)
    metrics.set_source_state("files", SourceState.UP)
    metrics.remove_source("files")
    metrics.remove_source("never seen")
    shown = [
        line for line in metrics.render().splitlines() if 'source="files"' in line and "_total" not in line
    ]
    assert [line for line in shown if "_duration_" not in line] == []
    assert 'trimtab_ticks_total{source="files"}' in metrics.render()


def test_promtool_accepts_the_text(metrics):
    """The checker of Prometheus finds no error in the format."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics.render(),
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in {0, 3}, done.stderr  # 3 = only hints of style
    assert "error" not in done.stderr.lower()
