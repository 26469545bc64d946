"""What one receiver was told, and what waits for it: decides what is told again. No I/O, no clock."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trimtab.engine.notifications.notice_json import notice_from_dict, notice_to_dict, trim_notice
from trimtab.engine.types import Notice, NoticeKind, Severity

QUIET_PERIOD_NS = 1_800_000_000_000
"""The same trouble is not told again so soon after it was over, unless it is worse."""
MIN_SEVERITY_INCREASE = 0.1
"""From so much more severity on the same trouble is told once more."""
MAX_SENT_KEPT = 4
MAX_THREADS = 1000


@dataclass(slots=True)
class NotificationThread:
    """One trouble, by its fingerprint, as one receiver knows it.

    members : ids of the incidents of it that go on
    told    : what the receiver took, oldest first; the first gives the identity
    waiting : (when it came, notice), oldest first; times are int64 ns of the clock, not of the incident
    over    : when the receiver took that it is over; None = it goes on
    tries   : failures in a row of what waits first;  due : of its next try, or of the next repetition
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
        """Whether the receiver knows of it, and nothing new waits."""
        return (
            bool(self.sent) and bool(self.open_incident_ids) and self.resolved_at is None and not self.waiting
        )

    @property
    def notices(self) -> list[Notice]:
        """What was told and what is to be told."""
        return [*self.sent, *(notice for _, notice in self.waiting)]

    @property
    def is_critical(self) -> bool:
        """Whether the receiver knows, or is to know, that it is critical."""
        return any(notice.incident.level is Severity.CRITICAL for notice in self.notices)

    def max_severity(self) -> float:
        """The largest that was told or is to be told."""
        return max((notice.incident.severity for notice in self.notices), default=-1.0)

    def has_notice(self, kind: NoticeKind, incident_id: str) -> bool:
        """Whether such a notice was told or waits."""
        return any(one.kind is kind and one.incident.id == incident_id for one in self.notices)


class Outbox:
    """The threads of one receiver."""

    def __init__(self) -> None:
        self.threads: dict[str, NotificationThread] = {}

    def enqueue(self, notice: Notice, now: int) -> bool:
        """Let a notice wait, unless it was told already; whether the book changed."""
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
            critical = incident.level is Severity.CRITICAL and not thread.is_critical
            return critical and self._enqueue_worse(thread, replace(notice, kind=NoticeKind.WORSE), now)
        worse = incident.severity >= thread.max_severity() + MIN_SEVERITY_INCREASE
        if thread.resolved_at is not None and not worse:
            return False
        ending = bool(thread.waiting) and thread.waiting[-1][1].kind is NoticeKind.RESOLVED
        thread.open_incident_ids.append(incident.id)
        if worse or ending or not (thread.sent or thread.waiting):
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
            del self.threads[thread.fingerprint]  # nobody was told that it began
        return True

    def _start_thread(self, notice: Notice, now: int) -> None:
        members, waiting = [notice.incident.id], [(now, notice)]
        self.threads.pop(notice.fingerprint, None)
        self.threads[notice.fingerprint] = NotificationThread(notice.fingerprint, members, [], waiting)
        while len(self.threads) > MAX_THREADS:
            del self.threads[next(iter(self.threads))]

    def mark_sent(self, thread: NotificationThread, now: int) -> None:
        """The receiver took what waited first."""
        _, notice = thread.waiting.pop(0)
        thread.sent = (
            [*thread.sent[:1], *thread.sent[1:][-(MAX_SENT_KEPT - 2) :], notice] if thread.sent else [notice]
        )
        thread.resolved_at = now if notice.kind is NoticeKind.RESOLVED else None
        thread.attempts = thread.due_at = 0

    def mark_dropped(self, thread: NotificationThread, now: int) -> None:
        """What waited first will not be told."""
        _, notice = thread.waiting.pop(0)
        if notice.kind is NoticeKind.RESOLVED:
            thread.resolved_at = now
        thread.attempts = thread.due_at = 0

    def open_incidents(self) -> Iterator[tuple[NotificationThread, str]]:
        """Every incident that goes on, with its thread."""
        for thread in list(self.threads.values()):
            for incident_id in list(thread.open_incident_ids):
                yield thread, incident_id

    def remove_expired(self, now: int) -> None:
        """Let go of what was over long ago."""
        self.threads = {
            name: thread
            for name, thread in self.threads.items()
            if thread.resolved_at is None or thread.waiting or now - thread.resolved_at < QUIET_PERIOD_NS
        }

    @property
    def waiting_count(self) -> int:
        """How many notices wait."""
        return sum(len(thread.waiting) for thread in self.threads.values())

    def state(self) -> list[dict[str, Any]]:
        """As plain values, for JSON."""
        return [
            {
                "fingerprint": thread.fingerprint, "members": thread.open_incident_ids, "over": thread.resolved_at,
                "told": [notice_to_dict(notice) for notice in thread.sent],
                "waiting": [[came, notice_to_dict(notice)] for came, notice in thread.waiting],
            }
            for thread in self.threads.values()
        ]  # fmt: skip

    def restore(self, state: list[Mapping[str, Any]]) -> None:
        """Go on where `state` was taken. Raises KeyError, TypeError or ValueError for what it never gave."""
        threads = [
            NotificationThread(
                one["fingerprint"], list(one["members"]), [notice_from_dict(notice) for notice in one["told"]],
                [(came, notice_from_dict(notice)) for came, notice in one["waiting"]], one["over"],
            )
            for one in state
        ]  # fmt: skip
        self.threads = {thread.fingerprint: thread for thread in threads}
