"""Alertmanager and webhook channels."""

import base64
import hashlib
import hmac
import json
import ssl
import time
from contextlib import asynccontextmanager

import pytest
import structlog

from tests.builders.dns_names import patch_dns
from tests.builders.series import SECOND, START
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_notifications import MINUTE, make_notice, make_resolved_notice, make_worse_notice
from tests.servers.http import http_response, start_raw_server
from tests.servers.prometheus import free_port, make_certificates
from trimtab.engine.errors import NotDeliveredError
from trimtab.engine.notifications.channels.alertmanager_channel import AlertmanagerChannel
from trimtab.engine.notifications.channels.webhook_channel import WebhookChannel
from trimtab.engine.settings import BasicAuth, Tls
from trimtab.engine.settings.notify import NotifyAlertmanager, NotifyWebhook
from trimtab.engine.types import Severity

SECRET = "a-secret-of-24-characters-or-more"
TOKEN = "a-token-that-nobody-may-see"
NOW = START + 10 * MINUTE
URL = "https://trimtab.shop.example"
FINGERPRINT = f"{1:016x}"


def make_alertmanager_channel(url, now=NOW, **settings):
    """A channel to this Alertmanager with a fixed time."""
    return AlertmanagerChannel(NotifyAlertmanager(url=url, **settings), lambda: now, URL)


def make_webhook_channel(url, **settings):
    """A channel to this webhook receiver with a fixed time."""
    return WebhookChannel(NotifyWebhook(url=url, **settings), lambda: NOW, URL)


BOTH_CHANNELS = pytest.mark.parametrize("make_channel", [make_alertmanager_channel, make_webhook_channel])


def split_request(request):
    """(first line, headers, JSON body) of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    return (
        line,
        {name.lower(): value for name, _, value in (h.partition(": ") for h in rest)},
        json.loads(body),
    )


@asynccontextmanager
async def open_channel(make_channel, **settings):
    """Yield a function that sends a notification to an accepting server and returns the request."""
    requests = []
    async with start_raw_server(http_response(200, b"ok")) as server:
        notifier = make_channel(server.url, **settings)

        async def send(*arguments):
            await notifier.notify(*arguments)
            requests.append(split_request(server.requests[-1]))
            return requests[-1]

        yield send
        await notifier.close()


async def test_an_incident_is_an_alert():
    """Labels identify the alert, annotations describe it, and it has an end time."""
    async with open_channel(make_alertmanager_channel) as send:
        line, headers, (alert,) = await send(make_notice())
    assert line == "POST /api/v2/alerts HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert alert["labels"] == {
        "alertname": "TrimtabIncident", "severity": "high", "entity": "redis/cache-1",
        "incident": ulid(1), "fingerprint": FINGERPRINT,
    }  # fmt: skip
    assert alert["startsAt"] == "2026-01-01T00:00:00.000Z"
    assert alert["endsAt"] == "2026-01-01T00:14:00.000Z"
    assert alert["annotations"]["summary"] == "cache-1: evictions far above usual"
    assert "It moved first." in alert["annotations"]["suspects"]
    assert alert["annotations"]["link"] == alert["generatorURL"] == f"{URL}/#/incidents/{ulid(1)}"
    assert all(alert["annotations"].values())


async def test_an_alert_keeps_its_labels():
    """The main entity may change, but the alert keeps its labels; its end time is in the past."""
    first, last = make_notice(), make_resolved_notice(entities=("web/1",), suspects=(), level=Severity.LOW)
    async with open_channel(make_alertmanager_channel) as send:
        _, _, (fired,) = await send(first)
        _, _, (ended,) = await send(last, (first,))
    assert ended["labels"] == fired["labels"]
    assert ended["endsAt"] == "2026-01-01T00:01:00.000Z"


async def test_a_worse_alert_replaces_the_milder_one():
    """The severity is a label, so a worse alert resolves the milder one; the end resolves both."""
    first, second, last = make_notice(), make_worse_notice(), make_resolved_notice()
    async with open_channel(make_alertmanager_channel) as send:
        _, _, alerts = await send(second, (first,))
        _, _, at_end = await send(last, (first, second))
    ends = {alert["labels"]["severity"]: alert["endsAt"] for alert in alerts}
    assert ends == {"critical": "2026-01-01T00:14:00.000Z", "high": "2026-01-01T00:10:00.000Z"}
    assert [alert["labels"]["severity"] for alert in at_end] == ["critical", "high"]
    assert {alert["endsAt"] for alert in at_end} == {"2026-01-01T00:01:00.000Z"}


async def test_alert_times_are_not_in_the_future():
    """An incident ahead of the clock starts now, and its end is not in the future."""
    ahead = START - MINUTE
    async with start_raw_server(http_response(200)) as server:
        notifier = make_alertmanager_channel(server.url, now=ahead)
        await notifier.notify(make_resolved_notice(), (make_notice(),))
        await notifier.close()
    _, _, (alert,) = split_request(server.requests[0])
    assert alert["startsAt"] == alert["endsAt"] == "2025-12-31T23:59:00.000Z"


async def test_a_webhook_has_alertmanagers_format():
    """Every field of Alertmanager's webhook, version 4, is present."""
    async with open_channel(make_webhook_channel) as send:
        line, headers, body = await send(make_notice())
        _, again, _ = await send(make_notice())
        _, ended, resolved = await send(make_resolved_notice(), (make_notice(),))
    assert line == "POST / HTTP/1.1"
    assert "webhook-signature" not in headers
    assert body["version"] == "4"
    assert body["status"] == "firing"
    assert (body["receiver"], body["truncatedAlerts"], body["externalURL"]) == ("trimtab", 0, URL)
    assert body["groupLabels"] == {"alertname": "TrimtabIncident", "fingerprint": FINGERPRINT}
    (alert,) = body["alerts"]
    assert body["commonLabels"] == alert["labels"]
    assert body["commonAnnotations"] == alert["annotations"]
    assert (alert["status"], alert["endsAt"], alert["fingerprint"]) == (
        "firing",
        "0001-01-01T00:00:00Z",
        FINGERPRINT,
    )
    assert resolved["status"] == resolved["alerts"][0]["status"] == "resolved"
    assert resolved["alerts"][0]["endsAt"] == "2026-01-01T00:01:00.000Z"
    assert resolved["groupKey"] == body["groupKey"]
    assert headers["webhook-id"] == again["webhook-id"] != ended["webhook-id"]


