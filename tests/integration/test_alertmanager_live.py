"""Integration with a real Alertmanager, in both directions."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from tests.builders.api_client import ApiHarness
from tests.builders.series import SECOND
from tests.fakes.fake_notifications import (
    FakeIncidentLookup,
    FakeNotificationMetrics,
    make_notice,
    make_resolved_notice,
    make_worse_notice,
)
from tests.servers.alertmanager import start_alertmanager
from tests.servers.http import http_response, start_raw_server
from trimtab.engine.clock import SystemClock
from trimtab.engine.notifications.channels import alertmanager_channel
from trimtab.engine.notifications.channels.alertmanager_channel import AlertmanagerChannel
from trimtab.engine.notifications.delivery import NotificationDelivery
from trimtab.engine.settings.notify import NotifyAlertmanager
from trimtab.engine.store import open_store
from trimtab.engine.store.learned_state import LearnedState
from trimtab.engine.types import OWN_ALERT_NAME


@pytest.fixture
async def receiver():
    """A webhook receiver to which Alertmanager forwards alerts."""
    async with start_raw_server(http_response(200)) as server:
        yield server


@pytest.fixture
async def server(tmp_path, receiver):
    """A real Alertmanager."""
    start = start_alertmanager(tmp_path / "alertmanager", receiver.url)
    started = await asyncio.to_thread(start.__enter__)
    yield started
    await asyncio.to_thread(start.__exit__, None, None, None)


def make_current_notice(make, number=1, ago_s=30, **changed):
    """A notification of an incident that began just now, because Alertmanager uses the real time."""
    notice = make(number, **changed)
    start = time.time_ns() - ago_s * SECOND
    end = None if notice.incident.end is None else time.time_ns() - SECOND
    return replace(notice, incident=replace(notice.incident, start=start, end=end), time=start)


def forwarded_alerts(receiver):
    """(group status, [(alert status, severity)]) of each forwarded webhook."""
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in receiver.requests]
    return [
        (body["status"], sorted((a["status"], a["labels"]["severity"]) for a in body["alerts"]))
        for body in bodies
    ]


async def wait_for_alerts(receiver, n):
    """Wait for the n-th webhook, then one more second to catch a surplus one."""
    async with asyncio.timeout(20):
        while len(receiver.requests) < n:  # noqa: ASYNC110 - it comes from another process
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    assert len(receiver.requests) == n
    return forwarded_alerts(receiver)


@asynccontextmanager
async def running_delivery(tmp_path, url):
    """A running delivery on a real store; entering it again simulates a restart."""
    store = open_store(tmp_path / "data", time.time_ns)
    notifier = AlertmanagerChannel(NotifyAlertmanager(url=url), time.time_ns)
    delivery = NotificationDelivery(
        [notifier], LearnedState(store.fenced), FakeIncidentLookup(), SystemClock(), FakeNotificationMetrics()
    )
    await delivery.restore()
    task = asyncio.create_task(delivery.run())
    try:
        yield delivery
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await delivery.close()
        store.close()


async def test_an_incident_arrives_once_and_is_resolved(tmp_path, server, receiver):
    """Repetitions, a restart and a duplicate cause no second message; the resolution causes one."""
    fired = make_current_notice(make_notice)
    async with running_delivery(tmp_path, server.url) as delivery:
        await delivery.enqueue([fired])
        assert await wait_for_alerts(receiver, 1) == [("firing", [("firing", "high")])]
    async with running_delivery(tmp_path, server.url) as delivery:
        await delivery.enqueue([fired])
        await wait_for_alerts(receiver, 1)
        ended = make_current_notice(make_resolved_notice, entities=("web/1",), suspects=())
        await delivery.enqueue([ended])
        assert (await wait_for_alerts(receiver, 2))[1] == ("resolved", [("resolved", "high")])
        assert delivery.problems() == []
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{server.url}/api/v2/alerts")).json() == []


@pytest.mark.slow
async def test_an_incident_that_becomes_critical_is_sent_again(tmp_path, server, receiver):
    """Alertmanager receives a critical alert and a resolved milder one, then the resolution."""
    async with running_delivery(tmp_path, server.url) as delivery:
        await delivery.enqueue([make_current_notice(make_notice)])
        await wait_for_alerts(receiver, 1)
        await delivery.enqueue([make_current_notice(make_worse_notice)])
        groups = await wait_for_alerts(receiver, 2)
        assert groups[1] == ("firing", [("firing", "critical"), ("resolved", "high")])
        await delivery.enqueue([make_current_notice(make_resolved_notice)])
        groups = await wait_for_alerts(receiver, 3)
        assert groups[2][0] == "resolved"


@pytest.mark.slow
async def test_repetition_keeps_an_alert_firing(tmp_path, server, receiver, monkeypatch):
    """An alert fires while it is resent; Alertmanager resolves it after the engine has stopped."""
    monkeypatch.setattr(alertmanager_channel, "ALERT_LIFETIME_NS", 3 * SECOND)
    monkeypatch.setattr(AlertmanagerChannel, "repeat_s", 0.5)
    async with running_delivery(tmp_path, server.url) as delivery:
        await delivery.enqueue([make_current_notice(make_notice)])
        await wait_for_alerts(receiver, 1)
        await asyncio.sleep(4)
        assert len(receiver.requests) == 1
    assert (await wait_for_alerts(receiver, 2))[1] == ("resolved", [("resolved", "high")])


async def test_an_unavailable_alertmanager_receives_the_notification_later(tmp_path, server, receiver):
    """Notifications during an outage of Alertmanager arrive after it restarts."""
    await asyncio.to_thread(server.stop)
    async with running_delivery(tmp_path, server.url) as delivery:
        await delivery.enqueue([make_current_notice(make_notice)])
        async with asyncio.timeout(10):
            while not delivery.problems():  # noqa: ASYNC110 - a try is under way
                await asyncio.sleep(0.02)
        assert "cannot be reached" in delivery.problems()[0]
        await asyncio.to_thread(server.start)
        assert await wait_for_alerts(receiver, 1) == [("firing", [("firing", "high")])]
        assert delivery.problems() == []


async def test_own_alerts_are_not_ingested(tmp_path, server, receiver):
    """Alerts forwarded by Alertmanager are ingested, except Trimtab's own."""
    labels = {"alertname": "HighLatency", "service": "checkout", "severity": "page"}
    async with httpx.AsyncClient(trust_env=False) as prometheus:
        await prometheus.post(f"{server.url}/api/v2/alerts", json=[{"labels": labels}])
    async with running_delivery(tmp_path, server.url) as delivery:
        await delivery.enqueue([make_current_notice(make_notice)])
        await wait_for_alerts(receiver, 2)
    harness = ApiHarness(loop=True)
    program = harness.key_client("ingest")
    taken = {}
    for request in receiver.requests:
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        answer = await program.post("/api/alerts", json=body)
        assert answer.status_code == 200, answer.text
        taken[body["groupLabels"]["alertname"]] = answer.json()["taken"]
    assert taken == {OWN_ALERT_NAME: 0, "HighLatency": 1}
    assert [alert.labels for alert in harness.loop.alerts] == [labels]
