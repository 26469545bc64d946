"""Prometheus source against a Prometheus in memory: watched series and user queries."""

import math

import numpy as np
import pytest

from tests.fakes.fake_prometheus import LABELS, FakePrometheus, run_scrapes, values_by_series
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import SettingsError, SourceError
from trimtab.engine.settings import Query
from trimtab.engine.sources.prometheus.query_plan import MetricMetadata
from trimtab.engine.types import SeriesKey


@pytest.fixture
def server():
    """A Prometheus with a gauge, a counter and one target."""
    server = FakePrometheus(FakeClock())
    server.metadata_by_metric = {
        "temperature": MetricMetadata("gauge", "How warm."),
        "hits_total": MetricMetadata("counter"),
    }
    return server


async def test_levels_and_rates_with_the_times_of_the_scrapes(server):
    """Gauges are unchanged, counters are rates of real samples, with the samples' times."""
    await run_scrapes(server, hits_total=30.0)
    server.clock.tick(4)
    source = server.make_source()
    await source.open()
    reading = await source.read()
    assert values_by_series(reading) == {
        f"hits_total{LABELS}": 2.0,
        f"temperature{LABELS}": 22.0,
        f"up{LABELS}": 1.0,
    }
    assert set((reading.time - reading.times) / 1e9) == {4.0}
    assert reading.complete
    assert source.interval_s == 15.0
    key = SeriesKey.of("prometheus", "hits_total", {"job": "web", "instance": "a:80"})
    assert (source.info(key).unit, source.info(key).kind) == ("1/s", "rate")
    assert "3 series of 3 metrics" in source.detail()
    await source.close()


async def test_the_key_tuple_is_reused(server):
    """While no series appears or vanishes the same key tuple is returned."""
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    first = await source.read()
    server.clock.tick(15)
    server.scrape(temperature=1.0)
    assert (await source.read()).keys is first.keys


async def test_a_first_sample_and_a_reset_have_no_rate(server):
    """A new or reset counter is NaN, not 0, and known again at the next scrape."""
    await run_scrapes(server, times=1, hits_total=0.0)
    source = server.make_source()
    await source.open()
    name = f"hits_total{LABELS}"
    assert math.isnan(values_by_series(await source.read())[name])
    rates = []
    for value in (150.0, 5.0, 20.0):
        server.clock.tick(15)
        server.scrape(temperature=1.0, hits_total=value)
        rates.append(values_by_series(await source.read())[name])
    np.testing.assert_array_equal(rates, [10.0, math.nan, 1.0])


async def test_a_longer_interval_than_the_scrapes(server):
    """Read every minute, a rate covers the minute; a reset costs only its own scrape."""
    await run_scrapes(server, times=5, hits_total=30.0)
    source = server.make_source(interval=60.0)
    await source.open()
    assert values_by_series(await source.read())[f"hits_total{LABELS}"] == 2.0
    for value in (150.0, 30.0, 60.0, 90.0):
        server.clock.tick(15)
        server.scrape(temperature=1.0, hits_total=value)
    assert values_by_series(await source.read())[f"hits_total{LABELS}"] == 2.0


async def test_histograms_become_rate_and_quantiles(server):
    """Buckets become p50 and p99, the count becomes a rate, the sum is ignored."""
    server.metadata_by_metric["lag_seconds"] = MetricMetadata("histogram", "Lag.")
    for scrape in range(2):
        for le, n in (("0.1", 50), ("0.5", 98), ("+Inf", 100)):
            server.add_sample("lag_seconds_bucket", n * scrape, le=le, path="/")
        server.add_sample("lag_seconds_count", 100 * scrape, path="/")
        server.add_sample("lag_seconds_sum", 9.0 * scrape, path="/")
        server.clock.tick(15)
    source = server.make_source()
    await source.open()
    reading = values_by_series(await source.read())
    labels = '{instance="a:80",job="web",path="/"}'
    assert reading[f"lag_seconds_p50{labels}"] == pytest.approx(0.1)
    assert reading[f"lag_seconds_p99{labels}"] == pytest.approx(0.5)
    assert reading[f"lag_seconds_count{labels}"] == pytest.approx(100 / 15)
    assert len(reading) == 3
    p99 = next(key for key in (await source.read()).keys if key.metric == "lag_seconds_p99")
    assert (source.info(p99).unit, source.info(p99).help) == ("s", "Lag.")


