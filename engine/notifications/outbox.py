"""What one receiver was told, and what waits for it: decides what is told again. No I/O, no clock."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trimtab.engine.notifications.notice_json import cut, from_plain, to_plain
from trimtab.engine.types import Notice, NoticeKind, Severity

REPEAT_NS = 1_800_000_000_000
"""The same trouble is not told again so soon after it was over, unless it is worse."""
WORSE_BY = 0.1
"""From so much more severity on the same trouble is told once more."""
MOST_TOLD = 4
MOST_THREADS = 1000


@dataclass(slots=True)
class Thread:
    """One trouble, by its fingerprint, as one receiver knows it.

    members : ids of the incidents of it that go on
    told    : what the receiver took, oldest first; the first gives the identity
    waiting : (when it came, notice), oldest first; times are int64 ns of the clock, not of the incident
    over    : when the receiver took that it is over; None = it goes on
    tries   : failures in a row of what waits first;  due : of its next try, or of the next repetition
    """

    fingerprint: str
    members: list[str] = field(default_factory=list)
    told: list[Notice] = field(default_factory=list)
    waiting: list[tuple[int, Notice]] = field(default_factory=list)
    over: int | None = None
    tries: int = 0
    due: int = 0

    @property
    def goes_on(self) -> bool:
        """Whether the receiver knows of it, and nothing new waits."""
        return bool(self.told) and bool(self.members) and self.over is None and not self.waiting

    @property
    def notices(self) -> list[Notice]:
        """What was told and what is to be told."""
        return [*self.told, *(notice for _, notice in self.waiting)]

    @property
    def critical(self) -> bool:
        """Whether the receiver knows, or is to know, that it is critical."""
        return any(notice.incident.level is Severity.CRITICAL for notice in self.notices)

    def severity(self) -> float:
        """The largest that was told or is to be told."""
        return max((notice.incident.severity for notice in self.notices), default=-1.0)

    def knows(self, kind: NoticeKind, incident_id: str) -> bool:
        """Whether such a notice was told or waits."""
        return any(one.kind is kind and one.incident.id == incident_id for one in self.notices)


class Book:
    """The threads of one receiver."""

    def __init__(self) -> None:
        self.threads: dict[str, Thread] = {}

    def take(self, notice: Notice, now: int) -> bool:
        """Let a notice wait, unless it was told already; whether the book changed."""
        notice = cut(notice)
        thread = self.threads.get(notice.fingerprint)
        match notice.kind:
            case NoticeKind.RESOLVED:
                return thread is not None and self._over(thread, notice, now)
            case NoticeKind.WORSE:
                return self._worse(thread, notice, now)
        return self._firing(thread, notice, now)

    def _firing(self, thread: Thread | None, notice: Notice, now: int) -> bool:
        incident = notice.incident
        if thread is None or (thread.over is not None and now - thread.over >= REPEAT_NS):
            self._begin(notice, now)
            return True
        if incident.id in thread.members:
            critical = incident.level is Severity.CRITICAL and not thread.critical
            return critical and self._worse(thread, replace(notice, kind=NoticeKind.WORSE), now)
        worse = incident.severity >= thread.severity() + WORSE_BY
        if thread.over is not None and not worse:
            return False
        ending = bool(thread.waiting) and thread.waiting[-1][1].kind is NoticeKind.RESOLVED
        thread.members.append(incident.id)
        if worse or ending or not (thread.told or thread.waiting):
            thread.waiting.append((now, notice))
        return True

    def _worse(self, thread: Thread | None, notice: Notice, now: int) -> bool:
        if thread is None or (thread.over is not None and not thread.waiting):
            self._begin(notice, now)
            return True
        if thread.knows(NoticeKind.WORSE, notice.incident.id):
            return False
        if notice.incident.id not in thread.members:
            thread.members.append(notice.incident.id)
        thread.waiting.append((now, notice))
        return True

    def _over(self, thread: Thread, notice: Notice, now: int) -> bool:
        if notice.incident.id not in thread.members:
            return False
        thread.members.remove(notice.incident.id)
        if thread.members:
            return True
        if thread.told or thread.waiting:
            thread.waiting.append((now, notice))
        else:
            del self.threads[thread.fingerprint]  # nobody was told that it began
        return True

    def _begin(self, notice: Notice, now: int) -> None:
        members, waiting = [notice.incident.id], [(now, notice)]
        self.threads.pop(notice.fingerprint, None)
        self.threads[notice.fingerprint] = Thread(notice.fingerprint, members, [], waiting)
        while len(self.threads) > MOST_THREADS:
            del self.threads[next(iter(self.threads))]

    def taken(self, thread: Thread, now: int) -> None:
        """The receiver took what waited first."""
        _, notice = thread.waiting.pop(0)
        thread.told = (
            [*thread.told[:1], *thread.told[1:][-(MOST_TOLD - 2) :], notice] if thread.told else [notice]
        )
        thread.over = now if notice.kind is NoticeKind.RESOLVED else None
        thread.tries = thread.due = 0

    def given_up(self, thread: Thread, now: int) -> None:
        """What waited first will not be told."""
        _, notice = thread.waiting.pop(0)
        if notice.kind is NoticeKind.RESOLVED:
            thread.over = now
        thread.tries = thread.due = 0

    def members(self) -> Iterator[tuple[Thread, str]]:
        """Every incident that goes on, with its thread."""
        for thread in list(self.threads.values()):
            for incident_id in list(thread.members):
                yield thread, incident_id

    def forget(self, now: int) -> None:
        """Let go of what was over long ago."""
        self.threads = {
            name: thread
            for name, thread in self.threads.items()
            if thread.over is None or thread.waiting or now - thread.over < REPEAT_NS
        }

    @property
    def waiting(self) -> int:
        """How many notices wait."""
        return sum(len(thread.waiting) for thread in self.threads.values())

    def state(self) -> list[dict[str, Any]]:
        """As plain values, for JSON."""
        return [
            {
                "fingerprint": thread.fingerprint, "members": thread.members, "over": thread.over,
                "told": [to_plain(notice) for notice in thread.told],
                "waiting": [[came, to_plain(notice)] for came, notice in thread.waiting],
            }
            for thread in self.threads.values()
        ]  # fmt: skip

    def restore(self, state: list[Mapping[str, Any]]) -> None:
        """Go on where `state` was taken. Raises KeyError, TypeError or ValueError for what it never gave."""
        threads = [
            Thread(
                one["fingerprint"], list(one["members"]), [from_plain(notice) for notice in one["told"]],
                [(came, from_plain(notice)) for came, notice in one["waiting"]], one["over"],
            )
            for one in state
        ]  # fmt: skip
        self.threads = {thread.fingerprint: thread for thread in threads}
