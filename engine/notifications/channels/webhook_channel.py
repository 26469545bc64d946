"""Incidents to a receiver of Alertmanager's webhook (version 4), signed.

webhook-id         the same for the same notice: a receiver that has seen it does nothing new
webhook-timestamp  seconds since 1970; a receiver refuses what is minutes old
webhook-signature  v1,BASE64 of HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"), where there is a secret
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
    """One receiver. Each incident is a group of one alert, as Alertmanager would send it.

    now : nanoseconds UTC
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
        """Send it once. Raises NotDeliveredError."""
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
        """It takes connections, and our secret can be read; nothing is sent. Raises NotDeliveredError."""
        secret = await asyncio.to_thread(self._secret)
        await check_connection(self._receiver)
        signed = "" if secret is None else ", what is sent is signed"
        return f"{self._receiver.endpoint.host_header} takes connections{signed}; nothing was sent to it"

    async def close(self) -> None:
        """Let go of connections."""
        await self._receiver.close()

    def _payload(self, notice: Notice, told: Sequence[Notice]) -> dict[str, object]:
        labels, annotations = alert_labels(notice, told), alert_annotations(notice, self._external_url)
        over = notice.kind is NoticeKind.RESOLVED
        status, incident = "resolved" if over else "firing", notice.incident
        group = {"alertname": OWN_ALERT_NAME, "fingerprint": notice.fingerprint}
        alert = {
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": iso(incident.start),
            "endsAt": iso(end_time(incident, max(self._now(), notice.time))) if over else NO_END_TIME,
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
        """Read anew each time: secrets are exchanged while we run."""
        given, file = self._settings.secret, self._settings.secret_file
        if given is None and file is None:
            return None
        try:
            text = given.get_secret_value() if given is not None else _read_secret_file(self._settings)
            found = decode_secret(text)
        except OSError as error:
            why = f"{error.strerror}; make it a text file that this user may read"
            raise NotDeliveredError(
                f"notify.webhook.secret_file {file} cannot be read: {why}", "no secret"
            ) from error
        except ValueError:
            found = b""
        if len(found) < MIN_SECRET_LENGTH:
            raise NotDeliveredError(
                f"notify.webhook.secret has {len(found)} usable bytes, wanted {MIN_SECRET_LENGTH} or more: "
                "plain text, or whsec_ and base64",
                "no secret",
            )
        return found


def _read_secret_file(settings: NotifyWebhook) -> str:
    assert settings.secret_file is not None  # noqa: S101 - asked by the caller
    return settings.secret_file.expanduser().read_text("utf-8", errors="replace").strip()
