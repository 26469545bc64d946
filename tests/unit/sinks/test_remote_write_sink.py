import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.builders.dns_names import patch_dns
from tests.builders.series import SECOND, START, tick_scores
from tests.fakes.ports import FakeClock
from tests.servers.remote_write_receiver import RemoteWriteReceiver, read_request
from trimtab.engine.errors import SettingsError
from trimtab.engine.net.addresses import Endpoint, RefusedAddressError, refuse_unsafe_address
from trimtab.engine.settings import BasicAuth, Writer
from trimtab.engine.sinks import remote_write_sink
from trimtab.engine.sinks.remote_write_sink import RemoteWriteSink
from trimtab.engine.types import SeriesKey

NAN = float("nan")
KEY = SeriesKey.of("prometheus", "latency", {"job": "web", "le": "0.5"})


@dataclass
class FakeSinkMetrics:
    """Metrics of a sink, in memory."""

    samples_sent: int = 0
    samples_dropped: dict = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    async def wait_until(self, done):
        """Wait until the condition is true."""
        async with asyncio.timeout(10):
            while not done():
                self.changed.clear()
                await self.changed.wait()

    def count_samples_sent(self, sink, n):
        assert sink == "remote_write"
        self.samples_sent += n
        self.changed.set()

    def count_samples_dropped(self, sink, reason, n):
        assert sink == "remote_write"
        self.samples_dropped[reason] = self.samples_dropped.get(reason, 0) + n
        self.changed.set()


