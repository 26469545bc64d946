"""What the Prometheus source makes of series that come, go, are too many, or cannot be known of."""

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


def away(selection):
    """A look that fails."""
    raise SourceError(f"away, asked for {selection}")


def refused(request):
    """Nobody listens."""
    raise httpx.ConnectError("refused", request=request)


async def test_the_cap_leaves_out_whole_metrics_by_name(server):
    """Metrics over the cap are left out whole, in the order of their names, and listed with their size."""
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


async def test_series_over_the_cap_that_come_later_are_refused(server):
    """Between two looks a flood of new series of a watched metric stops at the cap and is counted."""
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


async def test_a_metric_that_outgrew_the_cap_is_unknown_not_gone(server):
    """Series that were watched and are over the cap now stay, as unknown; nothing is concluded from that."""
    server.metadata_by_metric["big"] = MetricMetadata("gauge")
    server.scrape(big=1.0)
    source = server.make_source(max_series=5)
    await source.open()
    for i in range(50):
        server.add_sample("big", 1.0, path=f"new{i}")
    await look_again(server, source)
    server.scrape(big=1.0)
    reading = await source.read()
    assert math.isnan(values_by_series(reading)[f"big{LABELS}"])
    assert values_by_series(reading)[f"up{LABELS}"] == 1.0


async def look_again(server, source):
    """Let the time of the next discovery come, and wait for it."""
    server.clock.tick(121)
    server.scrape()
    await source.read()
    await source._rediscovery_task
    assert source._rediscovery_task.exception() is None


async def test_new_series_and_new_metrics_join(server):
    """A new series of a known metric joins at once, a new metric at the next look, the ticks not waiting."""
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    server.add_sample("temperature", 5.0, room="b")
    server.metadata_by_metric["pressure"] = MetricMetadata("gauge")
    server.add_sample("pressure", 1.0)
    reading = await source.read()
    assert len(reading.keys) == 3
    assert reading.complete
    await look_again(server, source)
    server.scrape(temperature=1.0, pressure=2.0)
    assert f"pressure{LABELS}" in values_by_series(await source.read())


async def test_a_look_that_fails_does_no_harm(server):
    """When the server cannot be read for new metrics, those that are known go on."""
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    server.count_series = away
    server.clock.tick(121)
    server.scrape(temperature=3.0)
    await source.read()
    await source._rediscovery_task
    assert len((await source.read()).keys) == 2


async def test_a_vanished_series_is_not_in_a_complete_reading(server):
    """A series no fresh sample while others have one is missing from the keys: it is gone."""
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
    """When `up` says 0 the target's other series are missing at the very next read."""
    await run_scrapes(server, hits_total=1.0)
    source = server.make_source()
    await source.open()
    server.clock.tick(15)
    server.add_sample("up", 0.0)
    assert values_by_series(await source.read()) == {f"up{LABELS}": 0.0}


async def test_a_slow_target_is_not_taken_for_gone(server):
    """A series scraped every minute stays while others are scraped every 15 s."""
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


async def test_samples_that_an_exporter_stamps_late_are_learnt_to_be_late(server):
    """A series whose samples are always old is missing at most once, then known to be late."""
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


async def test_after_an_outage_nothing_is_concluded_until_all_was_scraped(server):
    """A Prometheus that was away: unknown, then incomplete while targets come back, then complete."""
    server.add_sample("temperature", 1.0, room="b")
    await run_scrapes(server, times=2)
    source = server.make_source()
    await source.open()
    server.fixed_answer = refused
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


async def test_a_prometheus_that_just_started_is_given_time(server):
    """What is missing right after Prometheus itself started is not taken for gone; later it is."""
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


async def test_closing_ends_a_running_look(server):
    """Closing waits for nothing and leaves no task behind."""
    await run_scrapes(server)
    source = server.make_source()
    await source.open()
    server.clock.tick(121)
    server.scrape()
    await source.read()
    await source.close()
    await asyncio.sleep(0)
    assert source._rediscovery_task.done()
