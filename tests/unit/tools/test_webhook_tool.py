"""Webhook tool: actions that are signed POSTs."""

import base64
import hashlib
import hmac
import json

import pytest
from pydantic import SecretStr, ValidationError

from tests.builders.dns_names import patch_dns
from tests.servers.http import http_response, start_raw_server
from tests.servers.prometheus import free_port
from trimtab.engine.errors import NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.settings.service_tools import WebhookAction, WebhookTool
from trimtab.engine.tools import webhook_tool
from trimtab.engine.tools.webhook_tool import Webhook
from trimtab.engine.types import Risk, ToolAction, ToolState

SECRET = "a-secret-of-24-characters-or-more"
NOW_S = 1_700_000_000
ACTIONS = {"scale_up": WebhookAction(help="One replica more.", risk=Risk.LOW, idempotent=True)}


def make_tool(url, **settings):
    """A tool for a receiver, at a fixed time."""
    options = {"secret": SecretStr(SECRET), "targets": ("web", "api"), **settings}
    return Webhook(
        "ops", WebhookTool(kind="webhook", url=url, actions=ACTIONS, **options), lambda: NOW_S * 10**9
    )


def parse_request(request):
    """Return first line, headers and body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    return line, {name.lower(): value for name, _, value in (h.partition(": ") for h in rest)}, body


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        (SECRET, SECRET.encode()),
        ("whsec_" + base64.b64encode(b"b" * 24).decode(), b"b" * 24),
    ],
)
async def test_requests_are_signed(secret, key):
    """The receiver gets the action and can verify signature and time."""
    async with start_raw_server(http_response(202, b"on it")) as server:
        tool = make_tool(f"{server.url}/hooks/trimtab?team=a", secret=SecretStr(secret))
        assert await tool.run("web", "scale_up", "key-1") == "accepted (HTTP 202) on it"
        await tool.close()
    line, headers, body = parse_request(server.requests[0])
    assert line == "POST /hooks/trimtab?team=a HTTP/1.1"
    assert json.loads(body) == {"tool": "ops", "target": "web", "action": "scale_up", "key": "key-1"}
    assert (headers["webhook-id"], headers["idempotency-key"]) == ("key-1", "key-1")
    assert headers["webhook-timestamp"] == str(NOW_S)
    signature = hmac.new(key, f"key-1.{NOW_S}.".encode() + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(signature).decode()
    assert SECRET not in server.requests[0].decode()


@pytest.mark.parametrize(
    ("answer", "drip_s", "error", "message"),
    [
        (None, 0, ToolUncertainError, "within 0.2 s; .*not sent again"),
        (http_response(200, b"0123456789"), 0.05, ToolUncertainError, "within 0.2 s"),
        (b"", 0, ToolUncertainError, "gave no complete answer"),
        (http_response(200, b"ok", content_length="9"), 0, ToolUncertainError, "gave no complete answer"),
        (http_response(503, b"later"), 0, ToolUncertainError, "HTTP 503: later"),
        (http_response(301, location="http://169.254.169.254/"), 0, ToolError, "redirects to"),
        (http_response(401), 0, ToolError, "denies access"),
        (http_response(404), 0, ToolError, "HTTP 404"),
        (http_response(409), 0, ToolError, "HTTP 409"),
    ],
)
async def test_a_lost_answer_is_uncertain(monkeypatch, answer, drip_s, error, message):
    """A lost answer is uncertain, and the request was sent once."""
    monkeypatch.setattr(webhook_tool, "REQUEST_TIMEOUT_S", 0.2)
    async with start_raw_server(answer, drip_s) as server:
        tool = make_tool(server.url)
        with pytest.raises(error, match=message) as caught:
            await tool.run("web", "scale_up", "key-1")
        assert isinstance(caught.value, ToolUncertainError) == (error is ToolUncertainError)
        assert len(server.requests) == 1
        await tool.close()


async def test_an_unsent_request_is_a_certain_error(tmp_path):
    """A refused connection, a missing secret file and a short secret are certain errors."""
    url = f"http://127.0.0.1:{free_port()}"
    for settings, message in (
        ({}, "connect"),
        ({"secret": None, "secret_file": tmp_path / "none"}, "secret_file cannot be read"),
        ({"secret": SecretStr("short")}, "has 5 usable bytes; at least 24"),
        ({"secret": SecretStr("whsec_no base64!")}, "has 0 usable bytes"),
    ):
        tool = make_tool(url, **settings)
        with pytest.raises(ToolError, match=message) as caught:
            await tool.run("web", "scale_up", "key-1")
        assert not isinstance(caught.value, ToolUncertainError)
        assert (await tool.status()).state is ToolState.UNREACHABLE
        await tool.close()


async def test_status_sends_no_request():
    """The status only checks that the receiver accepts connections."""
    async with start_raw_server(http_response(200)) as server:
        tool = make_tool(server.url)
        status = await tool.status()
        assert (status.state, server.requests) == (ToolState.UP, [])
        assert status.detail.endswith("accepts connections; no request was sent")


async def test_metadata_addresses_are_refused(monkeypatch):
    """A name that resolves to a metadata address is not connected to."""
    patch_dns(monkeypatch, "169.254.169.254")
    tool = make_tool("http://hooks.example")
    assert (await tool.status()).state is ToolState.UNREACHABLE
    with pytest.raises(ToolError, match="refused"):
        await tool.run("web", "scale_up", "key-1")


async def test_only_declared_actions_are_run():
    """The actions are those of the settings; there are no knobs and no metrics."""
    tool = make_tool("http://127.0.0.1:1")
    assert await tool.actions("web") == (ToolAction("scale_up", "One replica more.", Risk.LOW, False, True),)
    assert (await tool.knobs("web"), await tool.metrics("web")) == ((), {})
    with pytest.raises(NotFoundError, match="no action 'scale_down'"):
        await tool.run("web", "scale_down", "k")
    with pytest.raises(RefusedError, match="'db' is not one of"):
        await tool.run("db", "scale_up", "k")
    for call in (tool.read("web", "size"), tool.apply("web", "size", 1, 2)):
        with pytest.raises(NotFoundError, match="no knob 'size'"):
            await call
    with pytest.raises(NotFoundError, match="no target 'db'"):
        await tool.actions("db")
    output = tool.command("web", "scale_up", None) + tool.grant()
    assert '"action":"scale_up"' in output
    assert SECRET not in output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actions": {}}, "at least 1"),
        ({"secret": None}, "set either secret or secret_file"),
        ({"actions": {"Scale Up": {"help": "x"}}}, "lower-case letters"),
    ],
)
def test_invalid_settings(settings, message):
    """Settings without a secret, without actions or with invalid names are refused."""
    options = {"url": "http://h", "secret": SECRET, "actions": ACTIONS, **settings}
    with pytest.raises(ValidationError, match=message):
        WebhookTool(kind="webhook", **options)