async def test_a_histogram_without_observations_is_unknown(server):
    """Without observations a quantile is NaN and the rate 0."""
    server.metadata_by_metric["lag_seconds"] = MetricMetadata("histogram")
    for _ in range(2):
        for le in ("0.1", "+Inf"):
            server.add_sample("lag_seconds_bucket", 7, le=le)
        server.add_sample("lag_seconds_count", 7)
        server.clock.tick(15)
    source = server.make_source()
    await source.open()
    reading = values_by_series(await source.read())
    assert math.isnan(reading[f"lag_seconds_p50{LABELS}"])
    assert reading[f"lag_seconds_count{LABELS}"] == 0.0


async def test_summaries_keep_their_quantiles(server):
    """The quantiles of a summary are unchanged, its count is a rate, its sum is ignored."""
    server.metadata_by_metric["gc_seconds"] = MetricMetadata("summary")
    for scrape in range(2):
        server.add_sample("gc_seconds", 0.25, quantile="0.5")
        server.add_sample("gc_seconds_count", 15 * scrape)
        server.add_sample("gc_seconds_sum", 3 * scrape)
        server.clock.tick(15)
    source = server.make_source()
    await source.open()
    assert sorted(values_by_series(await source.read()).values()) == [0.25, 1.0]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ALERTS", {"alertstate": "firing"}),
        ("ALERTS_FOR_STATE", {}),
        ("go_info", {"version": "1"}),
        ("kube_pod_labels", {"label_app": "x"}),
        ("trimtab_ticks_total", {}),
        ("anomaly_score", {"for": "q"}),
        ("yhat_upper", {"for": "q"}),
        ("y", {"for": "q"}),
        ("hits_created", {}),
        ("node_time_seconds", {}),
        ("prometheus_tsdb_head_max_time_seconds", {}),
        ("go_memstats_last_gc_time_seconds", {}),
    ],
)
async def test_non_measurements_are_ignored(server, name, labels):
    """Alerts, info series, clocks and Trimtab's own series are not watched."""
    await run_scrapes(server, hits_total=1.0)
    server.add_sample(name, 1.0, **labels)
    source = server.make_source()
    await source.open()
    assert len((await source.read()).keys) == 3


async def test_a_foreign_metric_named_y_is_watched(server):
    """Trimtab's own names are ignored only with the label `for`."""
    await run_scrapes(server)
    server.metadata_by_metric["y"] = MetricMetadata("gauge")
    server.add_sample("y", 1.0)
    source = server.make_source()
    await source.open()
    assert f"y{LABELS}" in values_by_series(await source.read())


async def test_untyped_metrics_wait_until_decided(server):
    """A metric without a type is a rate if it only grew, else a gauge."""
    for i in range(41):
        server.scrape(segments=40.0 * i * i, level=float(i % 3), still=5.0)
        server.clock.tick(15)
    server.add_sample("fresh", 1.0)
    source = server.make_source()
    await source.open()
    kinds = {key.metric: source.info(key).kind for key in (await source.read()).keys}
    assert kinds == {"up": "gauge", "segments": "rate", "level": "gauge", "still": "gauge"}
    assert "1 metrics without a type wait" in source.detail()


async def test_without_targets_the_configured_interval_is_used(server):
    """Without targets the interval is that of the configuration."""
    server.metadata_by_metric = {"temperature": MetricMetadata("gauge")}
    server.add_sample("temperature", 1.0)
    server.scrape_s = 0
    source = server.make_source()
    await source.open()
    assert source.interval_s == 20.0


