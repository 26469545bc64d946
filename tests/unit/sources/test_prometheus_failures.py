"""Everything that can go wrong between us and a Prometheus: unknown, told clearly, without a secret."""

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


def answers(status=200, text=WHOLE, **headers):
    """Always this answer."""
    return lambda request: httpx.Response(status, text=text, headers=headers, request=request)


def fails(kind):
    """Always this failure of the connection."""

    def fail(request):
        raise kind("told by the network", request=request)

    return fail


@pytest.fixture
async def server():
    """A server with samples, and a source of it that is open."""
    server = FakePrometheus(FakeClock())
    await run_scrapes(server)
    server.open = server.make_source()
    await server.open.open()
    yield server
    await server.open.close()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (fails(httpx.ConnectError), "cannot reach .* check that it runs"),  # nobody listens
        (fails(httpx.ReadTimeout), "did not answer within 10 s"),
        (fails(httpx.RemoteProtocolError), "cannot reach"),  # it ended in mid-answer
        (answers(500, "database is on fire"), "answers HTTP 500: database is on fire"),
        (answers(503, '{"status":"error","error":"query timed out"}'), "HTTP 503: query timed out"),
        (answers(422, '{"status":"error","error":"too many samples"}'), "HTTP 422: too many samples"),
        (answers(401), "denies access .HTTP 401.; check basic_auth"),
        (answers(403), "denies access"),
        (answers(404), "check the path in sources.prometheus.url"),
        (answers(302, "", location="https://elsewhere/login"), "redirects to 'https://elsewhere/login'"),
        (answers(text=WHOLE[:40]), "valid JSON"),  # cut off
        (answers(text="<html>login</html>"), "valid JSON.*is there a Prometheus"),
        (answers(text='{"status":"error","error":"no"}'), "no successful answer: 'no'"),
        (answers(text="[]"), "no successful answer"),
        (answers(text=WHOLE.replace("matrix", "vector")), "is not a matrix"),
        (answers(text=WHOLE[:-1] + ',"warnings":["store 2 is away"]}'), "unknown: store 2 is away"),
        (answers(text=WHOLE), "no fresh sample"),  # empty
    ],
)
async def test_an_answer_that_is_not_whole_is_unknown(server, answer, told):
    """Whatever is not a whole answer raises SourceError that names the server and what to do."""
    server.fixed_answer = answer
    with pytest.raises(SourceError, match=told) as caught:
        await server.open.read()
    assert "http://localhost:9090/prefix" in str(caught.value)


async def test_nothing_old_is_shown_as_new(server):
    """After a failure the next whole answer is read as it is, with the times of its own samples."""
    server.fixed_answer = answers(500)
    with pytest.raises(SourceError):
        await server.open.read()
    server.fixed_answer = None
    server.clock.tick(5)
    reading = await server.open.read()
    assert set((reading.time - reading.times) / 1e9) == {5.0}


async def test_one_total_deadline(monkeypatch):
    """A server that sends forever, a byte at a time, unreachable when the time for a read is over."""
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
    """An answer over the limit, after unpacking, is not read to its end."""
    monkeypatch.setattr(live_client, "MAX_BODY_BYTES", 1000)
    server.fixed_answer = answers(text=WHOLE + " " * 2000)
    with pytest.raises(SourceError, match=r"narrow sources\.prometheus\.selector"):
        await server.open.read()


async def headers_of(settings):
    """The request that a client with these settings sends."""
    seen = []

    def keep(request):
        seen.append(request)
        return httpx.Response(200, text=WHOLE)

    client = LiveClient(settings, PrometheusCredentials(settings), httpx.MockTransport(keep))
    await client.query("up")
    await client.close()
    return seen[0]


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
async def test_who_we_are(settings, name, value):
    """Basic, bearer and tenant headers go out with each request."""
    assert (await headers_of(Prometheus(**settings))).headers[name] == value


async def test_headers_from_files(tmp_path):
    """A header's value can stand in a file, and is taken anew when that changes."""
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
    """A path prefix is kept, and the expression goes in the body, where it may be long."""
    request = await headers_of(Prometheus(url="https://127.0.0.1/tenant/prometheus/"))
    assert (request.method, str(request.url)) == ("POST", "https://127.0.0.1/tenant/prometheus/api/v1/query")
    assert request.content == b"query=up"


def test_a_secret_file_is_read_again_when_it_changes(tmp_path):
    """A rotated token or password is taken up without a restart; a file that is gone is told by its name."""
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
    """No secret stands in an error, a log line or a repr."""
    secret = "s3cr3t-value"
    source = server.make_source(
        basic_auth=BasicAuth(username="joe", password=SecretStr(secret)),
        headers={"X-Scope-OrgID": SecretStr(secret)},
    )
    server.fixed_answer = answers(401, f"bad password Bearer {secret}")
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError) as caught:
        await source.open()
    server.fixed_answer = answers(500, f"Authorization: Basic {secret}")
    with pytest.raises(SourceError) as again:
        await source.read()
    shown = f"{caught.value!r} {again.value!r} {source!r} {source._credentials!r} {source.detail()}"
    assert secret not in shown + caplog.text + "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://host", "write http://host:9090"),
        ("localhost:9090", "write http://host:9090"),
        ("http://joe:hunter2@host", "into sources.prometheus.basic_auth"),
    ],
)
def test_addresses_that_are_refused(url, told):
    """An address of another kind, or with a password in it, is refused without showing the password."""
    with pytest.raises(SettingsError, match=told) as caught:
        LiveClient(Prometheus(url=url), PrometheusCredentials(Prometheus()))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "168.63.129.16"]
)
async def test_metadata_addresses_are_refused(host, monkeypatch):
    """Link-local and cloud metadata addresses are refused before anything is sent."""
    patch_dns(monkeypatch, host.strip("[]"))
    for where in (host, "prom.example"):
        client = LiveClient(Prometheus(url=f"http://{where}"), PrometheusCredentials(Prometheus()))
        with pytest.raises(SourceError, match="link-local or metadata"):
            await client.query("up")


async def test_a_host_that_is_not_known(monkeypatch):
    """A host without an address is told by the address that was written."""
    patch_dns(monkeypatch)
    client = LiveClient(Prometheus(url="http://prom.example"), PrometheusCredentials(Prometheus()))
    with pytest.raises(SourceError, match=r"cannot find the host of http://prom\.example"):
        await client.query("up")


def test_tls_files_that_do_not_fit(tmp_path):
    """A CA file that is missing or no PEM is a settings error that names the settings."""
    with pytest.raises(SettingsError, match="ca_file, cert_file and key_file"):
        client_tls_context(Prometheus(url="https://x", tls=Tls(ca_file=tmp_path / "none.pem")))
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"sources\.prometheus\.tls"):
        client_tls_context(Prometheus(url="https://x", tls=Tls(ca_file=tmp_path / "bad.pem")))


@asynccontextmanager
async def serving(text):
    """A server on loopback that sends this text to whoever asks, or nothing at all where it is None."""
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
    """What tells a version on its build page is a Prometheus, whatever else listens there is none."""
    async with serving(text) as url:
        assert (await find_local_prometheus(url) is not None) == found


async def test_nobody_on_the_port():
    """Where nobody listens nothing is found, at once."""
    assert await find_local_prometheus(f"http://127.0.0.1:{free_port()}") is None


async def test_a_silent_server_is_not_waited_for():
    """A server that accepts and says nothing costs no more than the time that was set."""
    async with serving(None) as url:
        assert await find_local_prometheus(url, timeout_s=0.05) is None
