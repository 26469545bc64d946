"""Alertmanager channel: sends incidents to POST /api/v2/alerts."""

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
"""Interval at which Prometheus resends a firing alert."""
ALERT_LIFETIME_NS = 4 * 60_000_000_000
"""Alertmanager resolves an alert that is not resent within this time."""
HEADERS = {"Content-Type": "application/json", "User-Agent": "trimtab"}


class AlertmanagerChannel:
    """Sends each incident as one alert with an end time, and resends it before that time.

    settings     : section notify.alertmanager
    now          : returns the current time, int64 ns UTC. Times that Alertmanager compares with its own
                   clock come from here, because the incident's times may come from a recording
    external_url : base URL of Trimtab for links; "" = no links
    """

    name = "alertmanager"
    repeat_s: float | None = REPEAT_S

    def __init__(self, settings: NotifyAlertmanager, now: Callable[[], int], external_url: str = "") -> None:
        self._now = now
        self._external_url = external_url
        target = Endpoint.parse("notify.alertmanager.url", settings.url + "/api/v2/alerts")
        self._receiver = OutboundHttp(target, settings, "notify.alertmanager", keep_alive=False)

    async def notify(self, notice: Notice, earlier: Sequence[Notice] = ()) -> None:
        """Send the incident as firing or resolved. Raises NotDeliveredError."""
        body = orjson.dumps(self._alerts(notice, earlier))
        await post_notification(self._receiver, body, HEADERS, self._now())

    async def probe(self) -> str:
        """Post an empty list of alerts and describe the result. Raises NotDeliveredError."""
        await post_notification(self._receiver, b"[]", HEADERS, self._now())
        return f"{self._receiver.endpoint.host_header} accepts alerts"

    async def close(self) -> None:
        """Close all connections."""
        await self._receiver.close()

    def _alerts(self, notice: Notice, earlier: Sequence[Notice]) -> list[dict[str, object]]:
        """Return the alert, plus resolved alerts for those sent earlier with another severity."""
        now, labels = self._now(), alert_labels(notice, earlier)
        is_resolved = notice.kind is NoticeKind.RESOLVED
        sent_labels = [
            alert_labels(labels_sent, earlier)
            for labels_sent in earlier
            if labels_sent.kind is not NoticeKind.RESOLVED
        ]
        if is_resolved and sent_labels:
            labels = sent_labels[-1]
        outdated = {
            labels_sent["severity"]: labels_sent
            for labels_sent in sent_labels
            if labels_sent["severity"] != labels["severity"]
        }
        return [self._alert(labels, notice, now, is_resolved=is_resolved)] + [
            self._alert(labels_sent, notice, now, is_resolved=True) for labels_sent in outdated.values()
        ]

    def _alert(
        self, labels: dict[str, str], notice: Notice, now: int, *, is_resolved: bool
    ) -> dict[str, object]:
        incident = notice.incident
        start = min(incident.start, now)
        end = max(start, min(end_time(incident, now), now)) if is_resolved else now + ALERT_LIFETIME_NS
        return {
            "labels": labels,
            "annotations": alert_annotations(notice, self._external_url),
            "startsAt": iso(start),
            "endsAt": iso(end),
            "generatorURL": incident_url(self._external_url, incident),
        }
