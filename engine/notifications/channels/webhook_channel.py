"""Webhook channel: sends incidents in Alertmanager's webhook format (version 4), signed.

webhook-id         the same for a repeated notification, so that receivers can deduplicate
webhook-timestamp  seconds since 1970; receivers should refuse old timestamps
webhook-signature  v1,BASE64 of HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"), if a secret is set
"""

import asyncio
from collections.abc import Callable, Sequence

import orjson

from trimtab.engine.errors import NotDeliveredError
from trimtab.engine.net.addresses import Endpoint
from trimtab.engine.net.outbound_http import OutboundHttp
from trimtab.engine.net.signing import decode_secret, webhook_signature
from trimtab.engine.notifications.channels.alert_payload import (
    NO_END_TIME,
    alert_annotations,
    alert_labels,
    end_time,
)
from trimtab.engine.notifications.channels.http_post import check_connection, post_notification
from trimtab.engine.notifications.notice_wording import incident_url
from trimtab.engine.settings.notify import MIN_SECRET_LENGTH, NotifyWebhook
from trimtab.engine.types import OWN_ALERT_NAME, Notice, NoticeKind, iso


class WebhookChannel:
    """Posts each incident to one receiver as a group of one alert, like Alertmanager does.

    settings     : section notify.webhook
    now          : returns the current time, int64 ns UTC
    external_url : base URL of Trimtab for links; "" = no links
    """

    name = "webhook"
    repeat_s: float | None = None

    def __init__(self, settings: NotifyWebhook, now: Callable[[], int], external_url: str = "") -> None:
        self._settings = settings
        self._now = now
        self._external_url = external_url
        target = Endpoint.parse("notify.webhook.url", settings.url)
        self._receiver = OutboundHttp(target, settings, "notify.webhook", keep_alive=False)

    async def notify(self, notice: Notice, earlier: Sequence[Notice] = ()) -> None:
        """Send one notification. Raises NotDeliveredError."""
        body, now = orjson.dumps(self._payload(notice, earlier)), self._now()
        message_id = f"{notice.fingerprint}-{notice.incident.id}-{notice.kind}"
        headers = {"Content-Type": "application/json", "User-Agent": "trimtab", "webhook-id": message_id}
        secret = await asyncio.to_thread(self._secret)
        if secret is not None:
            seconds = now // 1_000_000_000
            headers["webhook-timestamp"] = str(seconds)
            headers["webhook-signature"] = webhook_signature(secret, message_id, seconds, body)
        await post_notification(self._receiver, body, headers, now)

    async def probe(self) -> str:
        """Read the secret, connect, send nothing, and describe the result. Raises NotDeliveredError."""
        secret = await asyncio.to_thread(self._secret)
        await check_connection(self._receiver)
        signed = "" if secret is None else ", notifications are signed"
        return f"{self._receiver.endpoint.host_header} accepts connections{signed}; nothing was sent"

    async def close(self) -> None:
        """Close all connections."""
        await self._receiver.close()

    def _payload(self, notice: Notice, earlier: Sequence[Notice]) -> dict[str, object]:
        labels, annotations = alert_labels(notice, earlier), alert_annotations(notice, self._external_url)
        is_resolved = notice.kind is NoticeKind.RESOLVED
        status, incident = "resolved" if is_resolved else "firing", notice.incident
        group = {"alertname": OWN_ALERT_NAME, "fingerprint": notice.fingerprint}
        alert = {
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": iso(incident.start),
            "endsAt": iso(end_time(incident, max(self._now(), notice.time))) if is_resolved else NO_END_TIME,
            "generatorURL": incident_url(self._external_url, incident),
            "fingerprint": notice.fingerprint,
        }
        return {
            "version": "4",
            "groupKey": "{}:{" + ", ".join(f'{name}="{value}"' for name, value in group.items()) + "}",
            "truncatedAlerts": 0,
            "status": status,
            "receiver": "trimtab",
            "groupLabels": group,
            "commonLabels": labels,
            "commonAnnotations": annotations,
            "externalURL": self._external_url,
            "alerts": [alert],
        }

    def _secret(self) -> bytes | None:
        """Return the secret, read again for each POST because it may be rotated. Raises NotDeliveredError."""
        secret, file = self._settings.secret, self._settings.secret_file
        if secret is None and file is None:
            return None
        try:
            text = secret.get_secret_value() if secret is not None else _read_secret_file(self._settings)
            key = decode_secret(text)
        except OSError as error:
            why = f"{error.strerror}; it must be a text file that this user can read"
            raise NotDeliveredError(
                f"notify.webhook.secret_file {file} cannot be read: {why}", "no secret"
            ) from error
        except ValueError:
            key = b""
        if len(key) < MIN_SECRET_LENGTH:
            raise NotDeliveredError(
                f"notify.webhook.secret has {len(key)} usable bytes, expected {MIN_SECRET_LENGTH} or more: "
                "plain text, or whsec_ and base64",
                "no secret",
            )
        return key


def _read_secret_file(settings: NotifyWebhook) -> str:
    assert settings.secret_file is not None  # noqa: S101 - checked by the caller
    return settings.secret_file.expanduser().read_text("utf-8", errors="replace").strip()