@pytest.fixture
async def receiver():
    """A listening receiver."""
    receiver, tasks = RemoteWriteReceiver(), set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await receiver.handle(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    yield receiver
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class SkippingClock(FakeClock):
    """A clock that jumps to the end of each sleep and records the waits in seconds."""

    def __init__(self):
        super().__init__()
        self.waits = []

    async def sleep_until(self, time_ns):
        self.waits.append((time_ns - self.time) / SECOND)
        self.time = max(self.time, time_ns)
        await asyncio.sleep(0)


@asynccontextmanager
async def open_sink(url, **settings):
    """A sink, its metrics and its clock; closed at the end."""
    counts, clock = FakeSinkMetrics(), SkippingClock()
    more = {name: settings.pop(name) for name in ("queue_samples",) if name in settings}
    sink = RemoteWriteSink(Writer(remote_write_url=url, **settings), counts, clock, random.Random(1), **more)
    try:
        yield sink, counts, clock
    finally:
        await sink.close()


def make_tick(value=1.0, time=START):
    """A tick of one series with a score."""
    return [KEY], tick_scores("prometheus", time, [5.0], anomaly_score=[value])


async def test_scores_and_bands_are_sent(receiver):
    """Each provided series has labels, value and time in milliseconds; NaN is not sent."""
    settings = {"provide_series": ("anomaly_score", "yhat", "yhat_lower", "yhat_upper", "y")}
    other = SeriesKey.of("prometheus", "up", {"job": "Ünïcode", "empty": ""})
    async with open_sink(receiver.url, **settings) as (sink, counts, _):
        columns = {"anomaly_score": [1.5, NAN], "yhat": [4.0, 1.0], "yhat_lower": [3.0, NAN]}
        scores = tick_scores("prometheus", START + 1_234_567, [5.0, NAN], **columns)
        await sink.send([KEY, other], scores)
        await receiver.wait_for_requests(1)
    common = [("for", "latency"), ("job", "web"), ("le", "0.5")]
    ms = START // 1_000_000 + 1
    assert sorted(receiver.samples) == sorted(
        [([("__name__", name), *common], value, ms)
         for name, value in (("anomaly_score", 1.5), ("yhat", 4.0), ("yhat_lower", 3.0), ("y", 5.0))]
        + [([("__name__", "yhat"), ("for", "up"), ("job", "Ünïcode")], 1.0, ms)]
    )  # fmt: skip
    assert counts == FakeSinkMetrics(samples_sent=5)


async def test_the_request_is_remote_write_one(receiver):
    """Method, path and headers follow remote_write 1.0; Host is the configured one."""
    async with open_sink(receiver.url + "?x=1") as (sink, _, _):
        await sink.send(*make_tick())
        await receiver.wait_for_requests(1)
    line, headers, _ = receiver.requests[0]
    assert line == "POST /api/v1/write?x=1 HTTP/1.1"
    assert headers["content-encoding"] == "snappy"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["x-prometheus-remote-write-version"] == "0.1.0"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"


async def test_a_tick_of_nan_is_not_sent(receiver):
    """A tick with only NaN causes no request."""
    async with open_sink(receiver.url) as (sink, counts, _):
        await sink.send([KEY], tick_scores("prometheus", START, [5.0]))
    assert receiver.requests == []
    assert counts == FakeSinkMetrics()


async def test_large_ticks_are_sent_in_batches(receiver, monkeypatch):
    """No request exceeds the batch size, and no sample is lost or repeated."""
    monkeypatch.setattr(remote_write_sink, "BATCH_SAMPLES", 100)
    keys = [SeriesKey.of("prometheus", "m", {"i": str(i)}) for i in range(250)]
    async with open_sink(receiver.url) as (sink, counts, _):
        scores = tick_scores("prometheus", START, np.ones(250), anomaly_score=np.arange(250.0))
        await sink.send(keys, scores)
        await receiver.wait_for_requests(3)
    assert [len(read_request(body)) for _, _, body in receiver.requests] == [100, 100, 50]
    assert sorted(value for _, value, _ in receiver.samples) == list(range(250))
    assert counts.samples_sent == 250


async def test_the_arrays_may_be_reused(receiver):
    """Changes to the arrays after `send` do not affect the request."""
    keys, scores = make_tick(1.5)
    async with open_sink(receiver.url) as (sink, _, _):
        await sink.send(keys, scores)
        scores.anomaly_score[:] = 99.0
        await receiver.wait_for_requests(1)
    assert [value for _, value, _ in receiver.samples] == [1.5]


@pytest.mark.parametrize(
    ("settings", "authorization"),
    [
        ({"basic_auth": BasicAuth(username="u", password="p")}, "Basic dTpw"),
        ({"bearer_token": "abc"}, "Bearer abc"),
    ],
)
async def test_credentials_are_sent_but_never_shown(receiver, settings, authorization):
    """Configured credentials and headers reach the receiver and appear in no text."""
    async with open_sink(receiver.url, headers={"X-Scope-OrgID": "team"}, **settings) as (sink, _, _):
        await sink.send(*make_tick())
        await receiver.wait_for_requests(1)
    headers = receiver.requests[0][1]
    assert headers["authorization"] == authorization
    assert headers["x-scope-orgid"] == "team"


async def test_headers_can_come_from_files(receiver, tmp_path):
    """A header from a file is sent with each request."""
    (tmp_path / "tenant").write_text("team\n")
    async with open_sink(receiver.url, headers_file={"X-Scope-OrgID": tmp_path / "tenant"}) as (sink, _, _):
        await sink.send(*make_tick())
        await receiver.wait_for_requests(1)
    assert receiver.requests[0][1]["x-scope-orgid"] == "team"


async def test_token_files_are_read_for_each_request(receiver, tmp_path):
    """A rotated token is used from the next request on."""
    token = tmp_path / "token"
    token.write_text("first\n")
    async with open_sink(receiver.url, bearer_token_file=token) as (sink, _, _):
        await sink.send(*make_tick())
        await receiver.wait_for_requests(1)
        token.write_text("second\n")
        await sink.send(*make_tick(time=START + SECOND))
        await receiver.wait_for_requests(2)
    tokens = [headers["authorization"] for _, headers, _ in receiver.requests]
    assert tokens == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("answer", [(500, {}, b""), (503, {}, b"full"), (429, {}, b""), None])
async def test_a_failing_receiver_is_retried(receiver, answer):
    """5xx, 429 and broken connections are retried with full jitter until the batch is accepted."""
    receiver.responses = [answer] * 4
    async with open_sink(receiver.url) as (sink, counts, clock):
        await sink.send(*make_tick())
        await receiver.wait_for_requests(5)
    assert counts == FakeSinkMetrics(samples_sent=1)
    assert len(clock.waits) == 4
    assert all(0 <= wait <= 0.5 * 2**attempt for attempt, wait in enumerate(clock.waits))
    assert len(set(clock.waits)) == 4


@pytest.mark.parametrize("after", ["7", "Thu, 01 Jan 2026 00:00:07 GMT"])
async def test_retry_after_is_respected(receiver, after):
    """There is no retry before the Retry-After of the receiver."""
    receiver.responses = [(429, {"Retry-After": after}, b"")]
    async with open_sink(receiver.url) as (sink, counts, clock):
        await sink.send(*make_tick())
        await receiver.wait_for_requests(2)
    assert clock.waits[0] == pytest.approx(7, abs=1e-6)
    assert counts.samples_sent == 1


async def test_retries_are_limited(receiver):
    """After the deadline the batch is dropped and counted, and the next one is sent."""
    receiver.responses = [(503, {}, b"")] * 60
    async with open_sink(receiver.url) as (sink, counts, clock):
        await sink.send(*make_tick())
        await counts.wait_until(lambda: counts.samples_dropped)
        assert clock.time - START <= remote_write_sink.GIVE_UP_S * SECOND
        receiver.responses = []
        await sink.send(*make_tick(2.0, START + SECOND))
    assert counts == FakeSinkMetrics(samples_sent=1, samples_dropped={"busy": 1})


@pytest.mark.parametrize(
    "answer", [(400, {}, b"out of order"), (404, {}, b""), (307, {"Location": "http://127.0.0.1:1/"}, b"")]
)
async def test_a_refusal_is_not_retried(receiver, answer):
    """4xx and redirects are dropped and counted immediately, and no redirect is followed."""
    receiver.responses = [answer]
    async with open_sink(receiver.url) as (sink, counts, clock):
        await sink.send(*make_tick())
        await sink.send(*make_tick(2.0, START + SECOND))
        await receiver.wait_for_requests(2)
    assert counts == FakeSinkMetrics(samples_sent=1, samples_dropped={"refused": 1})
    assert clock.waits == []


async def test_a_dripping_response_times_out(receiver, monkeypatch):
    """The total timeout ends a request whose response arrives byte by byte."""

    async def drip(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        receiver.requests.append(None)
        receiver.request_arrived.set()
        while True:
            writer.write(b"H")
            await asyncio.sleep(0.001)

    monkeypatch.setattr(receiver, "handle", drip)
    async with open_sink(receiver.url, timeout=0.05) as (sink, counts, clock):
        await sink.send(*make_tick())
        await receiver.wait_for_requests(3)
        assert len(clock.waits) >= 2
        monkeypatch.setattr(remote_write_sink, "CLOSE_S", 0.01)
    assert counts.samples_dropped == {"closed": 1}


async def test_the_oldest_ticks_are_dropped(receiver):
    """While the receiver is down the queue stays bounded, and dropped ticks are counted."""
    receiver.responses = [(503, {"Retry-After": "1"}, b"")]
    async with open_sink(receiver.url, queue_samples=3) as (sink, counts, _):
        for number in range(10):
            await sink.send(*make_tick(float(number), START + number * SECOND))
        assert sink._queued_samples <= 3
        await receiver.wait_for_requests(3)
    assert counts == FakeSinkMetrics(samples_sent=3, samples_dropped={"queue full": 7})
    assert [value for _, value, _ in receiver.samples][-3:] == [7.0, 8.0, 9.0]


async def test_closing_sends_buffered_ticks(receiver):
    """Ticks that can be sent before the deadline are not lost."""
    async with open_sink(receiver.url) as (sink, counts, _):
        for number in range(5):
            await sink.send(*make_tick(float(number), START + number * SECOND))
    assert counts == FakeSinkMetrics(samples_sent=5)


async def test_closing_counts_unsent_ticks(monkeypatch):
    """Ticks that cannot be sent in time are counted as dropped."""
    monkeypatch.setattr(remote_write_sink, "CLOSE_S", 0.05)
    counts = FakeSinkMetrics()
    sink = RemoteWriteSink(Writer(remote_write_url="http://127.0.0.1:1/"), counts, FakeClock())
    for number in range(3):
        await sink.send(*make_tick(float(number), START + number * SECOND))
    await sink.close()
    assert counts == FakeSinkMetrics(samples_dropped={"closed": 3})


async def test_an_error_in_one_tick_does_not_stop_the_sink(receiver, monkeypatch):
    """The tick is counted and logged; the next one is sent."""
    compress = remote_write_sink.compress
    faults = [ValueError("oops")]

    def fail_once(data):
        if faults:
            raise faults.pop()
        return compress(data)

    monkeypatch.setattr(remote_write_sink, "compress", fail_once)
    async with open_sink(receiver.url) as (sink, counts, _):
        await sink.send(*make_tick())
        await sink.send(*make_tick(2.0, START + SECOND))
    assert counts == FakeSinkMetrics(samples_sent=1, samples_dropped={"fault": 1})


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "224.0.0.1", "::ffff:169.254.169.254",
     "100.100.100.200"],
)  # fmt: skip
def test_unsafe_addresses_are_refused(address):
    """Nothing is sent to link-local, multicast, unspecified or cloud metadata addresses."""
    with pytest.raises(RefusedAddressError, match="metadata"):
        refuse_unsafe_address("prom.example", address)