@pytest.mark.parametrize(
    ("written", "key"),
    [(SECRET, SECRET.encode()), ("whsec_" + base64.b64encode(b"b" * 24).decode(), b"b" * 24)],
)
async def test_a_webhook_is_signed(written, key, tmp_path):
    """The receiver can verify origin and age with the shared secret; the secret is not sent."""
    (tmp_path / "secret").write_text(written + "\n")
    async with start_raw_server(http_response(204)) as server:
        notifier = make_webhook_channel(server.url + "/hook?team=a", secret_file=tmp_path / "secret")
        await notifier.notify(make_notice())
        await notifier.close()
    line, headers, _ = split_request(server.requests[0])
    body = server.requests[0].partition(b"\r\n\r\n")[2]
    assert line == "POST /hook?team=a HTTP/1.1"
    assert headers["webhook-timestamp"] == str(NOW // SECOND)
    signed = f"{headers['webhook-id']}.{NOW // SECOND}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert written.encode() not in server.requests[0]


@pytest.mark.parametrize("content", [None, "short", "whsec_not base64!"])
async def test_without_its_secret_nothing_is_sent(tmp_path, content):
    """A missing file or an unusable secret is an error; no unsigned notification is sent."""
    if content is not None:
        (tmp_path / "secret").write_text(content)
    async with start_raw_server(http_response(204)) as server:
        notifier = make_webhook_channel(server.url, secret_file=tmp_path / "secret")
        with pytest.raises(NotDeliveredError, match=r"notify\.webhook\.secret") as error:
            await notifier.notify(make_notice())
    assert server.requests == []
    assert content is None or content not in str(error.value)


@BOTH_CHANNELS
@pytest.mark.parametrize(
    ("answer", "reason", "retry", "words"),
    [
        (http_response(500, b"disk full"), "busy", True, "HTTP 500: disk full"),
        (http_response(429, b"", retry_after="7"), "busy", True, "HTTP 429"),
        (http_response(401), "refused", True, "HTTP 401"),
        (http_response(400, b"bad label"), "refused", False, "HTTP 400: bad label"),
        (
            http_response(302, b"", location="http://169.254.169.254/"),
            "redirected",
            False,
            "redirects are not followed",
        ),
        (b"", "unreachable", True, "cannot be reached"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "unreachable", True, "cannot be reached"),
    ],
)
async def test_a_refused_notification_is_explained(make_channel, answer, reason, retry, words):
    """The error has the reason and whether to retry."""
    async with start_raw_server(answer) as server:
        notifier = make_channel(server.url)
        with pytest.raises(NotDeliveredError) as error:
            await notifier.notify(make_notice())
        await notifier.close()
    assert (error.value.reason, error.value.retry) == (reason, retry)
    assert words in str(error.value)
    assert error.value.after_s == (7.0 if b"429" in answer else 0.0)
    assert len(server.requests) == 1


@BOTH_CHANNELS
@pytest.mark.parametrize(("answer", "drip_s"), [(None, 0.0), (http_response(200, b"x" * 10_000), 0.02)])
async def test_the_timeout_covers_the_whole_exchange(make_channel, answer, drip_s):
    """The timeout is total, no matter how the bytes arrive."""
    async with start_raw_server(answer, drip_s) as server:
        notifier, begin = make_channel(server.url, timeout=0.3), time.monotonic()
        with pytest.raises(NotDeliveredError, match=r"within 0\.3 s"):
            await notifier.notify(make_notice())
        await notifier.close()
    assert time.monotonic() - begin < 3


@BOTH_CHANNELS
async def test_a_closed_port_is_retried(make_channel):
    """A refused connection may be retried."""
    with pytest.raises(NotDeliveredError, match="cannot be reached") as error:
        await make_channel(f"http://127.0.0.1:{free_port()}").notify(make_notice())
    assert error.value.retry


@BOTH_CHANNELS
async def test_nothing_goes_to_a_refused_address(make_channel, monkeypatch):
    """A name that resolves to a metadata service is not connected to."""
    patch_dns(monkeypatch, "169.254.169.254")
    with pytest.raises(NotDeliveredError, match="link-local") as error:
        await make_channel("http://alerts.shop.example:9093").notify(make_notice())
    assert error.value.reason == "not allowed"


@BOTH_CHANNELS
async def test_tls_is_checked(make_channel, tmp_path):
    """A certificate of an untrusted CA is refused, one of the configured CA is accepted."""
    files = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server_cert, files.server_key)
    async with start_raw_server(http_response(200), context=context) as server:
        with pytest.raises(NotDeliveredError, match="certificate"):
            await make_channel(server.url).notify(make_notice())
        assert server.requests == []
        notifier = make_channel(server.url, tls=Tls(ca_file=files.ca))
        await notifier.notify(make_notice())
        await notifier.close()
    assert len(server.requests) == 1


@BOTH_CHANNELS
@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        ({"bearer_token": TOKEN}, TOKEN),
        ({"headers": {"X-Scope": TOKEN}}, TOKEN),
        ({"basic_auth": BasicAuth(username="trimtab", password=TOKEN)},
         base64.b64encode(f"trimtab:{TOKEN}".encode()).decode()),
    ],
)  # fmt: skip
async def test_an_echoed_secret_is_redacted(make_channel, settings, secret):
    """A receiver that echoes our headers puts them into no error and no log."""
    with structlog.testing.capture_logs() as logs:
        async with start_raw_server(http_response(500, f"you sent {secret}, {TOKEN}".encode())) as server:
            notifier = make_channel(server.url, **settings)
            with pytest.raises(NotDeliveredError, match="HTTP 500") as error:
                await notifier.notify(make_notice())
            await notifier.close()
    assert secret.encode() in server.requests[0]
    echoed = str(error.value) + str(logs) + repr(notifier)
    assert secret not in echoed
    assert TOKEN not in echoed
