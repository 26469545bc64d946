"""Notification delivery under kill -9 at random moments."""

import asyncio
import os
import random
import time
from collections import Counter

import pytest

from tests.child_processes.killed_child import make_fork_context, run_and_kill
from tests.child_processes.notification_process import deliver
from tests.fakes.fake_notifications import FakeIncidentLookup, FakeNotificationMetrics
from tests.servers.prometheus import wait_for
from tests.servers.webhook_receiver import start_webhook_receiver
from trimtab.engine.clock import SystemClock
from trimtab.engine.notifications.channels.webhook_channel import WebhookChannel
from trimtab.engine.notifications.delivery import NotificationDelivery
from trimtab.engine.settings.notify import NotifyWebhook
from trimtab.engine.store import open_store
from trimtab.engine.store.learned_state import LearnedState

KILLS = int(os.environ.get("TRIMTAB_KILLS", "20"))
LONGEST_LIFE_S = 0.6


def delivered_ids(received):
    """(incident, webhook-id) of each received webhook."""
    return [(body["alerts"][0]["labels"]["incident"], headers["webhook-id"]) for headers, body in received]


@pytest.fixture(scope="module")
def fork_context():
    """A forkserver context with preloaded imports, so that children start fast."""
    return make_fork_context("tests.child_processes.notification_process", "trimtab.engine.store.event_store")


async def finish(folder, url, done):
    """Restart without new notifications and deliver what is waiting."""
    store = open_store(folder, time.time_ns)
    notifier = WebhookChannel(NotifyWebhook(url=url), time.time_ns)
    delivery = NotificationDelivery(
        [notifier], LearnedState(store.fenced), FakeIncidentLookup(), SystemClock(), FakeNotificationMetrics()
    )
    await delivery.restore()
    running = asyncio.create_task(delivery.run())
    await asyncio.to_thread(wait_for, done, 30.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await delivery.close()
    store.close()


@pytest.mark.slow
async def test_no_notification_is_lost_or_repeated_after_a_save(fork_context, tmp_path):
    """At most one repetition per kill, with the same webhook-id."""
    chance, accepted, written, first = random.Random(5), set(), set(), 0
    with start_webhook_receiver() as (url, requests):
        for _ in range(KILLS):
            before = len(requests)
            reports = await asyncio.to_thread(
                run_and_kill, fork_context, deliver, (tmp_path, url, first), chance, LONGEST_LIFE_S
            )
            again = {incident for incident, _ in delivered_ids(requests[before:])} & written
            assert again == set()
            accepted |= {incident for word, incident in reports if word == "accepted"}
            written |= {incident for word, incident in reports if word == "written"}
            first = len(accepted)
        await finish(tmp_path, url, lambda: accepted <= {incident for incident, _ in delivered_ids(requests)})
        received = delivered_ids(requests)
        repeated = sum(n - 1 for n in Counter(incident for incident, _ in received).values())
    assert repeated <= KILLS
    assert len(set(received)) == len({incident for incident, _ in received})
    assert len(accepted) > KILLS
    assert len(written) > KILLS
    print(f"{KILLS} kills, {len(accepted)} accepted, {len(written)} written down, {repeated} repeated")
