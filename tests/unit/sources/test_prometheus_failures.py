"""Failures between Trimtab and a Prometheus: unknown values, clear errors, no secrets."""

import asyncio
import logging
import os
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import SecretStr

from tests.builders.dns_names import patch_dns
from tests.fakes.fake_prometheus import FakePrometheus, run_scrapes
from tests.fakes.ports import FakeClock
from tests.servers.prometheus import free_port
from trimtab.engine.errors import SettingsError, SourceError
from trimtab.engine.settings import BasicAuth, Prometheus, Tls
from trimtab.engine.sources.prometheus import live_client
from trimtab.engine.sources.prometheus.live_client import (
    LiveClient,
    PrometheusCredentials,
    client_tls_context,
)
from trimtab.engine.sources.prometheus.local_prometheus import find_local_prometheus

WHOLE = '{"status":"success","data":{"resultType":"matrix","result":[]}}'


def answer_with(status=200, text=WHOLE, **headers):
    """A handler that always gives this answer."""
    return lambda request: httpx.Response(status, text=text, headers=headers, request=request)


def fail_with(kind):
    """A handler that always fails with this connection error."""

    def fail(request):
        raise kind("told by the network", request=request)

    return fail


@pytest.fixture
async def server():
    """A server with samples and an open source."""
    server = FakePrometheus(FakeClock())
    await run_scrapes(server)
    server.open = server.make_source()
    await server.open.open()
    yield server
    await server.open.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (fail_with(httpx.ConnectError), "cannot reach .* check that it runs"),  # connection refused
        (fail_with(httpx.ReadTimeout), "did not answer within 10 s"),
        (fail_with(httpx.RemoteProtocolError), "cannot reach"),  # closed in mid-answer
        (answer_with(500, "database is on fire"), "answers HTTP 500: database is on fire"),
        (answer_with(503, '{"status":"error","error":"query timed out"}'), "HTTP 503: query timed out"),
        (answer_with(422, '{"status":"error","error":"too many samples"}'), "HTTP 422: too many samples"),
        (answer_with(401), "denies access .HTTP 401.; check basic_auth"),
        (answer_with(403), "denies access"),
        (answer_with(404), "check the path in sources.prometheus.url"),
        (answer_with(302, "", location="https://elsewhere/login"), "redirects to 'https://elsewhere/login'"),
        (answer_with(text=WHOLE[:40]), "valid JSON"),  # cut off
        (answer_with(text="<html>login</html>"), "valid JSON.*is there a Prometheus"),
        (answer_with(text='{"status":"error","error":"no"}'), "no successful answer: 'no'"),
        (answer_with(text="[]"), "no successful answer"),
        (answer_with(text=WHOLE.replace("matrix", "vector")), "is not a matrix"),
        (answer_with(text=WHOLE[:-1] + ',"warnings":["store 2 is away"]}'), "unknown: store 2 is away"),
        (answer_with(text=WHOLE), "no fresh sample"),  # empty
    ],
)
async def test_an_incomplete_answer_is_an_error(server, answer, message):
    """Every incomplete answer raises SourceError that names the server and the remedy."""
    server.fixed_answer = answer
    with pytest.raises(SourceError, match=message) as caught:
        await server.open.read()
    assert "http://localhost:9090/prefix" in str(caught.value)


async def test_old_samples_are_not_reported_as_new(server):
    """After a failure the next complete answer is read with the times of its own samples."""
    server.fixed_answer = answer_with(500)
    with pytest.raises(SourceError):
        await server.open.read()
    server.fixed_answer = None
    server.clock.tick(5)
    reading = await server.open.read()
    assert set((reading.time - reading.times) / 1e9) == {5.0}


async def test_one_total_deadline(monkeypatch):
    """A server that sends one byte at a time is cut off at the total deadline."""
    server = FakePrometheus(FakeClock())
    await run_scrapes(server)
    source = server.make_source(timeout=0.05)
    await source.open()

    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                yield b" "
                await asyncio.sleep(0)

    server.fixed_answer = lambda request: httpx.Response(200, stream=Dripping(), request=request)
    monkeypatch.setattr(live_client, "MAX_BODY_BYTES", 2**40)
    with pytest.raises(SourceError, match=r"gave no complete answer within 0\.05 s"):
        await source.read()


async def test_a_huge_answer_is_cut_off(server, monkeypatch):
    """An answer above the limit after decompression is not read to its end."""
    monkeypatch.setattr(live_client, "MAX_BODY_BYTES", 1000)
    server.fixed_answer = answer_with(text=WHOLE + " " * 2000)
    with pytest.raises(SourceError, match=r"narrow sources\.prometheus\.selector"):
        await server.open.read()


async def sent_request(settings):
    """Return the request that a client with these settings sends."""
    requests = []

    def keep(request):
        requests.append(request)
        return httpx.Response(200, text=WHOLE)

    client = LiveClient(settings, PrometheusCredentials(settings), httpx.MockTransport(keep))
    await client.query("up")
    await client.close()
    return requests[0]


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (
            {"basic_auth": BasicAuth(username="joe", password=SecretStr("pw"))},
            "authorization",
            "Basic am9lOnB3",
        ),
        ({"bearer_token": SecretStr("abc")}, "authorization", "Bearer abc"),
        ({"headers": {"X-Scope-OrgID": SecretStr("team-a")}}, "x-scope-orgid", "team-a"),
        ({"url": "http://localhost:9090"}, "host", "localhost:9090"),
    ],
)
async def test_authentication_headers(settings, name, value):
    """Basic, bearer and tenant headers are sent with each request."""
    assert (await sent_request(Prometheus(**settings))).headers[name] == value


