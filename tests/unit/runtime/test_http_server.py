"""Listening: addresses, and what is said when one cannot be had."""

import socket

import httpx
import pytest
from fastapi import FastAPI, Request

from trimtab.engine.errors import SettingsError
from trimtab.engine.runtime.http_server import bind_socket, browser_url, make_server
from trimtab.engine.settings import Api


def test_a_free_port_is_found_and_named():
    """Port 0 takes a free port, and the URL names it."""
    settings = Api(port=0)
    with bind_socket(settings) as listening:
        assert browser_url(settings, listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("host", "wanted"), [("0.0.0.0", "http://127.0.0.1:"), ("localhost", "http://localhost:")]
)
def test_the_url_is_one_that_a_browser_here_can_open(host, wanted):
    """An address that stands for all becomes this machine's."""
    with bind_socket(Api(port=0)) as listening:
        assert browser_url(Api(host=host), listening).startswith(wanted)


def test_a_taken_port_says_what_to_do():
    """A port in use is a SettingsError that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} is in use.*--port"):
            bind_socket(Api(port=port))


def test_a_foreign_address_says_so():
    """An address of another machine cannot be listened on."""
    with pytest.raises(SettingsError, match=r"api.host: cannot listen on 192\.0\.2\.1"):
        bind_socket(Api(host="192.0.2.1", port=0))


async def client_address(settings: Api, peer: str, forwarded: str) -> str:
    """The address that the application sees, of a request of `peer` with this X-Forwarded-For."""
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
    # what the client wrote itself stands left of what the proxy added
    (PROXY, "127.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),
    # an address of the proxy itself, written by the client, hides nobody
    (PROXY, "::1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
    # two proxies of ours in a row
    (TRUSTED_PROXY, "10.1.1.1", "1.2.3.4, 203.0.113.9, 10.2.2.2", "203.0.113.9"),
    # who is no proxy of ours is believed nothing
    (PROXY, "203.0.113.9", "1.2.3.4", "203.0.113.9"),
    (TRUSTED_PROXY, "127.0.0.1", "1.2.3.4", "127.0.0.1"),
    # without a proxy in front nobody is
    (Api(), "127.0.0.1", "1.2.3.4", "127.0.0.1"),
]


@pytest.mark.parametrize(("settings", "peer", "forwarded", "wanted"), FORWARDED)
async def test_a_forged_forwarded_address_is_not_believed(settings, peer, forwarded, wanted):
    """Behind a proxy the client is the right-most address that is none of our proxies'."""
    assert await client_address(settings, peer, forwarded) == wanted


def test_a_proxy_is_an_address_or_a_network():
    """A name among the trusted proxies would never match, so it is refused."""
    with pytest.raises(ValueError, match=r"'proxy\.local' is no address or network; write 10"):
        Api(trusted_proxies=("proxy.local",))
