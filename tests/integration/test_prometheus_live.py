"""Prometheus source with a real Prometheus, node exporter and exporters of the test."""

import asyncio
import math
import time
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest

from tests.servers.prometheus import (
    PASSWORD,
    backfill,
    make_certificates,
    start_exporter,
    start_node_exporter,
    start_prometheus,
    wait_for,
)
from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import SourceError
from trimtab.engine.settings import BasicAuth, Prometheus, Tls
from trimtab.engine.sources.prometheus.local_prometheus import find_local_prometheus
from trimtab.engine.sources.prometheus.prometheus_source import PrometheusSource

METRICS = """# TYPE requests_total counter
requests_total {n}
# TYPE depth gauge
depth 7
# TYPE lag_seconds histogram
lag_seconds_bucket{{le="0.1"}} {n}
lag_seconds_bucket{{le="+Inf"}} {n}
lag_seconds_sum {n}
lag_seconds_count {n}
"""


@asynccontextmanager
async def open_source(server, within_s=30.0, **settings):
    """A source on the real clock, opened with retries as the engine does."""
    source = PrometheusSource(Prometheus(url=server.url, **settings), SystemClock())
    end, problem = time.monotonic() + within_s, "not tried"
    try:
        while problem:
            assert time.monotonic() < end, problem
            try:
                await source.open()
                problem = ""
            except SourceError as error:
                problem = str(error)
                await asyncio.sleep(0.2)
        yield source
    finally:
        await source.close()


def values_by_metric(reading):
    """(metric, job) -> value; of several series the last."""
    return {
        (key.metric, dict(key.labels).get("job")): value
        for key, value in zip(reading.keys, reading.values.tolist(), strict=True)
    }


def first_key(reading, metric, job):
    """The first series of a metric and job."""
    return next(k for k in reading.keys if (k.metric, dict(k.labels).get("job")) == (metric, job))


async def read_until(source, finished, within_s=30.0):
    """Read until a reading meets the condition; None is a failed read."""
    end = time.monotonic() + within_s
    while True:
        try:
            reading = await source.read()
        except SourceError:
            reading = None
        if finished(reading):
            return reading
        assert time.monotonic() < end, f"not so within {within_s} s: {reading}"
        await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def monitored_server(tmp_path_factory):
    """A Prometheus that scrapes itself and a node exporter each second."""
    folder = tmp_path_factory.mktemp("monitored_server")
    with start_node_exporter(folder / "node") as node, start_prometheus(folder / "prometheus") as server:
        server.set_targets({"node": [node.address], "prometheus": [server.address]})
        wait_for(lambda: len(server.query("count_over_time(up[10s]) > 2")) == 2, 30)
        yield server


async def test_series_of_a_real_server_are_found_and_read(monitored_server):
    """Discovery, metadata, types, units and rates agree with the real server."""
    async with open_source(monitored_server) as source:
        reading = await read_until(source, lambda r: r is not None and len(r.keys) > 500)
        values = values_by_metric(reading)
        assert source.interval_s == 1.0
        assert reading.complete
        assert values["up", "node"] == 1.0
        assert values["node_memory_MemTotal_bytes", "node"] > 1e8
        idle = [
            value
            for key, value in zip(reading.keys, reading.values, strict=True)
            if key.metric == "node_cpu_seconds_total" and dict(key.labels)["mode"] == "idle"
        ]
        assert all(0 <= value <= 1.5 for value in idle)
        memory = first_key(reading, "node_memory_MemTotal_bytes", "node")
        assert (source.info(memory).unit, source.info(memory).kind) == ("B", "gauge")
        assert source.info(memory).help
        assert not any(key.metric.endswith(("_bucket", "_sum", "_info")) for key in reading.keys)
        assert ("prometheus_http_request_duration_seconds_p99", "prometheus") in values
        ages_s = (reading.time - reading.times) / 1e9
        assert -1 < ages_s.min() < ages_s.max() < 4


@pytest.mark.slow
async def test_a_counter_has_no_rate_over_a_restart(tmp_path):
    """A reset is NaN, never a spike or a negative rate, and known again afterwards."""
    with start_exporter(METRICS.format(n=1000)) as exporter, start_prometheus(tmp_path) as server:
        server.set_targets({"mine": [exporter.address]})
        async with open_source(server) as source:
            await read_until(
                source, lambda r: r is not None and values_by_metric(r).get(("requests_total", "mine")) == 0.0
            )
            rates = []
            for n in (1010, 1020, 3, 13, 23, 33):
                exporter.text = METRICS.format(n=n)
                await asyncio.sleep(1.0)
                reading = await source.read()
                rates.append(values_by_metric(reading)["requests_total", "mine"])
    known = [rate for rate in rates if not math.isnan(rate)]
    assert len(known) < len(rates)
    assert all(0 <= rate <= 25 for rate in known), rates
    assert values_by_metric(reading)["depth", "mine"] == 7.0


