"""Prometheus source: series that appear, vanish, exceed the cap, or cannot be read."""

import asyncio
import math

import httpx
import pytest

from tests.fakes.fake_prometheus import LABELS, FakePrometheus, run_scrapes, values_by_series
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import SourceError
from trimtab.engine.sources.prometheus.query_plan import MetricMetadata


@pytest.fixture
def server():
    """A Prometheus with a gauge, a counter and one target."""
    server = FakePrometheus(FakeClock())
    server.metadata_by_metric = {
        "temperature": MetricMetadata("gauge", "How warm."),
        "hits_total": MetricMetadata("counter"),
    }
    return server


def fail_count(selection):
    """A failing series count."""
    raise SourceError(f"away, asked for {selection}")


def refuse_connection(request):
    """A refused connection."""
    raise httpx.ConnectError("refused", request=request)


async def test_metrics_over_the_cap_are_skipped_as_a_whole(server):
    """Metrics beyond the cap are skipped as a whole, by name, and listed with their size."""
    for i in range(4):
        server.add_sample("big", 1.0, path=str(i))
        server.add_sample("small", 1.0, path=str(i))
    server.metadata_by_metric |= {"big": MetricMetadata("gauge"), "small": MetricMetadata("gauge")}
    source = server.make_source(max_series=5)
    await source.open()
    reading = await source.read()
    assert {key.metric for key in reading.keys} == {"big"}
    assert source.skipped_series() == ["small (4 series)"]
    assert source.skipped_series_count == 4


async def test_later_series_over_the_cap_are_refused(server):
    """Between discoveries new series of a watched metric are refused at the cap and counted."""
    server.metadata_by_metric["big"] = MetricMetadata("gauge")
    server.add_sample("big", 1.0, path="0")
    source = server.make_source(max_series=10)
    await source.open()
    for i in range(50):
        server.add_sample("big", 1.0, path=f"new{i}")
    reading = await source.read()
    assert len(reading.keys) == 10
    assert 'big{instance="a:80",job="web",path="0"}' in values_by_series(reading)
    assert source.skipped_series_count == 41


async def test_a_metric_that_outgrew_the_cap_is_unknown_not_absent(server):
    """Watched series that exceed the cap later stay as unknown."""
    server.metadata_by_metric["big"] = MetricMetadata("gauge")
    server.scrape(big=1.0)
    source = server.make_source(max_series=5)
    await source.open()
    for i in range(50):
        server.add_sample("big", 1.0, path=f"new{i}")
    await rediscover(server, source)
    server.scrape(big=1.0)
    reading = await source.read()
    assert math.isnan(values_by_series(reading)[f"big{LABELS}"])
    assert values_by_series(reading)[f"up{LABELS}"] == 1.0


async def rediscover(server, source):
    """Move to the next discovery and wait for it."""
    server.clock.tick(121)
    server.scrape()
    await source.read()
    await source._rediscovery_task
    assert source._rediscovery_task.exception() is None


async def test_new_series_and_new_metrics_join(server):
    """New series join at once, new metrics at the next discovery, without delaying ticks."""
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    server.add_sample("temperature", 5.0, room="b")
    server.metadata_by_metric["pressure"] = MetricMetadata("gauge")
    server.add_sample("pressure", 1.0)
    reading = await source.read()
    assert len(reading.keys) == 3
    assert reading.complete
    await rediscover(server, source)
    server.scrape(temperature=1.0, pressure=2.0)
    assert f"pressure{LABELS}" in values_by_series(await source.read())


async def test_a_failed_discovery_keeps_the_series(server):
    """After a failed discovery the known series are still read."""
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    server.count_series = fail_count
    server.clock.tick(121)
    server.scrape(temperature=3.0)
    await source.read()
    await source._rediscovery_task
    assert len((await source.read()).keys) == 2


async def test_a_vanished_series_is_not_in_a_complete_reading(server):
    """A series without a fresh sample, while others have one, is missing from the keys."""
    server.add_sample("temperature", 1.0, room="b")
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    server.clock.tick(15)
    server.scrape(temperature=1.0)
    reading = await source.read()
    assert len(reading.keys) == 2
    assert reading.complete


async def test_a_target_that_is_down_loses_its_series_at_once(server):
    """When `up` is 0 the target's other series are missing at the next read."""
    await run_scrapes(server, hits_total=1.0)
    source = server.make_source()
    await source.open()
    server.clock.tick(15)
    server.add_sample("up", 0.0)
    assert values_by_series(await source.read()) == {f"up{LABELS}": 0.0}


async def test_a_slow_target_is_not_absent(server):
    """A series scraped every minute stays next to series scraped every 15 s."""
    server.targets = lambda: [
        {"labels": {"job": "web", "instance": "a:80"}, "scrapeInterval": "15s"},
        {"labels": {"job": "web", "instance": "b:80"}, "scrapeInterval": "15s"},
        {"labels": {"job": "slow", "instance": "c:80"}, "scrapeInterval": "1m"},
    ]
    server.metadata_by_metric["slow_level"] = MetricMetadata("gauge")
    server.add_sample("slow_level", 7.0, job="slow", instance="c:80")
    await run_scrapes(server, times=4)
    source = server.make_source()
    await source.open()
    server.clock.tick(14)
    reading = await source.read()
    assert source.interval_s == 15.0
    assert values_by_series(reading)['slow_level{instance="c:80",job="slow"}'] == 7.0


async def test_late_timestamps_are_learned(server):
    """A series whose samples are always late is missing at most once."""
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    present = []
    for _ in range(5):
        server.clock.tick(15)
        server.scrape()
        server.add_sample("temperature", 1.0, server.now_s - 25)
        present.append(f"temperature{LABELS}" in values_by_series(await source.read()))
    assert present[1:] == [True] * 4


async def test_readings_are_incomplete_after_an_outage(server):
    """After an outage readings are unknown, then incomplete, then complete."""
    server.add_sample("temperature", 1.0, room="b")
    await run_scrapes(server, times=2)
    source = server.make_source()
    await source.open()
    server.fixed_answer = refuse_connection
    for _ in range(20):
        server.clock.tick(15)
        with pytest.raises(SourceError, match="cannot reach http://localhost:9090/prefix"):
            await source.read()
    server.fixed_answer = None
    with pytest.raises(SourceError, match="no fresh sample"):
        await source.read()
    server.scrape(temperature=1.0)
    first = await source.read()
    assert (len(first.keys), first.complete) == (2, False)
    server.clock.tick(15)
    server.scrape(temperature=1.0)
    server.add_sample("temperature", 1.0, room="b")
    assert (await source.read()).complete


async def test_series_missing_after_a_server_start_are_not_absent(server):
    """Series missing right after the server's start are not absent; later they are."""
    server.add_sample("temperature", 1.0, room="b")
    await run_scrapes(server, times=2)
    source = server.make_source()
    await source.open()
    server.start_time = "2026-01-01T00:00:20Z"
    complete = []
    for _ in range(4):
        server.clock.tick(15)
        server.scrape(temperature=1.0)
        complete.append((await source.read()).complete)
    assert complete == [False, False, False, True]


async def test_closing_ends_a_running_discovery(server):
    """Closing cancels a running discovery and leaves no task."""
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    server.clock.tick(121)
    server.scrape()
    await source.read()
    await source.close()
    await asyncio.sleep(0)
    assert source._rediscovery_task.done()
