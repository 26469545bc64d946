"""Notices reach each receiver, once, whatever receivers and stores do meanwhile."""

import asyncio
import json
import random
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_notifications import (
    Counts,
    FakeMemory,
    FakeNotifier,
    Known,
    notice_of,
    over,
    worse,
)
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import NotDeliveredError
from trimtab.engine.notifications import delivery
from trimtab.engine.notifications.delivery import Notifications

AWAY = "notify.fake: 127.0.0.1:9 cannot be reached"


def away(**more):
    """What a receiver says that is away."""
    return NotDeliveredError(AWAY, "unreachable", **more)


class Room:
    """A deliverer over fakes; `again` is the next start over the same store."""

    def __init__(self, *notifiers, memory=None, known=None, clock=None):
        self.notifiers = notifiers
        self.memory, self.known = memory or FakeMemory(), known or Known()
        self.clock, self.counts, self.shown = clock or FakeClock(), Counts(), []
        self.made = Notifications(
            notifiers, self.memory, self.known, self.clock, self.counts, self.shown.append, random.Random(1)
        )

    def again(self, *notifiers):
        self.memory.values = json.loads(json.dumps(self.memory.values))
        return Room(*(notifiers or self.notifiers), memory=self.memory, known=self.known, clock=self.clock)

    async def take(self, *notices):
        """Accept notices, whose incidents the store knows."""
        for notice in notices:
            self.known.put(notice.incident)
        await self.made.take(notices)

    async def pass_(self, seconds, until, step=1.0):
        """Let time pass in steps, at most so many seconds, until that is so."""
        async with asyncio.timeout(20):
            for _ in range(round(seconds / step)):
                for _ in range(5):
                    await asyncio.sleep(0.001)
                    if until():
                        return
                self.clock.tick(step)
        raise AssertionError(f"not so after {seconds} s of the clock")


@asynccontextmanager
async def running(*notifiers, room=None):
    """A room whose deliverer runs."""
    room = room or Room(*notifiers)
    await room.made.resume()
    task = asyncio.create_task(room.made.run())
    try:
        yield room
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await room.made.close()


async def test_each_receiver_is_told_what_happened():
    """From its begin to its end, with what it was told before; and all is counted."""
    a, b = FakeNotifier("a"), FakeNotifier("b")
    async with running(a, b) as room:
        for n, notice in enumerate((notice_of(), worse(), over()), 1):
            await room.take(notice)
            await a.until(lambda n=n: len(a.took) == n and len(b.took) == n)
    expected = [
        ("firing", ulid(1), []), ("worse", ulid(1), ["firing"]), ("resolved", ulid(1), ["firing", "worse"]),
    ]  # fmt: skip
    assert a.took == b.took == expected
    assert room.counts.sent.count(("b", "worse")) == 1
    assert room.counts.waiting == {"a": 0, "b": 0}
    assert room.made.problems() == []


async def test_a_receiver_that_hangs_keeps_nobody():
    """Neither the loop that hands notices over nor another receiver waits for it."""
    slow, quick = FakeNotifier("slow"), FakeNotifier("quick")
    slow.answers.append(asyncio.Event())
    async with running(slow, quick) as room:
        async with asyncio.timeout(5):
            await room.take(notice_of(1), notice_of(2))
        await quick.until(lambda: len(quick.took) == 2)
        assert slow.took == []
        room.made._ways[0].flying.cancel()


async def test_a_receiver_that_is_away_is_asked_again():
    """With growing, jittered pauses; what is wrong is said meanwhile, and not any more afterwards."""
    notifier = FakeNotifier()
    notifier.answers.extend(away() for _ in range(5))
    async with running(notifier) as room:
        await room.take(notice_of())
        await notifier.until(lambda: notifier.tries == 1)
        await notifier.until(lambda: room.made.problems() != [])
        assert room.made.problems() == [f"1 notice waits: {AWAY}"]
        begin = room.clock.now()
        await room.pass_(120, lambda: notifier.took)
        assert notifier.tries == 6
        assert 2 <= (room.clock.now() - begin) / SECOND <= 40
        await notifier.until(lambda: room.shown[-1] == "")
    assert room.counts.failed == [("fake", "unreachable")] * 5
    assert room.made.problems() == []