async def test_without_targets_the_sample_spacing_is_used(server):
    """A server without targets gets its interval from its samples."""
    server.scrape_s = 30
    await run_scrapes(server, times=4, hits_total=60.0)
    server.scrape_s = 0
    source = server.make_source()
    await source.open()
    assert source.interval_s == 30.0
    assert values_by_series(await source.read())[f"hits_total{LABELS}"] == 2.0


async def test_a_server_without_series_is_an_error(server):
    """A server without matching series is an error, and opening can be retried."""
    source = server.make_source()
    with pytest.raises(SourceError, match="has no series that match"):
        await source.open()
    await run_scrapes(server)
    await source.open()
    assert len((await source.read()).keys) == 2


async def test_user_queries(server):
    """A query's series have the label `for`; values outside data_range are NaN."""
    server.query_results["q1"] = {
        "resultType": "vector",
        "result": [
            {"metric": {"__name__": "x", "path": "/"}, "value": [server.now_s, "0.5"]},
            {"metric": {"path": "/b"}, "value": [server.now_s, "99"]},
        ],
    }
    server.query_results["scalar(q2)"] = {"resultType": "scalar", "result": [server.now_s, "3"]}
    await run_scrapes(server)
    source = server.make_source(
        queries={
            "latency": Query(expr="q1", data_range=(0, 10), unit="s"),
            "three": Query(expr="scalar(q2)"),
            "broken": Query(expr="rate("),
        }
    )
    await source.open()
    reading = await source.read()
    values = values_by_series(reading)
    assert values['latency{for="latency",path="/"}'] == 0.5
    assert math.isnan(values['latency{for="latency",path="/b"}'])
    assert values['three{for="three"}'] == 3.0
    assert "query broken fails" in source.detail()
    latency = next(key for key in reading.keys if key.metric == "latency")
    assert source.info(latency).unit == "s"


async def test_an_empty_query_result_is_unknown(server):
    """An empty result makes the query's series unknown; a missing one of several is absent."""
    at = [server.now_s, "1"]
    both = [{"metric": {"p": "a"}, "value": at}, {"metric": {"p": "b"}, "value": at}]
    server.query_results["q"] = {"resultType": "vector", "result": both}
    await run_scrapes(server)
    source = server.make_source(queries={"q": Query(expr="q")})
    await source.open()
    server.query_results["q"] = {"resultType": "vector", "result": []}
    values = values_by_series(await source.read())
    assert math.isnan(values['q{for="q",p="a"}'])
    server.query_results["q"] = {"resultType": "vector", "result": both[:1]}
    assert 'q{for="q",p="b"}' not in values_by_series(await source.read())


async def test_queries_are_capped(server):
    """With too many series a query watches the same ones in any order; the rest is listed."""

    def result(paths):
        return {
            "resultType": "vector",
            "result": [{"metric": {"path": p}, "value": [server.now_s, "1"]} for p in paths],
        }

    await run_scrapes(server)
    server.query_results["q"] = result("edbca")
    source = server.make_source(max_series=3, queries={"q": Query(expr="q")})
    await source.open()
    for paths in ("eadcb", "bcdae", "cdeab"):
        server.query_results["q"] = result(paths)
        names = [name for name in values_by_series(await source.read()) if name.startswith("q{")]
        assert sorted(names) == [f'q{{for="q",path="{p}"}}' for p in "abc"]
    assert "query q (2 of its series)" in source.skipped_series()
    assert source.skipped_series_count == 2
    server.query_results["q"] = result("abc")
    await source.read()
    assert source.skipped_series() == []


def test_an_invalid_selector_is_refused(server):
    """The error for a PromQL expression as selector says where it belongs."""
    with pytest.raises(SettingsError, match=r"sources\.prometheus\.queries"):
        server.make_source(selector="rate(x[5m])")
