"""Child process that enqueues and delivers notifications until it is killed."""

import asyncio
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fakes.fake_notifications import FakeIncidentLookup, FakeNotificationMetrics, make_notice
from trimtab.engine.clock import SystemClock
from trimtab.engine.notifications.channels.webhook_channel import WebhookChannel
from trimtab.engine.notifications.delivery import NotificationDelivery
from trimtab.engine.settings.notify import NotifyWebhook
from trimtab.engine.store import open_store
from trimtab.engine.store.learned_state import LearnedState
from trimtab.engine.types import Notice


class RecordingWebhookChannel(WebhookChannel):
    """A webhook channel that records the last delivered incident."""

    last_incident_id: str = ""

    async def notify(self, notice: Notice, earlier=()) -> None:
        await super().notify(notice, earlier)
        self.last_incident_id = notice.incident.id


class ReportingMetrics(FakeNotificationMetrics):
    """Reports each notification once its delivery has been saved."""

    def __init__(self, connection: Connection, notifier: RecordingWebhookChannel) -> None:
        super().__init__()
        self.connection = connection
        self.notifier = notifier

    def count_notice_sent(self, notifier: str, kind: str) -> None:  # noqa: ARG002 - as in the port
        self.connection.send(("written", self.notifier.last_incident_id))


def deliver(folder: Path, url: str, first: int, connection: Connection) -> None:
    """Enqueue notifications forever; report each accepted and each saved one."""
    asyncio.run(_deliver(folder, url, first, connection))


async def _deliver(folder: Path, url: str, first: int, connection: Connection) -> None:
    store = open_store(folder, time.time_ns)
    notifier = RecordingWebhookChannel(NotifyWebhook(url=url), time.time_ns)
    counts = ReportingMetrics(connection, notifier)
    delivery = NotificationDelivery(
        [notifier], LearnedState(store.fenced), FakeIncidentLookup(), SystemClock(), counts
    )
    await delivery.restore()
    connection.send(("began", ""))
    running = asyncio.create_task(delivery.run())
    for number in (*range(first), *range(first, first + 100_000)):
        notice = make_notice(number)
        await delivery.enqueue([notice])
        connection.send(("accepted", notice.incident.id))
        while counts.waiting.get("webhook", 0) > 2:
            if running.done():
                running.result()
            await asyncio.sleep(0.001)
