import asyncio
import time

import httpx
import numpy as np
import pytest

from tests.builders.series import tick_scores
from tests.servers.prometheus import PASSWORD, make_certificates, start_prometheus
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.settings import BasicAuth, Tls, Writer
from trimtab.engine.sinks.remote_write_sink import RemoteWriteSink
from trimtab.engine.types import SeriesKey

NAN = float("nan")
SECOND = 1_000_000_000
ALL = ("anomaly_score", "yhat", "yhat_lower", "yhat_upper", "y")


class WallClock:
    """The real time, which a real Prometheus requires."""

    def now(self):
        return time.time_ns()

    async def sleep_until(self, time_ns):
        await asyncio.sleep(max(0.0, (time_ns - self.now()) / SECOND))


async def instant_query(server, expr, **client):
    """Labels (without the name) -> value of an instant query."""
    async with httpx.AsyncClient(trust_env=False, **client) as asker:
        answer = await asker.post(f"{server.url}/api/v1/query", data={"query": expr})
    answer.raise_for_status()
    return {
        tuple(sorted((k, v) for k, v in row["metric"].items() if k != "__name__")): float(row["value"][1])
        for row in answer.json()["data"]["result"]
    }


async def test_a_real_prometheus_accepts_scores_and_bands(tmp_path):
    """Scores and bands arrive with the input's labels and `for`; NaN does not."""
    metrics = Metrics("test")
    keys = [SeriesKey.of("prometheus", "m", {"i": f"{i:04}", "job": "Ünïcode"}) for i in range(3000)]
    now = time.time_ns()
    with start_prometheus(tmp_path, remote_write=True) as server:
        settings = Writer(remote_write_url=f"{server.url}/api/v1/write", provide_series=ALL)
        sink = RemoteWriteSink(settings, metrics, WallClock())
        for tick in range(3):
            values = np.arange(3000.0) + tick
            yhat = np.where(np.arange(3000) % 2, NAN, values)
            scores = tick_scores(
                "prometheus", now - (3 - tick) * SECOND, values, anomaly_score=values / 1000, yhat=yhat,
                yhat_lower=yhat - 1, yhat_upper=yhat + 1,
            )  # fmt: skip
            await sink.send(keys, scores)
        await sink.close()
        score = await instant_query(server, 'anomaly_score{for="m"}')
        assert len(score) == 3000
        assert score[("for", "m"), ("i", "1234"), ("job", "Ünïcode")] == 1.236
        assert len(await instant_query(server, "yhat_lower")) == 1500
        times = await instant_query(server, 'count_over_time(y{i="0007"}[1m])')
        assert list(times.values()) == [3.0]
    text = metrics.render()
    assert f'trimtab_writer_samples_sent_total{{sink="remote_write"}} {3 * (3000 * 2 + 1500 * 3)}.0' in text
    assert "samples_dropped_total{" not in text


async def test_an_unavailable_prometheus_receives_everything_in_order(tmp_path):
    """Ticks scored while Prometheus is down are sent when it is back; none is lost or refused."""
    metrics = Metrics("test")
    key = SeriesKey.of("prometheus", "m", {"job": "x"})
    with start_prometheus(tmp_path, remote_write=True) as server:
        sink = RemoteWriteSink(Writer(remote_write_url=f"{server.url}/api/v1/write"), metrics, WallClock())
        server.stop()
        now = time.time_ns()
        for tick in range(5):
            scores = tick_scores("prometheus", now - (5 - tick) * SECOND, [1.0], anomaly_score=[tick / 10])
            await sink.send([key], scores)
        await asyncio.to_thread(server.start)
        await sink.close()
        assert list((await instant_query(server, "count_over_time(anomaly_score[1m])")).values()) == [5.0]
    assert "samples_dropped_total{" not in metrics.render()


async def test_a_prometheus_without_remote_write_refuses(tmp_path):
    """If remote_write is disabled, samples are dropped and counted, not retried forever."""
    metrics = Metrics("test")
    with start_prometheus(tmp_path) as server:
        sink = RemoteWriteSink(Writer(remote_write_url=f"{server.url}/api/v1/write"), metrics, WallClock())
        scores = tick_scores("prometheus", time.time_ns(), [1.0], anomaly_score=[0.5])
        await sink.send([SeriesKey.of("prometheus", "m")], scores)
        await sink.close()
    assert 'samples_dropped_total{reason="refused",sink="remote_write"} 1.0' in metrics.render()


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls_custom_ca_and_password(tmp_path, mutual):
    """With custom CA, password and client certificate the samples arrive; without the CA none do."""
    certificates = make_certificates(tmp_path / "tls")
    web_config = certificates.web_config(tmp_path, "trimtab", mutual=mutual)
    client = {"verify": certificates.context(client=mutual), "auth": ("trimtab", PASSWORD)}
    pair = {"cert_file": certificates.client_cert, "key_file": certificates.client_key} if mutual else {}
    with start_prometheus(tmp_path, remote_write=True, web_config=web_config, client=client) as server:
        for tls, taken in ((Tls(ca_file=certificates.ca, **pair), True), (Tls(), False)):
            metrics = Metrics("test")
            auth = BasicAuth(username="trimtab", password=PASSWORD)
            url = f"{server.url}/api/v1/write".replace("127.0.0.1", "localhost")
            settings = Writer(remote_write_url=url, basic_auth=auth, tls=tls)
            sink = RemoteWriteSink(settings, metrics, WallClock())
            scores = tick_scores("prometheus", time.time_ns(), [1.0], anomaly_score=[0.5])
            await sink.send([SeriesKey.of("prometheus", "m")], scores)
            await sink.close()
            assert ("samples_sent_total{" in metrics.render()) is taken
        assert list((await instant_query(server, "anomaly_score", **client)).values()) == [0.5]
