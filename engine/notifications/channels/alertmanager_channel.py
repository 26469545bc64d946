"""Incidents to an Alertmanager, over its API (POST /api/v2/alerts)."""

from collections.abc import Callable, Sequence

import orjson

from trimtab.engine.net.addresses import Endpoint
from trimtab.engine.net.outbound_http import OutboundHttp
from trimtab.engine.notifications.channels.alert_payload import alert_annotations, alert_labels, end_time
from trimtab.engine.notifications.channels.http_post import post_notification
from trimtab.engine.notifications.notice_wording import incident_url
from trimtab.engine.settings.notify import NotifyAlertmanager
from trimtab.engine.types import Notice, NoticeKind, iso

REPEAT_S = 60.0
"""As often as Prometheus sends an alert that goes on."""
ALERT_LIFETIME_NS = 4 * 60_000_000_000
"""An alert that is not sent again for so long is over for Alertmanager."""
HEADERS = {"Content-Type": "application/json", "User-Agent": "trimtab"}


class AlertmanagerChannel:
    """Each incident is one alert; it says itself until when it holds, and is sent again before.

    now : nanoseconds UTC. What a receiver compares with its own clock is taken from here, not from the
          incident, whose times may be those of a recording
    """

    name = "alertmanager"
    repeat_s: float | None = REPEAT_S

    def __init__(self, settings: NotifyAlertmanager, now: Callable[[], int], external_url: str = "") -> None:
        self._now = now
        self._external_url = external_url
        target = Endpoint.parse("notify.alertmanager.url", settings.url + "/api/v2/alerts")
        self._receiver = OutboundHttp(target, settings, "notify.alertmanager", keep_alive=False)

    async def notify(self, notice: Notice, earlier: Sequence[Notice] = ()) -> None:
        """Say that it goes on, or that it is over. Raises NotDeliveredError."""
        body = orjson.dumps(self._alerts(notice, earlier))
        await post_notification(self._receiver, body, HEADERS, self._now())

    async def probe(self) -> str:
        """It takes an empty list of alerts from us, which tells nobody anything. Raises NotDeliveredError."""
        await post_notification(self._receiver, b"[]", HEADERS, self._now())
        return f"{self._receiver.endpoint.host_header} takes alerts from us"

    async def close(self) -> None:
        """Let go of connections."""
        await self._receiver.close()

    def _alerts(self, notice: Notice, told: Sequence[Notice]) -> list[dict[str, object]]:
        """The alert, and an end of those that were told of the same incident with another severity."""
        now, labels = self._now(), alert_labels(notice, told)
        over = notice.kind is NoticeKind.RESOLVED
        before = [alert_labels(one, told) for one in told if one.kind is not NoticeKind.RESOLVED]
        if over and before:
            labels = before[-1]
        others = {one["severity"]: one for one in before if one["severity"] != labels["severity"]}
        return [self._alert(labels, notice, now, over=over)] + [
            self._alert(one, notice, now, over=True) for one in others.values()
        ]

    def _alert(self, labels: dict[str, str], notice: Notice, now: int, *, over: bool) -> dict[str, object]:
        incident = notice.incident
        start = min(incident.start, now)
        end = max(start, min(end_time(incident, now), now)) if over else now + ALERT_LIFETIME_NS
        return {
            "labels": labels,
            "annotations": alert_annotations(notice, self._external_url),
            "startsAt": iso(start),
            "endsAt": iso(end),
            "generatorURL": incident_url(self._external_url, incident),
        }
