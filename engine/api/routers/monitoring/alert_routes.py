"""Webhook for Alertmanager alerts (version 4); each alert is stored as a change event."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trimtab.engine.api.idempotency import WriteDep
from trimtab.engine.api.loop_ports import LoopPorts, LoopPortsDep
from trimtab.engine.api.parameters import parse_time
from trimtab.engine.api.shapes.json_shapes import JsonShape, to_json
from trimtab.engine.api.shapes.loop_shapes import example_response
from trimtab.engine.types import Alert, Change, ChangeKind

router = APIRouter(prefix="/api/alerts", tags=["incidents"])
Labels = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=100)]


class AlertBody(BaseModel):
    """One alert. Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")
    status: Literal["firing", "resolved"]
    labels: Labels
    annotations: Labels = {}
    startsAt: str  # noqa: N815 - Alertmanager's name
    endsAt: str = ""  # noqa: N815 - as above
    generatorURL: str = ""  # noqa: N815 - as above
    fingerprint: str = Field(min_length=1, max_length=100)


class AlertsBody(BaseModel):
    """A group of alerts."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{
                "version": "4", "status": "firing", "receiver": "trimtab", "externalURL": "http://am:9093",
                "alerts": [{
                    "status": "firing", "labels": {"alertname": "HighLatency", "service": "checkout"},
                    "annotations": {"summary": "p99 over 2 s"}, "startsAt": "2026-01-01T00:00:00Z",
                    "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus:9090/graph",
                    "fingerprint": "c1f0a3b2d4e5f607",
                }],
            }]
        },
    )  # fmt: skip
    version: Literal["4"]
    alerts: list[AlertBody] = Field(max_length=1000)


class Taken(JsonShape):
    """Number of accepted alerts."""

    taken: int


@router.post("", summary="Receive alerts", responses=example_response(Taken, {"taken": 1}))
async def take_alerts(write: WriteDep, ports: LoopPortsDep, body: AlertsBody) -> Response:
    """Alertmanager's webhook. A repeated or resolved alert updates its stored change event.

    Alerts of our own incidents, which an Alertmanager may send back, are ignored.
    """
    alerts = [alert for alert in map(_parse_alert, body.alerts) if not alert.is_own]
    return await write.respond_async(
        body.model_dump_json(), lambda _: _save_alerts(ports, alerts, write.caller)
    )


async def _save_alerts(ports: LoopPorts, alerts: list[Alert], by: str) -> tuple[int, bytes]:
    for alert in alerts:
        await asyncio.to_thread(ports.incidents.save_change, alert_change(alert, by))
    if ports.on_alerts is not None:
        await ports.on_alerts(alerts, by)
    return 200, to_json({"taken": len(alerts)})


def _parse_alert(body: AlertBody) -> Alert:
    end = parse_time("endsAt", body.endsAt) if body.status == "resolved" else None
    url = body.generatorURL if body.generatorURL.startswith(("http://", "https://")) else ""
    start = parse_time("startsAt", body.startsAt)
    return Alert(body.fingerprint, start, end, body.labels, body.annotations, url)


def alert_change(alert: Alert, by: str) -> Change:
    """Return an alert as a change event; repetitions of an alert have the same id.

    >>> alert_change(Alert("c1f0", 1_767_225_600_000_000_000, None, {"alertname": "HighLatency"}), "am").title
    'alert: HighLatency'
    """
    about = alert.annotations.get("summary", "")
    name = alert.labels.get("alertname", "without a name")
    title = f"alert{'' if alert.is_firing else ' (over)'}: {name}{about and f', {about}'}"
    return Change(alert.change_id, alert.start, ChangeKind.ALERT, title[:300], by, alert.labels, alert.url)