async def test_a_name_with_a_refused_address_gets_nothing():
    """A sink that points to a metadata address drops its samples without connecting."""
    async with open_sink("http://169.254.169.254/latest") as (sink, counts, clock):
        await sink.send(*make_tick())
        await counts.wait_until(lambda: counts.samples_dropped)
    assert counts == FakeSinkMetrics(samples_dropped={"not allowed": 1})
    assert clock.waits == []


async def test_every_address_of_a_name_is_tried(receiver, monkeypatch):
    """A receiver on only one address of a name is found; the name is resolved once."""
    requested = patch_dns(monkeypatch, "127.0.0.9", "127.0.0.1")
    async with open_sink(f"http://prom.test:{receiver.port}/") as (sink, counts, _):
        for number in range(3):
            await sink.send(*make_tick(float(number), START + number * SECOND))
        await receiver.wait_for_requests(3)
    assert counts.samples_sent == 3
    assert requested == ["prom.test"]
    assert receiver.requests[0][1]["host"] == f"prom.test:{receiver.port}"


@pytest.mark.parametrize("url", ["ftp://x/", "prom:9090", "http://", "http://u:p@prom/", "http://x:port/"])
def test_an_invalid_url_is_refused_at_startup(url):
    """An invalid writer URL is a settings error that does not show the password."""
    with pytest.raises(SettingsError, match=r"writer\.remote_write_url") as caught:
        RemoteWriteSink(Writer(remote_write_url=url), FakeSinkMetrics(), FakeClock())
    assert "u:p" not in str(caught.value)


def test_endpoints_are_parsed():
    """Default ports and IPv6 hosts are correct."""
    target = Endpoint.parse("x", "https://[::1]/write?a=b")
    assert target.url_at("::1") == "https://[::1]:443/write?a=b"
    assert target.host_header == "[::1]"
    assert Endpoint.parse("x", "http://prom:9090").url_at("10.0.0.1") == "http://10.0.0.1:9090/"
