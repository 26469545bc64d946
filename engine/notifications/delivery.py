"""Notification delivery: durable queues, one per channel, with retries, repetition and deduplication."""

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
"""A notification that cannot be delivered within this time is dropped and counted."""
MAX_RETRY_AFTER_S = 3600.0
"""Upper limit for the Retry-After of a receiver."""
FOLLOW_UP_S = 60.0
"""Interval of the check for incidents that ended without a notification."""
CLOSE_S = 5.0
_NEVER = 1 << 62


class NotificationMetrics(Protocol):
    """Metrics of deliveries."""

    def count_notice_sent(self, notifier: str, kind: str) -> None:
        """Count a delivered notification."""
        ...

    def count_notice_failed(self, notifier: str, reason: str) -> None:
        """Count a failed attempt."""
        ...

    def count_notice_dropped(self, notifier: str, reason: str) -> None:
        """Count a dropped notification."""
        ...

    def set_notices_waiting(self, notifier: str, n: int) -> None:
        """Set the number of notifications waiting for a channel."""
        ...


@dataclass(slots=True)
class _ChannelState:
    """One channel: its outbox, its current problem, its wake-up event and the delivery in progress."""

    notifier: Notifier
    outbox: Outbox = field(default_factory=Outbox)
    problem: str = ""
    wake_up: asyncio.Event = field(default_factory=asyncio.Event)
    sending: asyncio.Task[None] | None = None


