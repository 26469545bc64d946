"""Connections use the address that was checked and the host name that was configured."""

import asyncio
import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.builders.dns_names import patch_dns
from tests.servers.prometheus import make_certificates
from trimtab.engine.errors import SourceError
from trimtab.engine.net.addresses import PinnedHost, RefusedAddressError
from trimtab.engine.settings import Prometheus, Tls
from trimtab.engine.sources.prometheus.api_library import ApiLibrary
from trimtab.engine.sources.prometheus.live_client import LiveClient, PrometheusCredentials

ANSWER = {"status": "success", "data": {"resultType": "vector", "result": []}}
METADATA = "169.254.169.254"


@contextmanager
def serving(files=None):
    """An empty Prometheus on 127.0.0.1: yields its port and the received Host headers and TLS names."""
    hosts, names = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            hosts.append(self.headers["Host"])
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_):
            """Ignore clients that refuse the certificate."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        if files is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.server_cert, files.server_key)
            context.sni_callback = lambda _, name, __: names.append(name)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], hosts, names
        finally:
            server.shutdown()
            thread.join(5)


async def query_twice(settings: Prometheus) -> None:
    """Run one query with the live client and one with the library, over the same route."""
    client = LiveClient(settings, PrometheusCredentials(settings))
    try:
        await client.query("up")
        with ApiLibrary(settings, PrometheusCredentials(settings), 5.0, client.route) as library:
            await asyncio.to_thread(library.count_series, "up")
    finally:
        await client.close()


async def test_a_changed_dns_answer_is_ignored(monkeypatch):
    """After the check the name is not resolved again; it stays in the Host header."""
    with serving() as (port, hosts, _):
        settings = Prometheus(url=f"http://prom.test:{port}/")
        client = LiveClient(settings, PrometheusCredentials(settings))
        first = patch_dns(monkeypatch, "127.0.0.1")
        await client.query("up")
        later = patch_dns(monkeypatch, METADATA)
        await client.query("up")
        with ApiLibrary(settings, PrometheusCredentials(settings), 5.0, client.route) as library:
            assert await asyncio.to_thread(library.count_series, "up") == []
        await client.close()
    assert (first, later) == (["prom.test"], [])
    assert hosts == [f"prom.test:{port}"] * 3


async def test_one_refused_address_refuses_the_name(monkeypatch):
    """A name with one good and one metadata address is not connected to at all."""
    patch_dns(monkeypatch, "127.0.0.1", METADATA)
    with serving() as (port, hosts, _):
        with pytest.raises(SourceError, match=f"prom.test resolves to {METADATA}"):
            await query_twice(Prometheus(url=f"http://prom.test:{port}"))
        assert hosts == []


async def test_the_next_address_is_tried(monkeypatch):
    """The first reachable address is kept, for library and live client alike."""
    patch_dns(monkeypatch, "127.0.0.9", "127.0.0.1")
    with serving() as (port, hosts, _):
        settings = Prometheus(url=f"http://prom.test:{port}")
        await query_twice(settings)
        with ApiLibrary(settings, PrometheusCredentials(settings), 5.0) as library:
            assert await asyncio.to_thread(library.count_series, "up") == []
    assert len(hosts) == 3


async def test_tls_checks_the_host_name(monkeypatch, tmp_path):
    """The TLS server name is the host name, and a certificate for another name is refused."""
    files = make_certificates(tmp_path)
    patch_dns(monkeypatch, "127.0.0.1")
    with serving(files) as (port, _, names):
        tls = Tls(ca_file=files.ca)
        await query_twice(Prometheus(url=f"https://localhost:{port}", tls=tls))
        assert names == ["localhost", "localhost"]
        other = Prometheus(url=f"https://prom.test:{port}", tls=tls)
        with pytest.raises(SourceError, match="cannot reach"):
            await query_twice(other)
        with (
            ApiLibrary(other, PrometheusCredentials(other), 5.0) as library,
            pytest.raises(SourceError, match="cannot reach"),
        ):
            await asyncio.to_thread(library.count_series, "up")
        assert names[2:] == ["prom.test", "prom.test"]
        await query_twice(Prometheus(url=f"https://127.0.0.1:{port}", tls=tls))
        careless = Tls(insecure_skip_verify=True)
        await query_twice(Prometheus(url=f"https://prom.test:{port}", tls=careless))


def test_a_name_is_resolved_again_when_no_address_is_left(monkeypatch):
    """After every address has failed, the name is resolved and checked again."""
    pinned = PinnedHost("prom.test", 80)
    patch_dns(monkeypatch, "127.0.0.1", "127.0.0.2")
    assert pinned.resolve() == "127.0.0.1"
    assert pinned.discard("127.0.0.1")
    assert pinned.resolve() == "127.0.0.2"
    assert not pinned.discard("127.0.0.2")
    patch_dns(monkeypatch, METADATA)
    with pytest.raises(RefusedAddressError, match=METADATA):
        pinned.resolve()
