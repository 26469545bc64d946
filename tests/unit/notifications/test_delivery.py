"""Delivery sends each notification once to every channel, despite failures of receivers and store."""

import asyncio
import json
import random
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_notifications import (
    FakeIncidentLookup,
    FakeKeyValueStore,
    FakeNotificationMetrics,
    FakeNotifier,
    make_notice,
    make_resolved_notice,
    make_worse_notice,
)
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import NotDeliveredError
from trimtab.engine.notifications import delivery
from trimtab.engine.notifications.delivery import NotificationDelivery

UNREACHABLE = "notify.fake: 127.0.0.1:9 cannot be reached"


def unreachable_error(**more):
    """The error of an unreachable receiver."""
    return NotDeliveredError(UNREACHABLE, "unreachable", **more)


class DeliveryHarness:
    """A NotificationDelivery over fakes; `restart` creates the next one on the same state."""

    def __init__(self, *notifiers, memory=None, lookup=None, clock=None):
        self.notifiers = notifiers
        self.state_store, self.incidents = memory or FakeKeyValueStore(), lookup or FakeIncidentLookup()
        self.clock, self.metrics, self.problems_shown = clock or FakeClock(), FakeNotificationMetrics(), []
        self.delivery = NotificationDelivery(
            notifiers,
            self.state_store,
            self.incidents,
            self.clock,
            self.metrics,
            self.problems_shown.append,
            random.Random(1),
        )

    def restart(self, *notifiers):
        self.state_store.values = json.loads(json.dumps(self.state_store.values))
        return DeliveryHarness(
            *(notifiers or self.notifiers), memory=self.state_store, lookup=self.incidents, clock=self.clock
        )

    async def enqueue(self, *notices):
        """Enqueue notifications and add their incidents to the fake store."""
        for notice in notices:
            self.incidents.put(notice.incident)
        await self.delivery.enqueue(notices)

    async def advance_until(self, seconds, until, step=1.0):
        """Advance the clock in steps, for at most `seconds`, until the condition is true."""
        async with asyncio.timeout(20):
            for _ in range(round(seconds / step)):
                for _ in range(5):
                    await asyncio.sleep(0.001)
                    if until():
                        return
                self.clock.tick(step)
        raise AssertionError(f"not so after {seconds} s of the clock")


@asynccontextmanager
async def running_delivery(*notifiers, harness=None):
    """A harness whose delivery is running."""
    harness = harness or DeliveryHarness(*notifiers)
    await harness.delivery.restore()
    task = asyncio.create_task(harness.delivery.run())
    try:
        yield harness
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await harness.delivery.close()


async def test_each_channel_receives_every_notification():
    """From start to resolution, each with the earlier notifications; everything is counted."""
    a, b = FakeNotifier("a"), FakeNotifier("b")
    async with running_delivery(a, b) as harness:
        for n, notice in enumerate((make_notice(), make_worse_notice(), make_resolved_notice()), 1):
            await harness.enqueue(notice)
            await a.wait_until(lambda n=n: len(a.delivered) == n and len(b.delivered) == n)
    expected = [
        ("firing", ulid(1), []), ("worse", ulid(1), ["firing"]), ("resolved", ulid(1), ["firing", "worse"]),
    ]  # fmt: skip
    assert a.delivered == b.delivered == expected
    assert harness.metrics.sent.count(("b", "worse")) == 1
    assert harness.metrics.waiting == {"a": 0, "b": 0}
    assert harness.delivery.problems() == []


async def test_a_hanging_receiver_blocks_nothing():
    """Neither the enqueuing loop nor another channel waits for it."""
    slow, quick = FakeNotifier("slow"), FakeNotifier("quick")
    slow.responses.append(asyncio.Event())
    async with running_delivery(slow, quick) as harness:
        async with asyncio.timeout(5):
            await harness.enqueue(make_notice(1), make_notice(2))
        await quick.wait_until(lambda: len(quick.delivered) == 2)
        assert slow.delivered == []
        harness.delivery._channels[0].sending.cancel()


