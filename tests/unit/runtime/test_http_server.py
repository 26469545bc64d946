"""Listening sockets, their errors, and client addresses behind proxies."""

import socket

import httpx
import pytest
from fastapi import FastAPI, Request

from trimtab.engine.errors import SettingsError
from trimtab.engine.runtime.http_server import bind_socket, browser_url, make_server
from trimtab.engine.settings import Api


def test_a_free_port_is_found_and_named():
    """Port 0 selects a free port, and the URL contains it."""
    settings = Api(port=0)
    with bind_socket(settings) as listening:
        assert browser_url(settings, listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("host", "wanted"), [("0.0.0.0", "http://127.0.0.1:"), ("localhost", "http://localhost:")]
)
def test_the_url_works_in_a_browser_on_this_machine(host, wanted):
    """The wildcard address becomes the loopback address in the URL."""
    with bind_socket(Api(port=0)) as listening:
        assert browser_url(Api(host=host), listening).startswith(wanted)


def test_a_port_in_use_is_a_settings_error():
    """A port in use raises a SettingsError that names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} is in use.*--port"):
            bind_socket(Api(port=port))


def test_an_address_of_another_machine_is_a_settings_error():
    """An address of another machine raises a SettingsError."""
    with pytest.raises(SettingsError, match=r"api.host: cannot listen on 192\.0\.2\.1"):
        bind_socket(Api(host="192.0.2.1", port=0))


async def client_address(settings: Api, peer: str, forwarded: str) -> str:
    """Return the client address the application sees for a request of `peer` with this X-Forwarded-For."""
    app = FastAPI()

    @app.get("/")
    async def who(request: Request) -> str:
        return request.client.host

    config = make_server(app, settings).config
    config.load()
    transport = httpx.ASGITransport(config.loaded_app, client=(peer, 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return (await client.get("/", headers={"X-Forwarded-For": forwarded})).json()


PROXY = Api(behind_proxy=True)
TRUSTED_PROXY = Api(behind_proxy=True, trusted_proxies=("10.0.0.0/8",))
FORWARDED = [
    # addresses written by the client are left of the one the proxy added
    (PROXY, "127.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),
    # the proxy's own address, written by the client, does not hide the client
    (PROXY, "::1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
    # two trusted proxies in a row
    (TRUSTED_PROXY, "10.1.1.1", "1.2.3.4, 203.0.113.9, 10.2.2.2", "203.0.113.9"),
    # headers of an untrusted peer are ignored
    (PROXY, "203.0.113.9", "1.2.3.4", "203.0.113.9"),
    (TRUSTED_PROXY, "127.0.0.1", "1.2.3.4", "127.0.0.1"),
    # without a proxy the headers are ignored
    (Api(), "127.0.0.1", "1.2.3.4", "127.0.0.1"),
]


@pytest.mark.parametrize(("settings", "peer", "forwarded", "wanted"), FORWARDED)
async def test_a_forged_forwarded_address_is_ignored(settings, peer, forwarded, wanted):
    """Behind a proxy the client is the right-most address that is not a trusted proxy."""
    assert await client_address(settings, peer, forwarded) == wanted


def test_a_proxy_is_an_address_or_a_network():
    """A host name among the trusted proxies is refused, because it would never match."""
    with pytest.raises(ValueError, match=r"'proxy\.local' is not an address or network; write 10"):
        Api(trusted_proxies=("proxy.local",))