async def test_headers_from_files(tmp_path):
    """A header's value can come from a file, which is read again when it changes."""
    file = tmp_path / "tenant"
    settings = Prometheus(headers={"X-A": SecretStr("a")}, headers_file={"X-Scope-OrgID": file})
    credentials = PrometheusCredentials(settings)
    for value in ("team-a", "team-bcd"):
        file.write_text(value + "\n")
        assert credentials.headers() == {"X-A": "a", "X-Scope-OrgID": value}
    file.unlink()
    with pytest.raises(SourceError, match=r"headers_file\.X-Scope-OrgID: cannot read"):
        credentials.headers()


async def test_path_prefix_and_form():
    """A path prefix is kept, and the expression is sent in the body."""
    request = await sent_request(Prometheus(url="https://127.0.0.1/tenant/prometheus/"))
    assert (request.method, str(request.url)) == ("POST", "https://127.0.0.1/tenant/prometheus/api/v1/query")
    assert request.content == b"query=up"


def test_a_secret_file_is_read_again_when_it_changes(tmp_path):
    """A rotated token or password is used without a restart; a missing file is named."""
    file = tmp_path / "token"
    file.write_text("one\n")
    credentials = PrometheusCredentials(Prometheus(bearer_token_file=file))
    assert credentials.headers()["Authorization"] == "Bearer one"
    file.write_text("two\n")
    os.utime(file, ns=(1, 1))
    assert credentials.headers()["Authorization"] == "Bearer two"
    file.unlink()
    with pytest.raises(SourceError, match="bearer_token_file: cannot read"):
        credentials.headers()


async def test_secrets_are_never_shown(server, caplog, capsys):
    """No error, log line or repr contains a secret."""
    secret = "s3cr3t-value"
    source = server.make_source(
        basic_auth=BasicAuth(username="joe", password=SecretStr(secret)),
        headers={"X-Scope-OrgID": SecretStr(secret)},
    )
    server.fixed_answer = answer_with(401, f"bad password Bearer {secret}")
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError) as caught:
        await source.open()
    server.fixed_answer = answer_with(500, f"Authorization: Basic {secret}")
    with pytest.raises(SourceError) as second:
        await source.read()
    output = f"{caught.value!r} {second.value!r} {source!r} {source._credentials!r} {source.detail()}"
    assert secret not in output + caplog.text + "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host", "write http://host:9090"),
        ("localhost:9090", "write http://host:9090"),
        ("http://joe:hunter2@host", "into sources.prometheus.basic_auth"),
    ],
)
def test_invalid_addresses_are_refused(url, message):
    """A URL of another scheme, or with a password, is refused without showing the password."""
    with pytest.raises(SettingsError, match=message) as caught:
        LiveClient(Prometheus(url=url), PrometheusCredentials(Prometheus()))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "168.63.129.16"]
)
async def test_metadata_addresses_are_refused(host, monkeypatch):
    """Link-local and cloud metadata addresses are refused before anything is sent."""
    patch_dns(monkeypatch, host.strip("[]"))
    for name in (host, "prom.example"):
        client = LiveClient(Prometheus(url=f"http://{name}"), PrometheusCredentials(Prometheus()))
        with pytest.raises(SourceError, match="link-local or metadata"):
            await client.query("up")


async def test_an_unknown_host_is_named(monkeypatch):
    """The error for a host without an address names the configured URL."""
    patch_dns(monkeypatch)
    client = LiveClient(Prometheus(url="http://prom.example"), PrometheusCredentials(Prometheus()))
    with pytest.raises(SourceError, match=r"cannot find the host of http://prom\.example"):
        await client.query("up")


def test_invalid_tls_files(tmp_path):
    """A missing or invalid CA file is a settings error that names the setting."""
    with pytest.raises(SettingsError, match="ca_file, cert_file and key_file"):
        client_tls_context(Prometheus(url="https://x", tls=Tls(ca_file=tmp_path / "none.pem")))
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"sources\.prometheus\.tls"):
        client_tls_context(Prometheus(url="https://x", tls=Tls(ca_file=tmp_path / "bad.pem")))


@asynccontextmanager
async def serve_text(text):
    """A server on loopback that sends this text to each client; None = nothing."""
    ended = asyncio.Event()

    async def answer(reader, writer):
        await (reader.read() if text is None else reader.readline())
        writer.write((text or "").encode())
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await ended.wait()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('HTTP/1.1 200 OK\r\n\r\n{"status":"success","data":{"version":"2.42.0"}}', True),
        ("HTTP/1.1 200 OK\r\n\r\n<html>a wiki</html>", False),
        ('HTTP/1.1 404 Not Found\r\n\r\n{"status":"success","data":{"version":"1"}}', False),
        ('HTTP/1.1 200 OK\r\n\r\n{"status":"success","data":[]}', False),
        ("", False),
    ],
)
async def test_only_a_prometheus_is_found(text, found):
    """Only a server that reports a version on its build page is a Prometheus."""
    async with serve_text(text) as url:
        assert (await find_local_prometheus(url) is not None) == found


async def test_a_closed_port():
    """On a closed port nothing is found, at once."""
    assert await find_local_prometheus(f"http://127.0.0.1:{free_port()}") is None


async def test_a_silent_server_times_out():
    """A server that never answers takes no longer than the timeout."""
    async with serve_text(None) as url:
        assert await find_local_prometheus(url, timeout_s=0.05) is None
