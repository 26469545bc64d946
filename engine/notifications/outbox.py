"""Outbox of one channel: sent and waiting notifications, and which are sent again. No I/O, no clock."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trimtab.engine.notifications.notice_json import notice_from_dict, notice_to_dict, trim_notice
from trimtab.engine.types import Notice, NoticeKind, Severity

QUIET_PERIOD_NS = 1_800_000_000_000
"""After an incident is resolved, a recurrence is not notified within this time unless it is more severe."""
MIN_SEVERITY_INCREASE = 0.1
"""A recurrence is notified early if its severity is larger by at least this much."""
MAX_SENT_KEPT = 4
MAX_THREADS = 1000


@dataclass(slots=True)
class NotificationThread:
    """Notifications with one fingerprint, as known to one channel. Times are int64 ns of the engine's clock.

    open_incident_ids : ids of its incidents that are not resolved
    sent              : accepted notifications, oldest first; the first one determines the identity
    waiting           : (enqueue time, notification), oldest first
    resolved_at       : when the receiver accepted the resolution; None = not resolved
    attempts          : consecutive failures of the first waiting notification
    due_at            : time of the next attempt or of the next repetition
    """

    fingerprint: str
    open_incident_ids: list[str] = field(default_factory=list)
    sent: list[Notice] = field(default_factory=list)
    waiting: list[tuple[int, Notice]] = field(default_factory=list)
    resolved_at: int | None = None
    attempts: int = 0
    due_at: int = 0

    @property
    def is_ongoing(self) -> bool:
        """Return whether the receiver knows of an open incident and nothing is waiting."""
        return (
            bool(self.sent) and bool(self.open_incident_ids) and self.resolved_at is None and not self.waiting
        )

    @property
    def notices(self) -> list[Notice]:
        """Sent and waiting notifications, oldest first."""
        return [*self.sent, *(notice for _, notice in self.waiting)]

    @property
    def is_critical(self) -> bool:
        """Return whether a sent or waiting notification is critical."""
        return any(notice.incident.level is Severity.CRITICAL for notice in self.notices)

    def max_severity(self) -> float:
        """Return the largest severity of sent and waiting notifications; -1.0 if there are none."""
        return max((notice.incident.severity for notice in self.notices), default=-1.0)

    def has_notice(self, kind: NoticeKind, incident_id: str) -> bool:
        """Return whether a notification of this kind for this incident was sent or is waiting."""
        return any(notice.kind is kind and notice.incident.id == incident_id for notice in self.notices)


class Outbox:
    """The notification threads of one channel, by fingerprint."""

    def __init__(self) -> None:
        self.threads: dict[str, NotificationThread] = {}

    def enqueue(self, notice: Notice, now: int) -> bool:
        """Enqueue a notification at `now` (int64 ns), except repetitions; return whether it changed."""
        notice = trim_notice(notice)
        thread = self.threads.get(notice.fingerprint)
        match notice.kind:
            case NoticeKind.RESOLVED:
                return thread is not None and self._enqueue_resolved(thread, notice, now)
            case NoticeKind.WORSE:
                return self._enqueue_worse(thread, notice, now)
        return self._enqueue_firing(thread, notice, now)

    def _enqueue_firing(self, thread: NotificationThread | None, notice: Notice, now: int) -> bool:
        incident = notice.incident
        if thread is None or (thread.resolved_at is not None and now - thread.resolved_at >= QUIET_PERIOD_NS):
            self._start_thread(notice, now)
            return True
        if incident.id in thread.open_incident_ids:
            became_critical = incident.level is Severity.CRITICAL and not thread.is_critical
            return became_critical and self._enqueue_worse(
                thread, replace(notice, kind=NoticeKind.WORSE), now
            )
        is_worse = incident.severity >= thread.max_severity() + MIN_SEVERITY_INCREASE
        if thread.resolved_at is not None and not is_worse:
            return False
        is_resolving = bool(thread.waiting) and thread.waiting[-1][1].kind is NoticeKind.RESOLVED
        thread.open_incident_ids.append(incident.id)
        if is_worse or is_resolving or not (thread.sent or thread.waiting):
            thread.waiting.append((now, notice))
        return True

    def _enqueue_worse(self, thread: NotificationThread | None, notice: Notice, now: int) -> bool:
        if thread is None or (thread.resolved_at is not None and not thread.waiting):
            self._start_thread(notice, now)
            return True
        if thread.has_notice(NoticeKind.WORSE, notice.incident.id):
            return False
        if notice.incident.id not in thread.open_incident_ids:
            thread.open_incident_ids.append(notice.incident.id)
        thread.waiting.append((now, notice))
        return True

    def _enqueue_resolved(self, thread: NotificationThread, notice: Notice, now: int) -> bool:
        if notice.incident.id not in thread.open_incident_ids:
            return False
        thread.open_incident_ids.remove(notice.incident.id)
        if thread.open_incident_ids:
            return True
        if thread.sent or thread.waiting:
            thread.waiting.append((now, notice))
        else:
            del self.threads[thread.fingerprint]  # its beginning was never sent
        return True

    def _start_thread(self, notice: Notice, now: int) -> None:
        incident_ids, waiting = [notice.incident.id], [(now, notice)]
        self.threads.pop(notice.fingerprint, None)
        self.threads[notice.fingerprint] = NotificationThread(notice.fingerprint, incident_ids, [], waiting)
        while len(self.threads) > MAX_THREADS:
            del self.threads[next(iter(self.threads))]

    def mark_sent(self, thread: NotificationThread, now: int) -> None:
        """Record that the receiver accepted the first waiting notification. `now` is int64 ns."""
        _, notice = thread.waiting.pop(0)
        thread.sent = (
            [*thread.sent[:1], *thread.sent[1:][-(MAX_SENT_KEPT - 2) :], notice] if thread.sent else [notice]
        )
        thread.resolved_at = now if notice.kind is NoticeKind.RESOLVED else None
        thread.attempts = thread.due_at = 0

    def mark_dropped(self, thread: NotificationThread, now: int) -> None:
        """Drop the first waiting notification. `now` is int64 ns."""
        _, notice = thread.waiting.pop(0)
        if notice.kind is NoticeKind.RESOLVED:
            thread.resolved_at = now
        thread.attempts = thread.due_at = 0

    def open_incidents(self) -> Iterator[tuple[NotificationThread, str]]:
        """Yield every open incident id with its thread."""
        for thread in list(self.threads.values()):
            for incident_id in list(thread.open_incident_ids):
                yield thread, incident_id

    def remove_expired(self, now: int) -> None:
        """Remove threads that were resolved longer ago than the quiet period. `now` is int64 ns."""
        self.threads = {
            name: thread
            for name, thread in self.threads.items()
            if thread.resolved_at is None or thread.waiting or now - thread.resolved_at < QUIET_PERIOD_NS
        }

    @property
    def waiting_count(self) -> int:
        """Number of waiting notifications."""
        return sum(len(thread.waiting) for thread in self.threads.values())

    def state(self) -> list[dict[str, Any]]:
        """Return the state as JSON values."""
        return [
            {
                "fingerprint": thread.fingerprint, "members": thread.open_incident_ids,
                "over": thread.resolved_at,
                "told": [notice_to_dict(notice) for notice in thread.sent],
                "waiting": [[enqueued_at, notice_to_dict(notice)] for enqueued_at, notice in thread.waiting],
            }
            for thread in self.threads.values()
        ]  # fmt: skip

    def restore(self, state: list[Mapping[str, Any]]) -> None:
        """Restore what `state` returned. Raises KeyError, TypeError or ValueError for other values."""
        threads = [
            NotificationThread(
                saved["fingerprint"], list(saved["members"]),
                [notice_from_dict(notice) for notice in saved["told"]],
                [(enqueued_at, notice_from_dict(notice)) for enqueued_at, notice in saved["waiting"]],
                saved["over"],
            )
            for saved in state
        ]  # fmt: skip
        self.threads = {thread.fingerprint: thread for thread in threads}