async def test_an_unreachable_receiver_is_retried():
    """Retries have growing, jittered delays; the problem is reported until a delivery succeeds."""
    notifier = FakeNotifier()
    notifier.responses.extend(unreachable_error() for _ in range(5))
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice())
        await notifier.wait_until(lambda: notifier.attempts == 1)
        await notifier.wait_until(lambda: harness.delivery.problems() != [])
        assert harness.delivery.problems() == [f"1 notification waiting: {UNREACHABLE}"]
        begin = harness.clock.now()
        await harness.advance_until(120, lambda: notifier.delivered)
        assert notifier.attempts == 6
        assert 2 <= (harness.clock.now() - begin) / SECOND <= 40
        await notifier.wait_until(lambda: harness.problems_shown[-1] == "")
    assert harness.metrics.failed == [("fake", "unreachable")] * 5
    assert harness.delivery.problems() == []


@pytest.mark.parametrize(("retry_after_s", "waits"), [(100.0, 100.0), (1e9, 3600.0)])
async def test_retry_after_is_respected_up_to_a_limit(retry_after_s, waits):
    """A Retry-After is respected, up to one hour."""
    notifier = FakeNotifier()
    notifier.responses.append(unreachable_error(after_s=retry_after_s))
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice())
        await notifier.wait_until(lambda: harness.delivery.problems() != [])
        begin = harness.clock.now()
        await harness.advance_until(4000, lambda: notifier.delivered, step=20)
    assert waits <= (harness.clock.now() - begin) / SECOND <= waits + 40


async def test_a_refused_notification_is_dropped_and_reported():
    """It is not retried; the next notification is sent."""
    notifier = FakeNotifier()
    notifier.responses.append(NotDeliveredError("notify.fake answers HTTP 400", "refused", retry=False))
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice(1))
        await notifier.wait_until(lambda: harness.metrics.dropped)
        await notifier.wait_until(lambda: harness.problems_shown and "400" in harness.problems_shown[-1])
        assert harness.delivery.problems() == ["the last notification failed: notify.fake answers HTTP 400"]
        await harness.enqueue(make_notice(2))
        await notifier.wait_until(lambda: len(notifier.delivered) == 1)
        await notifier.wait_until(lambda: harness.delivery.problems() == [])
    assert harness.metrics.dropped == [("fake", "refused")]


async def test_an_internal_error_drops_one_notification():
    """A channel that raises an unexpected exception loses only this notification."""
    notifier = FakeNotifier()
    notifier.responses.append(KeyError("oops"))
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice(1), make_notice(2))
        await notifier.wait_until(lambda: notifier.delivered)
    assert harness.metrics.dropped == [("fake", "fault")]


async def test_retries_are_limited(monkeypatch):
    """After GIVE_UP_S a notification is dropped and counted."""
    monkeypatch.setattr(delivery, "GIVE_UP_S", 30.0)
    notifier = FakeNotifier()
    notifier.responses.extend(unreachable_error() for _ in range(1000))
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice())
        await harness.advance_until(60, lambda: harness.metrics.dropped)
    assert harness.metrics.dropped == [("fake", "unreachable")]


async def test_a_restart_repeats_nothing_and_loses_nothing():
    """After a restart, sent notifications are not repeated and waiting ones are sent."""
    first, second = FakeNotifier(), FakeNotifier()
    first.responses.extend([None, *(unreachable_error() for _ in range(100))])
    async with running_delivery(first) as harness:
        await harness.enqueue(make_notice(1))
        await first.wait_until(lambda: first.delivered)
        await harness.enqueue(make_notice(2))
        await first.wait_until(lambda: first.attempts >= 2)
    async with running_delivery(harness=harness.restart(second)) as later:
        await later.enqueue(make_notice(1), make_notice(2))
        await second.wait_until(lambda: second.delivered)
        await later.enqueue(make_resolved_notice(1))
        await second.wait_until(lambda: len(second.delivered) == 2)
    assert second.delivered == [("firing", ulid(2), []), ("resolved", ulid(1), ["firing"])]


async def test_shutdown_waits_for_the_running_delivery():
    """A delivery in progress is saved as sent, so that the next start does not repeat it."""
    first, second, gate = FakeNotifier(), FakeNotifier(), asyncio.Event()
    first.responses.append(gate)
    async with running_delivery(first) as harness:
        await harness.enqueue(make_notice())
        await first.wait_until(lambda: first.attempts == 1)
        asyncio.get_running_loop().call_later(0.05, gate.set)
    assert first.kinds == ["firing"]
    async with running_delivery(harness=harness.restart(second)) as later:
        await later.enqueue(make_notice())
        await asyncio.sleep(0.05)
    assert second.attempts == 0


