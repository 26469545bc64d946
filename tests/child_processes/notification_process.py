"""What the process does that the test kills: accept notices, deliver them, tell what was acknowledged."""

import asyncio
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fakes.fake_notifications import Counts, Known, notice_of
from trimtab.engine.clock import SystemClock
from trimtab.engine.notifications.channels.webhook_channel import WebhookNotifier
from trimtab.engine.notifications.delivery import Notifications
from trimtab.engine.settings.notify import NotifyWebhook
from trimtab.engine.store import open_store
from trimtab.engine.store.learned_state import StoredMemory
from trimtab.engine.types import Notice


class Telling(WebhookNotifier):
    """The webhook; remembers what the receiver took last."""

    last: str = ""

    async def notify(self, notice: Notice, told=()) -> None:
        await super().notify(notice, told)
        self.last = notice.incident.id


class Acknowledged(Counts):
    """Tells of each notice once it is written down that a receiver took it."""

    def __init__(self, told: Connection, notifier: Telling) -> None:
        super().__init__()
        self.told = told
        self.notifier = notifier

    def notice_sent(self, notifier: str, kind: str) -> None:  # noqa: ARG002 - as in the port
        self.told.send(("written", self.notifier.last))


def deliver(folder: Path, url: str, first: int, told: Connection) -> None:
    """Take notices for ever, all of them again after a restart; tell what was accepted and written."""
    asyncio.run(_deliver(folder, url, first, told))


async def _deliver(folder: Path, url: str, first: int, told: Connection) -> None:
    store = open_store(folder, time.time_ns)
    notifier = Telling(NotifyWebhook(url=url), time.time_ns)
    counts = Acknowledged(told, notifier)
    made = Notifications([notifier], StoredMemory(store.fenced), Known(), SystemClock(), counts)
    await made.resume()
    told.send(("began", ""))
    running = asyncio.create_task(made.run())
    for number in (*range(first), *range(first, first + 100_000)):
        notice = notice_of(number)
        await made.take([notice])
        told.send(("accepted", notice.incident.id))
        while counts.waiting.get("webhook", 0) > 2:
            if running.done():
                running.result()
            await asyncio.sleep(0.001)