@pytest.mark.parametrize(("asked", "waits"), [(100.0, 100.0), (1e9, 3600.0)])
async def test_it_waits_as_long_as_the_receiver_asks(asked, waits):
    """A Retry-After is kept, but not one of years."""
    notifier = FakeNotifier()
    notifier.answers.append(away(after_s=asked))
    async with running(notifier) as room:
        await room.take(notice_of())
        await notifier.until(lambda: room.made.problems() != [])
        begin = room.clock.now()
        await room.pass_(4000, lambda: notifier.took, step=20)
    assert waits <= (room.clock.now() - begin) / SECOND <= waits + 40


async def test_what_a_receiver_refuses_is_dropped_and_shown():
    """It is not tried again; the next notice is."""
    notifier = FakeNotifier()
    notifier.answers.append(NotDeliveredError("notify.fake answers HTTP 400", "refused", retry=False))
    async with running(notifier) as room:
        await room.take(notice_of(1))
        await notifier.until(lambda: room.counts.dropped)
        await notifier.until(lambda: room.shown and "400" in room.shown[-1])
        assert room.made.problems() == ["the last was not told: notify.fake answers HTTP 400"]
        await room.take(notice_of(2))
        await notifier.until(lambda: len(notifier.took) == 1)
        await notifier.until(lambda: room.made.problems() == [])
    assert room.counts.dropped == [("fake", "refused")]


async def test_a_fault_of_ours_is_a_problem_and_ends_nothing():
    """A notifier that raises what it may not raise loses this notice only."""
    notifier = FakeNotifier()
    notifier.answers.append(KeyError("oops"))
    async with running(notifier) as room:
        await room.take(notice_of(1), notice_of(2))
        await notifier.until(lambda: notifier.took)
    assert room.counts.dropped == [("fake", "fault")]


async def test_nothing_is_tried_for_ever(monkeypatch):
    """After GIVE_UP_S a notice is dropped and counted."""
    monkeypatch.setattr(delivery, "GIVE_UP_S", 30.0)
    notifier = FakeNotifier()
    notifier.answers.extend(away() for _ in range(1000))
    async with running(notifier) as room:
        await room.take(notice_of())
        await room.pass_(60, lambda: room.counts.dropped)
    assert room.counts.dropped == [("fake", "unreachable")]


async def test_a_restart_repeats_nothing_and_loses_nothing():
    """What was told is not told again, what waits is told, though the sensing tells of it anew."""
    first, second = FakeNotifier(), FakeNotifier()
    first.answers.extend([None, *(away() for _ in range(100))])
    async with running(first) as room:
        await room.take(notice_of(1))
        await first.until(lambda: first.took)
        await room.take(notice_of(2))
        await first.until(lambda: first.tries >= 2)
    async with running(room=room.again(second)) as later:
        await later.take(notice_of(1), notice_of(2))
        await second.until(lambda: second.took)
        await later.take(over(1))
        await second.until(lambda: len(second.took) == 2)
    assert second.took == [("firing", ulid(2), []), ("resolved", ulid(1), ["firing"])]


async def test_an_orderly_end_lets_the_receiver_finish():
    """What is being sent is written down as told, so that the next start does not repeat it."""
    first, second, gate = FakeNotifier(), FakeNotifier(), asyncio.Event()
    first.answers.append(gate)
    async with running(first) as room:
        await room.take(notice_of())
        await first.until(lambda: first.tries == 1)
        asyncio.get_running_loop().call_later(0.05, gate.set)
    assert first.kinds == ["firing"]
    async with running(room=room.again(second)) as later:
        await later.take(notice_of())
        await asyncio.sleep(0.05)
    assert second.tries == 0