class NotificationDelivery:
    """Delivers notifications to every channel; each channel has its own queue and worker.

    notifiers    : the channels
    state_store  : stores sent and waiting notifications across restarts
    get_incident : returns the current state of an incident by id; blocking, called in a thread; raises
                   NotFoundError
    clock        : time and sleeping
    metrics      : counts deliveries
    on_problem   : called with a description whenever a delivery problem changes; "" = no problem
    jitter       : random generator for retry delays

    The state is saved after each accepted delivery. A kill -9 between delivery and save causes one
    repetition (with the same Message-ID, webhook-id or alert). A saved notification is never sent again,
    and an enqueued one is never lost.
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
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, not for security
        self._save_lock = asyncio.Lock()
        self._save_problem = ""
        """Why the newest state could not be saved; "" if it was saved."""

    async def restore(self) -> None:
        """Restore the saved state; unreadable parts are logged and discarded. Raises StoreError."""
        state = await asyncio.to_thread(self._state_store.get, STATE_KEY)
        if not isinstance(state, dict) or state.get("version") != VERSION:
            return
        for channel in self._channels:
            try:
                channel.outbox.restore(state["told"].get(channel.notifier.name, []))
            except (KeyError, TypeError, ValueError):
                log.exception("notification_state_unreadable", notifier=channel.notifier.name)

    async def enqueue(self, notices: Sequence[Notice]) -> None:
        """Enqueue notifications durably. A failure of the store is reported as a problem, not raised."""
        now = self._clock.now()
        changed = [
            channel for channel in self._channels for notice in notices if channel.outbox.enqueue(notice, now)
        ]
        if not changed:
            return
        await self._save()
        for channel in changed:
            self._metrics.set_notices_waiting(channel.notifier.name, channel.outbox.waiting_count)
            channel.wake_up.set()

    async def run(self) -> None:
        """Deliver notifications until cancelled."""
        async with asyncio.TaskGroup() as group:
            for channel in self._channels:
                group.create_task(self._deliver_loop(channel), name=f"notifier {channel.notifier.name}")
            group.create_task(self._follow_up_loop(), name="notifications")

    async def close(self) -> None:
        """Wait at most CLOSE_S seconds for running deliveries, then close the channels."""
        running = [
            channel.sending
            for channel in self._channels
            if channel.sending is not None and not channel.sending.done()
        ]
        if running:
            _, unfinished = await asyncio.wait(running, timeout=CLOSE_S)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        for channel in self._channels:
            await channel.notifier.close()

    def problems(self) -> list[str]:
        """List the delivery problems, one line per channel."""
        problems = [self._save_problem] if self._save_problem else []
        for channel in self._channels:
            if channel.problem:
                n = channel.outbox.waiting_count
                prefix = (
                    f"{n} notification{'' if n == 1 else 's'} waiting: "
                    if n
                    else "the last notification failed: "
                )
                problems.append(prefix + channel.problem)
        return problems

    async def _deliver_loop(self, channel: _ChannelState) -> None:
        while True:
            channel.wake_up.clear()
            thread = min(
                channel.outbox.threads.values(),
                key=lambda candidate: _next_due(candidate, channel.notifier),
                default=None,
            )
            due = _NEVER if thread is None else _next_due(thread, channel.notifier)
            if thread is None or due > self._clock.now():
                await self._wait_until(due, channel.wake_up)
                continue
            channel.sending = asyncio.create_task(self._try_delivery(channel, thread))
            await asyncio.shield(channel.sending)  # an accepted delivery is saved even during shutdown

    async def _wait_until(self, due: int, event: asyncio.Event) -> None:
        """Wait for the wake-up event, but at most until `due`, int64 ns."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(event.wait())]
        if due < _NEVER:
            waits.append(asyncio.create_task(self._clock.sleep_until(due)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _try_delivery(self, channel: _ChannelState, thread: NotificationThread) -> None:
        """Try once to deliver the first waiting notification, or the repetition of an ongoing one."""
        notifier, now = channel.notifier, self._clock.now()
        is_waiting = bool(thread.waiting)
        notice = thread.waiting[0][1] if is_waiting else replace(thread.sent[-1], time=now)
        try:
            await notifier.notify(notice, tuple(thread.sent))
        except NotDeliveredError as error:
            await self._record_failure(channel, thread, error, is_waiting=is_waiting)
            return
        except Exception as error:
            log.exception(
                "notification_failed_internally", notifier=notifier.name, incident=notice.incident.id
            )
            message = f"{notifier.name}: internal error {type(error).__name__}; see the log for details"
            await self._record_failure(
                channel, thread, NotDeliveredError(message, "fault", retry=False), is_waiting=is_waiting
            )
            return
        self._set_problem(channel, "")
        if is_waiting:
            channel.outbox.mark_sent(thread, self._clock.now())
            await self._save_and_count(channel)
            self._metrics.count_notice_sent(notifier.name, notice.kind)
            log.info(
                "notification_delivered",
                notifier=notifier.name,
                kind=notice.kind,
                incident=notice.incident.id,
            )
        self._schedule_repetition(channel, thread)

    async def _record_failure(
        self,
        channel: _ChannelState,
        thread: NotificationThread,
        error: NotDeliveredError,
        *,
        is_waiting: bool,
    ) -> None:
        name, now = channel.notifier.name, self._clock.now()
        self._metrics.count_notice_failed(name, error.reason)
        if not is_waiting:
            self._schedule_repetition(channel, thread)
            self._set_problem(channel, redact_text(str(error)))
            return
        max_delay_s = min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(thread.attempts, 20))
        retry_at = now + int(
            1e9 * max(self._jitter.uniform(0, max_delay_s), min(error.after_s, MAX_RETRY_AFTER_S))
        )
        enqueued_at, notice = thread.waiting[0]
        if error.retry and retry_at <= enqueued_at + int(GIVE_UP_S * 1e9):
            thread.attempts, thread.due_at = thread.attempts + 1, retry_at
        else:
            channel.outbox.mark_dropped(thread, now)
            self._metrics.count_notice_dropped(name, error.reason)
            log.error("notification_dropped", notifier=name, kind=notice.kind, incident=notice.incident.id)
            await self._save_and_count(channel)
        self._set_problem(channel, redact_text(str(error)))

    def _schedule_repetition(self, channel: _ChannelState, thread: NotificationThread) -> None:
        if channel.notifier.repeat_s is not None and thread.is_ongoing:
            thread.due_at = self._clock.now() + int(channel.notifier.repeat_s * 1e9)

    async def _save_and_count(self, channel: _ChannelState) -> None:
        self._metrics.set_notices_waiting(channel.notifier.name, channel.outbox.waiting_count)
        await self._save()

    def _set_problem(self, channel: _ChannelState, problem: str) -> None:
        """Record the channel's problem ("" = none); log only changes, not every attempt."""
        previous, channel.problem = channel.problem, problem
        if problem and problem != previous:
            log.warning("notification_channel_failing", notifier=channel.notifier.name, reason=problem)
        elif previous and not problem:
            log.info("notification_channel_recovered", notifier=channel.notifier.name)
        self._on_problem("; ".join(self.problems()))

    async def _save(self) -> None:
        """Save sent and waiting notifications; if the store fails, record the problem and retry later."""
        async with self._save_lock:
            state = {
                "version": VERSION,
                "told": {channel.notifier.name: channel.outbox.state() for channel in self._channels},
            }
            try:
                await asyncio.to_thread(self._state_store.set, STATE_KEY, state)
            except StoreError as error:
                if not self._save_problem:
                    log.warning("notification_state_save_failed", error=str(error))
                self._save_problem = (
                    f"the delivery state cannot be saved, so a restart may repeat notifications: {error}"
                )
            else:
                self._save_problem = ""
        self._on_problem("; ".join(self.problems()))

    async def _follow_up_loop(self) -> None:
        """Periodically follow up ended and merged incidents, expire old threads, and retry a failed save."""
        while True:
            now = self._clock.now()
            for channel in self._channels:
                await self._follow_up(channel, now)
                channel.outbox.remove_expired(now)
            if self._save_problem:
                await self._save()
            await self._clock.sleep_until(now + int(FOLLOW_UP_S * 1e9))

    async def _follow_up(self, channel: _ChannelState, now: int) -> None:
        for thread, incident_id in channel.outbox.open_incidents():
            try:
                incident = await self._current_incident(incident_id)
            except (NotFoundError, StoreError):
                continue  # an unknown incident is not a resolved one
            if incident.state is IncidentState.RESOLVED:
                resolved = replace(incident, id=incident_id)
                await self.enqueue(
                    [
                        Notice(
                            NoticeKind.RESOLVED,
                            resolved,
                            thread.fingerprint,
                            now,
                            "The incident is resolved.",
                        )
                    ]
                )
            else:
                incident_ids = (
                    incident.id if other_id == incident_id else other_id
                    for other_id in thread.open_incident_ids
                )
                thread.open_incident_ids = list(dict.fromkeys(incident_ids))

    async def _current_incident(self, incident_id: str) -> Incident:
        """Return the incident, or the one it was merged into. Raises NotFoundError, StoreError."""
        visited = {incident_id}
        incident = await asyncio.to_thread(self._get_incident, incident_id)
        while incident.merged_into is not None and incident.merged_into not in visited:
            visited.add(incident.merged_into)
            incident = await asyncio.to_thread(self._get_incident, incident.merged_into)
        return incident


def _next_due(thread: NotificationThread, notifier: Notifier) -> int:
    """Return when the next attempt of a thread is due, int64 ns; _NEVER if there is nothing to send."""
    if thread.waiting:
        # Before the first failure, due_at belongs to the repetition.
        return thread.due_at if thread.attempts else 0
    return thread.due_at if notifier.repeat_s is not None and thread.is_ongoing else _NEVER
