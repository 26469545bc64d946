"""Listening: addresses, and what is said when one cannot be had."""

import socket

import pytest

from trimtab.engine.errors import SettingsError
from trimtab.engine.running.http_server import bind, url_of
from trimtab.engine.settings import Api


def test_a_free_port_is_found_and_named():
    """Port 0 takes a free port, and the URL names it."""
    settings = Api(port=0)
    with bind(settings) as listening:
        assert url_of(settings, listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("host", "wanted"), [("0.0.0.0", "http://127.0.0.1:"), ("localhost", "http://localhost:")]
)
def test_the_url_is_one_that_a_browser_here_can_open(host, wanted):
    """An address that stands for all becomes this machine's."""
    with bind(Api(port=0)) as listening:
        assert url_of(Api(host=host), listening).startswith(wanted)


def test_a_taken_port_says_what_to_do():
    """A port in use is a SettingsError that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} is in use.*--port"):
            bind(Api(port=port))


def test_a_foreign_address_says_so():
    """An address of another machine cannot be listened on."""
    with pytest.raises(SettingsError, match=r"api.host: cannot listen on 192\.0\.2\.1"):
        bind(Api(host="192.0.2.1", port=0))