async def test_what_goes_on_is_repeated_for_who_wants_it():
    """Each repeat_s while it goes on, at once after a restart, and not when it is over."""
    notifier = FakeNotifier(repeat_s=60.0)
    async with running(notifier) as room:
        await room.take(notice_of())
        await notifier.until(lambda: len(notifier.took) == 1)
        await room.pass_(125, lambda: len(notifier.took) == 3)
        assert room.counts.sent == [("fake", "firing")]
    again = FakeNotifier(repeat_s=60.0)
    async with running(room=room.again(again)) as later:
        await again.until(lambda: len(again.took) == 1)
        await later.take(over())
        await again.until(lambda: len(again.took) == 2)
        for _ in range(20):
            later.clock.tick(30)
            await asyncio.sleep(0.002)
    assert again.kinds == ["firing", "resolved"]


async def test_a_store_that_fails_is_said_and_tried_again():
    """People are told all the same, and what was told is written down once the store takes it."""
    notifier = FakeNotifier()
    async with running(notifier) as room:
        room.memory.broken = "the disk is full"
        await room.take(notice_of())
        await notifier.until(lambda: notifier.took)
        assert "the disk is full" in room.made.problems()[0]
        room.memory.broken = ""
        await room.pass_(70, lambda: not room.made.problems())
    second = FakeNotifier()
    async with running(room=room.again(second)) as later:
        await later.take(notice_of())
        await asyncio.sleep(0.05)
    assert second.tries == 0


@pytest.mark.parametrize("how", ["resolved", "merged and resolved"])
async def test_what_ended_without_a_notice_is_told_to_be_over(how):
    """As after a kill, when nobody remembers that it was told; also where another incident took it over."""
    notifier = FakeNotifier()
    async with running(notifier) as room:
        await room.take(notice_of(1))
        await notifier.until(lambda: notifier.took)
        incident = notice_of(1).incident
        if how == "resolved":
            room.known.put(over(1).incident)
        else:
            room.known.put(replace(incident, merged_into=ulid(2)))
            room.known.put(over(2).incident)
        await room.pass_(130, lambda: len(notifier.took) == 2, step=5)
    assert notifier.took[-1] == ("resolved", ulid(1), ["firing"])


async def test_unknown_is_not_over():
    """Neither a store that does not answer nor an incident that it does not have ends what was told."""
    notifier = FakeNotifier()
    async with running(notifier) as room:
        await room.take(notice_of(1))
        await notifier.until(lambda: notifier.took)
        room.known.incidents.clear()
        await room.pass_(160, lambda: room.clock.now() > 125 * SECOND + notice_of().time, step=5)
        room.known.down = True
        await room.pass_(160, lambda: room.clock.now() > 250 * SECOND + notice_of().time, step=5)
    assert notifier.kinds == ["firing"]


async def test_who_took_an_incident_over_ends_it():
    """After a merge the trouble is over when the other incident is."""
    notifier = FakeNotifier()
    async with running(notifier) as room:
        await room.take(notice_of(1))
        await notifier.until(lambda: notifier.took)
        room.known.put(replace(notice_of(1).incident, merged_into=ulid(2)))
        room.known.put(notice_of(2).incident)
        thread = next(iter(room.made._ways[0].book.threads.values()))
        await room.pass_(130, lambda: thread.members == [ulid(2)], step=5)
        await room.take(over(2, print_=thread.fingerprint))
        await notifier.until(lambda: len(notifier.took) == 2)
    assert notifier.kinds == ["firing", "resolved"]


async def test_a_state_that_cannot_be_read_is_forgotten():
    """Another version's, or a broken one, ends no engine."""
    room = Room(FakeNotifier())
    for state in ({"version": 0}, {"version": 1, "told": {"fake": [{"members": 3}]}}, "x"):
        room.memory.values[delivery.STATE] = state
        await room.made.resume()
    assert room.made._ways[0].book.threads == {}