@pytest.mark.slow
async def test_a_killed_target_vanishes_and_its_successor_is_a_replacement(tmp_path):
    """Series of a dead target vanish within 3 intervals; its successor is a replacement."""
    metrics = "# TYPE x gauge\nx 3\n"
    with start_exporter(metrics) as stays, start_prometheus(tmp_path) as server:
        async with AsyncExitStack() as stack:
            with start_exporter(metrics) as dies:
                server.set_targets({"app": [dies.address], "other": [stays.address]})
                wait_for(lambda: len(server.query("count_over_time(x[10s]) > 2")) == 2, 30)
                source = await stack.enter_async_context(open_source(server))
                vanished = first_key(await source.read(), "x", "app")
            ended = time.monotonic()
            reading = await read_until(source, lambda r: r is not None and vanished not in r.keys)
            assert time.monotonic() - ended < 3.0 + 1.0  # three intervals, and one second for a busy machine
            assert reading.complete
            other = first_key(reading, "x", "other")
            with start_exporter(metrics) as successor:
                server.set_targets({"app": [successor.address], "other": [stays.address]})
                reading = await read_until(
                    source, lambda r: r is not None and ("x", "app") in values_by_metric(r)
                )
            assert source.is_replacement(vanished, first_key(reading, "x", "app"))
            assert not source.is_replacement(vanished, other)


@pytest.mark.slow
async def test_a_stopped_prometheus_is_unknown_until_it_restarts(tmp_path):
    """Stopped: SourceError each time. Restarted: readings, and no series counts as absent."""
    with start_exporter(METRICS.format(n=5)) as exporter, start_prometheus(tmp_path) as server:
        server.set_targets({"mine": [exporter.address], "self": [server.address]})
        wait_for(lambda: len(server.query("count_over_time(up[10s]) > 2")) == 2, 30)
        async with open_source(server) as source:
            before = (await source.read()).keys
            server.stop()
            for _ in range(3):
                with pytest.raises(SourceError, match=f"cannot reach {server.url}"):
                    await source.read()
            server.start()
            whole = await read_until(source, lambda r: r is not None and r.complete)
            assert set(before) <= set(whole.keys)


@pytest.mark.slow
async def test_history_of_a_real_server_equals_the_recorded_samples(tmp_path):
    """Backfilled samples are read coarsely for a day and finely for the last hour."""
    now = int(time.time()) // 15 * 15
    fine = now // 300 * 300 - 7200
    times = [*range(fine - 2 * 86_400, fine, 300), *range(fine, now + 1, 15)]
    lines = ["# TYPE level gauge", *(f"level {t // 300 % 7} {t}" for t in times)]
    lines += ["# TYPE work counter", *(f"work_total {3 * t} {t}" for t in times), "# EOF", ""]
    backfill(tmp_path, "\n".join(lines))
    windows = {"season_window": 86_400.0, "noise_window": 3600.0, "interval": 15.0}
    with start_prometheus(tmp_path) as server:
        async with open_source(server, selector='{__name__=~"level|work_total"}', **windows) as source:
            chunks = [chunk async for chunk in source.history(now * 1_000_000_000)]
    assert [chunk.coarse for chunk in chunks] == [True, False]
    for chunk in chunks:
        column = {key.metric: chunk.values[:, i] for i, key in enumerate(chunk.keys)}
        known = ~np.isnan(column["work_total"])
        assert known.mean() > 0.95
        np.testing.assert_allclose(column["work_total"][known], 3.0, rtol=1e-6)
        known = ~np.isnan(column["level"])
        recorded = chunk.times[known] // 1_000_000_000 // 300 % 7
        np.testing.assert_array_equal(column["level"][known], recorded)


@pytest.mark.slow
async def test_tls_user_and_client_certificate_of_a_real_server(tmp_path):
    """Own CA, basic authentication, mutual TLS and a path prefix work for every request."""
    files = make_certificates(tmp_path / "certificates")
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    tls = Tls(ca_file=files.ca, cert_file=files.client_cert, key_file=files.client_key)
    auth = BasicAuth(username="joe", password_file=password)
    with (
        start_exporter(METRICS.format(n=5)) as exporter,
        start_prometheus(
            tmp_path / "prometheus",
            {"mine": [exporter.address]},
            prefix="/team/prometheus",
            web_config=files.web_config(tmp_path, "joe", mutual=True),
            client={"verify": files.context(client=True), "auth": ("joe", PASSWORD)},
        ) as server,
    ):
        short = {"noise_window": 60.0, "season_window": 600.0}
        async with open_source(server, tls=tls, basic_auth=auth, **short) as source:
            reading = await read_until(
                source, lambda r: r is not None and ("depth", "mine") in values_by_metric(r)
            )
            assert [chunk async for chunk in source.history(reading.time)]
        for settings, message in (
            ({"tls": tls, "basic_auth": BasicAuth(username="joe")}, "denies access"),
            ({"tls": Tls(ca_file=files.ca), "basic_auth": auth}, "cannot reach"),  # no client certificate
            ({"basic_auth": auth}, "cannot reach"),  # an unknown CA
        ):
            await assert_refused(Prometheus(url=server.url, **settings), message)


async def assert_refused(settings, message):
    """Neither the API library nor the live client gets access, and neither shows the password."""
    source = PrometheusSource(settings, SystemClock())
    with pytest.raises(SourceError, match=message) as caught:
        await source.open()
    with pytest.raises(SourceError, match=message) as live:
        await source._client.query("up")
    await source.close()
    assert PASSWORD not in f"{caught.value!r}{live.value!r}"


@pytest.mark.slow
async def test_a_local_prometheus_is_found(monitored_server):
    """`trimtab up` finds a local Prometheus in less than a second."""
    begin = time.monotonic()
    assert await find_local_prometheus(monitored_server.url) == monitored_server.url
    assert time.monotonic() - begin < 1.0
