"""Delivers notices of incidents to each receiver: durable, once, again with patience, beside the loops."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from trimtab.engine.errors import NotDeliveredError, NotFoundError, StoreError
from trimtab.engine.notifications.outbox import Book, Thread
from trimtab.engine.ports import Clock, Memory, Notifier
from trimtab.engine.redaction import clean_text
from trimtab.engine.types import Incident, IncidentState, Notice, NoticeKind

log = structlog.get_logger(__name__)

STATE, VERSION = "services/notifications", 1
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 300.0
GIVE_UP_S = 6 * 3600.0
"""A notice that no try brought over in so long is dropped, counted and shown."""
LONGEST_ASKED_S = 3600.0
"""A receiver that asks for more patience than this is asked again all the same."""
FOLLOW_S = 60.0
"""Between looks at what ended without a notice."""
CLOSE_S = 5.0
_FAR = 1 << 62


class NoticeMetrics(Protocol):
    """Where deliveries are counted."""

    def notice_sent(self, notifier: str, kind: str) -> None:
        """A receiver took a notice."""
        ...

    def notice_failed(self, notifier: str, reason: str) -> None:
        """A try failed."""
        ...

    def notice_dropped(self, notifier: str, reason: str) -> None:
        """A notice was given up."""
        ...

    def notices_waiting(self, notifier: str, n: int) -> None:
        """How many notices wait for a receiver."""
        ...


@dataclass(slots=True)
class _Way:
    """One receiver: what it knows, what is wrong with it, and who wakes its worker."""

    notifier: Notifier
    book: Book = field(default_factory=Book)
    problem: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    flying: asyncio.Task[None] | None = None


class Notifications:
    """Takes notices and brings each to every receiver, each with a queue and a worker of its own.

    memory   : where it is kept what was told and what waits
    incident : an incident as it is now; blocks, is asked in a thread, raises NotFoundError
    show     : told in words what is wrong whenever that changes; "" = all is well

    What was told is written down right after the receiver took it: a kill -9 between the two makes one
    repetition (with the same Message-ID, webhook-id or alert), a notice that was written down is never sent
    again, and one that was taken here is never lost.
    """

    def __init__(
        self,
        notifiers: Sequence[Notifier],
        memory: Memory,
        incident: Callable[[str], Incident],
        clock: Clock,
        metrics: NoticeMetrics,
        show: Callable[[str], None] = lambda _: None,
        jitter: random.Random | None = None,
    ) -> None:
        self._ways = [_Way(notifier) for notifier in notifiers]
        self._memory = memory
        self._incident = incident
        self._clock = clock
        self._metrics = metrics
        self._show = show
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._writing = asyncio.Lock()
        self._unkept = ""
        """Why the store did not take the newest state; "" = it did."""

    async def resume(self) -> None:
        """Go on where it was. Raises StoreError."""
        state = await asyncio.to_thread(self._memory.get, STATE)
        if not isinstance(state, dict) or state.get("version") != VERSION:
            return
        for way in self._ways:
            try:
                way.book.restore(state["told"].get(way.notifier.name, []))
            except (KeyError, TypeError, ValueError):
                log.exception("what was told cannot be read, it is forgotten", notifier=way.notifier.name)

    async def take(self, notices: Sequence[Notice]) -> None:
        """Accept notices; they are durable when it returns, unless the store fails. Raises nothing."""
        now = self._clock.now()
        changed = [way for way in self._ways for notice in notices if way.book.take(notice, now)]
        if not changed:
            return
        await self._keep()
        for way in changed:
            self._metrics.notices_waiting(way.notifier.name, way.book.waiting)
            way.news.set()

    async def run(self) -> None:
        """Deliver, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for way in self._ways:
                group.create_task(self._work(way), name=f"notifier {way.notifier.name}")
            group.create_task(self._follow(), name="notifications")

    async def close(self) -> None:
        """Let what is being sent end, for at most CLOSE_S seconds; what waits goes on at the next start."""
        flying = [way.flying for way in self._ways if way.flying is not None and not way.flying.done()]
        if flying:
            _, late = await asyncio.wait(flying, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for way in self._ways:
            await way.notifier.close()

    def problems(self) -> list[str]:
        """What people are not told, and why; one line a receiver."""
        found = [self._unkept] if self._unkept else []
        for way in self._ways:
            if way.problem:
                n = way.book.waiting
                waits = (
                    f"{n} {'notice waits' if n == 1 else 'notices wait'}: "
                    if n
                    else "the last was not told: "
                )
                found.append(waits + way.problem)
        return found

    async def _work(self, way: _Way) -> None:
        while True:
            way.news.clear()
            thread = min(way.book.threads.values(), key=lambda one: _due(one, way.notifier), default=None)
            due = _FAR if thread is None else _due(thread, way.notifier)
            if thread is None or due > self._clock.now():
                await self._until(due, way.news)
                continue
            way.flying = asyncio.create_task(self._tell(way, thread))
            await asyncio.shield(way.flying)  # a receiver that has taken it is written down even at the end

    async def _until(self, due: int, news: asyncio.Event) -> None:
        """Wait for news, but not longer than until `due`."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(news.wait())]
        if due < _FAR:
            waits.append(asyncio.create_task(self._clock.sleep_until(due)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _tell(self, way: _Way, thread: Thread) -> None:
        """One try of what waits first, or of what is repeated because it goes on."""
        notifier, now = way.notifier, self._clock.now()
        waits = bool(thread.waiting)
        notice = thread.waiting[0][1] if waits else replace(thread.told[-1], time=now)
        try:
            await notifier.notify(notice, tuple(thread.told))
        except NotDeliveredError as error:
            await self._failed(way, thread, error, waits=waits)
            return
        except Exception as error:
            log.exception("a notice cannot be made", notifier=notifier.name, incident=notice.incident.id)
            fault = f"{notifier.name}: {type(error).__name__} inside Trimtab; the log has more"
            await self._failed(way, thread, NotDeliveredError(fault, "fault", retry=False), waits=waits)
            return
        self._say(way, "")
        if waits:
            way.book.taken(thread, self._clock.now())
            await self._account(way)
            self._metrics.notice_sent(notifier.name, notice.kind)
            log.info("told", notifier=notifier.name, kind=notice.kind, incident=notice.incident.id)
        self._repeat_later(way, thread)

    async def _failed(self, way: _Way, thread: Thread, error: NotDeliveredError, *, waits: bool) -> None:
        name, now = way.notifier.name, self._clock.now()
        self._metrics.notice_failed(name, error.reason)
        if not waits:
            self._repeat_later(way, thread)
            self._say(way, clean_text(str(error)))
            return
        longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(thread.tries, 20))
        again = now + int(1e9 * max(self._jitter.uniform(0, longest), min(error.after_s, LONGEST_ASKED_S)))
        came, notice = thread.waiting[0]
        if error.retry and again <= came + int(GIVE_UP_S * 1e9):
            thread.tries, thread.due = thread.tries + 1, again
        else:
            way.book.given_up(thread, now)
            self._metrics.notice_dropped(name, error.reason)
            log.error("a notice is given up", notifier=name, kind=notice.kind, incident=notice.incident.id)
            await self._account(way)
        self._say(way, clean_text(str(error)))

    def _repeat_later(self, way: _Way, thread: Thread) -> None:
        if way.notifier.repeat_s is not None and thread.goes_on:
            thread.due = self._clock.now() + int(way.notifier.repeat_s * 1e9)

    async def _account(self, way: _Way) -> None:
        self._metrics.notices_waiting(way.notifier.name, way.book.waiting)
        await self._keep()

    def _say(self, way: _Way, problem: str) -> None:
        """One line each time that the trouble changes, not one a try."""
        before, way.problem = way.problem, problem
        if problem and problem != before:
            log.warning("people are not told", notifier=way.notifier.name, why=problem)
        elif before and not problem:
            log.info("people are told again", notifier=way.notifier.name)
        self._show("; ".join(self.problems()))

    async def _keep(self) -> None:
        """Write down what was told and what waits; where the store fails, that is done later."""
        async with self._writing:
            state = {"version": VERSION, "told": {way.notifier.name: way.book.state() for way in self._ways}}
            try:
                await asyncio.to_thread(self._memory.set, STATE, state)
            except StoreError as error:
                if not self._unkept:
                    log.warning("what was told cannot be kept, trying again", error=str(error))
                self._unkept = f"what was told cannot be kept, a restart may repeat it: {error}"
            else:
                self._unkept = ""
        self._show("; ".join(self.problems()))

    async def _follow(self) -> None:
        """Now and then: what ended or was merged without a notice, as over a restart; what was not kept."""
        while True:
            now = self._clock.now()
            for way in self._ways:
                await self._look(way, now)
                way.book.forget(now)
            if self._unkept:
                await self._keep()
            await self._clock.sleep_until(now + int(FOLLOW_S * 1e9))

    async def _look(self, way: _Way, now: int) -> None:
        for thread, incident_id in way.book.members():
            try:
                incident = await self._now(incident_id)
            except (NotFoundError, StoreError):
                continue  # not known is not over
            if incident.state is IncidentState.RESOLVED:
                over = replace(incident, id=incident_id)
                await self.take([Notice(NoticeKind.RESOLVED, over, thread.fingerprint, now, "It is over.")])
            else:
                followed = (incident.id if one == incident_id else one for one in thread.members)
                thread.members = list(dict.fromkeys(followed))

    async def _now(self, incident_id: str) -> Incident:
        """The incident, or the one that took it over. Raises NotFoundError, StoreError."""
        seen = {incident_id}
        incident = await asyncio.to_thread(self._incident, incident_id)
        while incident.merged_into is not None and incident.merged_into not in seen:
            seen.add(incident.merged_into)
            incident = await asyncio.to_thread(self._incident, incident.merged_into)
        return incident


def _due(thread: Thread, notifier: Notifier) -> int:
    """When its next try is due, int64 ns; far away where there is nothing to tell."""
    if thread.waiting:
        return thread.due if thread.tries else 0  # without a failure `due` is of the repetition
    return thread.due if notifier.repeat_s is not None and thread.goes_on else _FAR