async def test_an_ongoing_incident_is_repeated():
    """Repeated every repeat_s while it is open, immediately after a restart, and not after its resolution."""
    notifier = FakeNotifier(repeat_s=60.0)
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice())
        await notifier.wait_until(lambda: len(notifier.delivered) == 1)
        await harness.advance_until(125, lambda: len(notifier.delivered) == 3)
        assert harness.metrics.sent == [("fake", "firing")]
    again = FakeNotifier(repeat_s=60.0)
    async with running_delivery(harness=harness.restart(again)) as later:
        await again.wait_until(lambda: len(again.delivered) == 1)
        await later.enqueue(make_resolved_notice())
        await again.wait_until(lambda: len(again.delivered) == 2)
        for _ in range(20):
            later.clock.tick(30)
            await asyncio.sleep(0.002)
    assert again.kinds == ["firing", "resolved"]


async def test_a_failed_save_is_reported_and_retried():
    """Notifications are still sent, and the state is saved once the store works again."""
    notifier = FakeNotifier()
    async with running_delivery(notifier) as harness:
        harness.state_store.write_error = "the disk is full"
        await harness.enqueue(make_notice())
        await notifier.wait_until(lambda: notifier.delivered)
        assert "the disk is full" in harness.delivery.problems()[0]
        harness.state_store.write_error = ""
        await harness.advance_until(70, lambda: not harness.delivery.problems())
    second = FakeNotifier()
    async with running_delivery(harness=harness.restart(second)) as later:
        await later.enqueue(make_notice())
        await asyncio.sleep(0.05)
    assert second.attempts == 0


@pytest.mark.parametrize("ending", ["resolved", "merged and resolved"])
async def test_an_incident_resolved_unnoticed_is_notified(ending):
    """The follow-up check sends the resolution, also if the incident was merged into another."""
    notifier = FakeNotifier()
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice(1))
        await notifier.wait_until(lambda: notifier.delivered)
        incident = make_notice(1).incident
        if ending == "resolved":
            harness.incidents.put(make_resolved_notice(1).incident)
        else:
            harness.incidents.put(replace(incident, merged_into=ulid(2)))
            harness.incidents.put(make_resolved_notice(2).incident)
        await harness.advance_until(130, lambda: len(notifier.delivered) == 2, step=5)
    assert notifier.delivered[-1] == ("resolved", ulid(1), ["firing"])


async def test_an_unknown_incident_is_not_resolved():
    """A failing store or a missing incident does not resolve a notification thread."""
    notifier = FakeNotifier()
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice(1))
        await notifier.wait_until(lambda: notifier.delivered)
        harness.incidents.incidents.clear()
        await harness.advance_until(
            160, lambda: harness.clock.now() > 125 * SECOND + make_notice().time, step=5
        )
        harness.incidents.is_down = True
        await harness.advance_until(
            160, lambda: harness.clock.now() > 250 * SECOND + make_notice().time, step=5
        )
    assert notifier.kinds == ["firing"]


async def test_a_merged_incident_is_resolved_with_its_target():
    """After a merge the thread is resolved when the other incident is."""
    notifier = FakeNotifier()
    async with running_delivery(notifier) as harness:
        await harness.enqueue(make_notice(1))
        await notifier.wait_until(lambda: notifier.delivered)
        harness.incidents.put(replace(make_notice(1).incident, merged_into=ulid(2)))
        harness.incidents.put(make_notice(2).incident)
        thread = next(iter(harness.delivery._channels[0].outbox.threads.values()))
        await harness.advance_until(130, lambda: thread.open_incident_ids == [ulid(2)], step=5)
        await harness.enqueue(make_resolved_notice(2, fingerprint=thread.fingerprint))
        await notifier.wait_until(lambda: len(notifier.delivered) == 2)
    assert notifier.kinds == ["firing", "resolved"]


async def test_an_unreadable_state_is_discarded():
    """A state of another version or a damaged one does not stop the engine."""
    harness = DeliveryHarness(FakeNotifier())
    for state in ({"version": 0}, {"version": 1, "told": {"fake": [{"members": 3}]}}, "x"):
        harness.state_store.values[delivery.STATE_KEY] = state
        await harness.delivery.restore()
    assert harness.delivery._channels[0].outbox.threads == {}
