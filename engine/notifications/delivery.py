"""Delivers notices of incidents to each receiver: durable, once, again with patience, beside the loops."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from trimtab.engine.errors import NotDeliveredError, NotFoundError, StoreError
from trimtab.engine.notifications.outbox import NotificationThread, Outbox
from trimtab.engine.ports import Clock, KeyValueStore, Notifier
from trimtab.engine.redaction import redact_text
from trimtab.engine.types import Incident, IncidentState, Notice, NoticeKind

log = structlog.get_logger(__name__)

STATE_KEY, VERSION = "services/notifications", 1
FIRST_RETRY_S, MAX_RETRY_S = 1.0, 300.0
GIVE_UP_S = 6 * 3600.0
"""A notice that no try brought over in so long is dropped, counted and shown."""
MAX_RETRY_AFTER_S = 3600.0
"""A receiver that asks for more patience than this is asked again all the same."""
FOLLOW_UP_S = 60.0
"""Between looks at what ended without a notice."""
CLOSE_S = 5.0
_NEVER = 1 << 62


class NotificationMetrics(Protocol):
    """Where deliveries are counted."""

    def count_notice_sent(self, notifier: str, kind: str) -> None:
        """A receiver took a notice."""
        ...

    def count_notice_failed(self, notifier: str, reason: str) -> None:
        """A try failed."""
        ...

    def count_notice_dropped(self, notifier: str, reason: str) -> None:
        """A notice was given up."""
        ...

    def set_notices_waiting(self, notifier: str, n: int) -> None:
        """How many notices wait for a receiver."""
        ...


@dataclass(slots=True)
class _ChannelState:
    """One receiver: what it knows, what is wrong with it, and who wakes its worker."""

    notifier: Notifier
    outbox: Outbox = field(default_factory=Outbox)
    problem: str = ""
    wake_up: asyncio.Event = field(default_factory=asyncio.Event)
    sending: asyncio.Task[None] | None = None


class NotificationDelivery:
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
        state_store: KeyValueStore,
        get_incident: Callable[[str], Incident],
        clock: Clock,
        metrics: NotificationMetrics,
        on_problem: Callable[[str], None] = lambda _: None,
        jitter: random.Random | None = None,
    ) -> None:
        self._channels = [_ChannelState(notifier) for notifier in notifiers]
        self._state_store = state_store
        self._get_incident = get_incident
        self._clock = clock
        self._metrics = metrics
        self._on_problem = on_problem
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._save_lock = asyncio.Lock()
        self._save_problem = ""
        """Why the store did not take the newest state; "" = it did."""

    async def restore(self) -> None:
        """Go on where it was. Raises StoreError."""
        state = await asyncio.to_thread(self._state_store.get, STATE_KEY)
        if not isinstance(state, dict) or state.get("version") != VERSION:
            return
        for way in self._channels:
            try:
                way.outbox.restore(state["told"].get(way.notifier.name, []))
            except (KeyError, TypeError, ValueError):
                log.exception("what was told cannot be read, it is forgotten", notifier=way.notifier.name)

    async def enqueue(self, notices: Sequence[Notice]) -> None:
        """Accept notices; they are durable when it returns, unless the store fails. Raises nothing."""
        now = self._clock.now()
        changed = [way for way in self._channels for notice in notices if way.outbox.enqueue(notice, now)]
        if not changed:
            return
        await self._save()
        for way in changed:
            self._metrics.set_notices_waiting(way.notifier.name, way.outbox.waiting_count)
            way.wake_up.set()

    async def run(self) -> None:
        """Deliver, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for way in self._channels:
                group.create_task(self._deliver_loop(way), name=f"notifier {way.notifier.name}")
            group.create_task(self._follow_up_loop(), name="notifications")

    async def close(self) -> None:
        """Let what is being sent end, for at most CLOSE_S seconds; what waits goes on at the next start."""
        flying = [way.sending for way in self._channels if way.sending is not None and not way.sending.done()]
        if flying:
            _, late = await asyncio.wait(flying, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for way in self._channels:
            await way.notifier.close()

    def problems(self) -> list[str]:
        """What people are not told, and why; one line a receiver."""
        found = [self._save_problem] if self._save_problem else []
        for way in self._channels:
            if way.problem:
                n = way.outbox.waiting_count
                waits = (
                    f"{n} {'notice waits' if n == 1 else 'notices wait'}: "
                    if n
                    else "the last was not told: "
                )
                found.append(waits + way.problem)
        return found

    async def _deliver_loop(self, way: _ChannelState) -> None:
        while True:
            way.wake_up.clear()
            thread = min(
                way.outbox.threads.values(), key=lambda one: _next_due(one, way.notifier), default=None
            )
            due = _NEVER if thread is None else _next_due(thread, way.notifier)
            if thread is None or due > self._clock.now():
                await self._wait_until(due, way.wake_up)
                continue
            way.sending = asyncio.create_task(self._try_delivery(way, thread))
            await asyncio.shield(way.sending)  # a receiver that has taken it is written down even at the end

    async def _wait_until(self, due: int, news: asyncio.Event) -> None:
        """Wait for news, but not longer than until `due`."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(news.wait())]
        if due < _NEVER:
            waits.append(asyncio.create_task(self._clock.sleep_until(due)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _try_delivery(self, way: _ChannelState, thread: NotificationThread) -> None:
        """One try of what waits first, or of what is repeated because it goes on."""
        notifier, now = way.notifier, self._clock.now()
        waits = bool(thread.waiting)
        notice = thread.waiting[0][1] if waits else replace(thread.sent[-1], time=now)
        try:
            await notifier.notify(notice, tuple(thread.sent))
        except NotDeliveredError as error:
            await self._record_failure(way, thread, error, waits=waits)
            return
        except Exception as error:
            log.exception("a notice cannot be made", notifier=notifier.name, incident=notice.incident.id)
            fault = f"{notifier.name}: {type(error).__name__} inside Trimtab; the log has more"
            await self._record_failure(
                way, thread, NotDeliveredError(fault, "fault", retry=False), waits=waits
            )
            return
        self._set_problem(way, "")
        if waits:
            way.outbox.mark_sent(thread, self._clock.now())
            await self._save_and_count(way)
            self._metrics.count_notice_sent(notifier.name, notice.kind)
            log.info("told", notifier=notifier.name, kind=notice.kind, incident=notice.incident.id)
        self._schedule_repetition(way, thread)

    async def _record_failure(
        self, way: _ChannelState, thread: NotificationThread, error: NotDeliveredError, *, waits: bool
    ) -> None:
        name, now = way.notifier.name, self._clock.now()
        self._metrics.count_notice_failed(name, error.reason)
        if not waits:
            self._schedule_repetition(way, thread)
            self._set_problem(way, redact_text(str(error)))
            return
        longest = min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(thread.attempts, 20))
        again = now + int(1e9 * max(self._jitter.uniform(0, longest), min(error.after_s, MAX_RETRY_AFTER_S)))
        came, notice = thread.waiting[0]
        if error.retry and again <= came + int(GIVE_UP_S * 1e9):
            thread.attempts, thread.due_at = thread.attempts + 1, again
        else:
            way.outbox.mark_dropped(thread, now)
            self._metrics.count_notice_dropped(name, error.reason)
            log.error("a notice is given up", notifier=name, kind=notice.kind, incident=notice.incident.id)
            await self._save_and_count(way)
        self._set_problem(way, redact_text(str(error)))

    def _schedule_repetition(self, way: _ChannelState, thread: NotificationThread) -> None:
        if way.notifier.repeat_s is not None and thread.is_ongoing:
            thread.due_at = self._clock.now() + int(way.notifier.repeat_s * 1e9)

    async def _save_and_count(self, way: _ChannelState) -> None:
        self._metrics.set_notices_waiting(way.notifier.name, way.outbox.waiting_count)
        await self._save()

    def _set_problem(self, way: _ChannelState, problem: str) -> None:
        """One line each time that the trouble changes, not one a try."""
        before, way.problem = way.problem, problem
        if problem and problem != before:
            log.warning("people are not told", notifier=way.notifier.name, why=problem)
        elif before and not problem:
            log.info("people are told again", notifier=way.notifier.name)
        self._on_problem("; ".join(self.problems()))

    async def _save(self) -> None:
        """Write down what was told and what waits; where the store fails, that is done later."""
        async with self._save_lock:
            state = {
                "version": VERSION,
                "told": {way.notifier.name: way.outbox.state() for way in self._channels},
            }
            try:
                await asyncio.to_thread(self._state_store.set, STATE_KEY, state)
            except StoreError as error:
                if not self._save_problem:
                    log.warning("what was told cannot be kept, trying again", error=str(error))
                self._save_problem = f"what was told cannot be kept, a restart may repeat it: {error}"
            else:
                self._save_problem = ""
        self._on_problem("; ".join(self.problems()))

    async def _follow_up_loop(self) -> None:
        """Now and then: what ended or was merged without a notice, as over a restart; what was not kept."""
        while True:
            now = self._clock.now()
            for way in self._channels:
                await self._follow_up(way, now)
                way.outbox.remove_expired(now)
            if self._save_problem:
                await self._save()
            await self._clock.sleep_until(now + int(FOLLOW_UP_S * 1e9))

    async def _follow_up(self, way: _ChannelState, now: int) -> None:
        for thread, incident_id in way.outbox.open_incidents():
            try:
                incident = await self._current_incident(incident_id)
            except (NotFoundError, StoreError):
                continue  # not known is not over
            if incident.state is IncidentState.RESOLVED:
                over = replace(incident, id=incident_id)
                await self.enqueue(
                    [Notice(NoticeKind.RESOLVED, over, thread.fingerprint, now, "It is over.")]
                )
            else:
                followed = (incident.id if one == incident_id else one for one in thread.open_incident_ids)
                thread.open_incident_ids = list(dict.fromkeys(followed))

    async def _current_incident(self, incident_id: str) -> Incident:
        """The incident, or the one that took it over. Raises NotFoundError, StoreError."""
        seen = {incident_id}
        incident = await asyncio.to_thread(self._get_incident, incident_id)
        while incident.merged_into is not None and incident.merged_into not in seen:
            seen.add(incident.merged_into)
            incident = await asyncio.to_thread(self._get_incident, incident.merged_into)
        return incident


def _next_due(thread: NotificationThread, notifier: Notifier) -> int:
    """When its next try is due, int64 ns; far away where there is nothing to tell."""
    if thread.waiting:
        return thread.due_at if thread.attempts else 0  # without a failure `due` is of the repetition
    return thread.due_at if notifier.repeat_s is not None and thread.is_ongoing else _NEVER
