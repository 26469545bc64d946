"""Builders of notices, and fakes of the ports of notification delivery."""

import asyncio
from collections import deque
from dataclasses import replace

from tests.builders.series import SECOND, START
from tests.contracts.incident_store_contract import make_incident
from trimtab.engine.errors import NotFoundError, StoreError
from trimtab.engine.types import IncidentState, Notice, NoticeKind, Severity

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def make_notice(number=1, kind=NoticeKind.FIRING, fingerprint=None, time=START, **changed):
    """Return a notice of an incident; each number has its own fingerprint unless one is given."""
    more = {"severity": 0.7, "level": Severity.HIGH, "acknowledged_by": "", **changed}
    if kind is NoticeKind.RESOLVED:
        more = {"state": IncidentState.RESOLVED, "end": START + MINUTE, **more}
    incident = make_incident(number, **more)
    return Notice(kind, incident, fingerprint or f"{number:016x}", time, "Its severity is above the line.")


def make_resolved_notice(number=1, **changed):
    """Return a notice that an incident is resolved."""
    return make_notice(number, NoticeKind.RESOLVED, **changed)


def make_worse_notice(number=1, **changed):
    """Return a notice that an incident has become critical."""
    return make_notice(number, NoticeKind.WORSE, **{"severity": 0.9, "level": Severity.CRITICAL, **changed})


class FakeNotifier:
    """A notifier that accepts every notice.

    responses : outcome of the next calls: an error is raised, an event is awaited, None succeeds
    """

    def __init__(self, name="fake", repeat_s=None):
        self.name = name
        self.repeat_s = repeat_s
        self.responses = deque()
        self.delivered = []
        """(kind, incident id, kinds of the earlier notices) of each delivered notice."""
        self.attempts = 0
        self.called = asyncio.Event()

    async def notify(self, notice, earlier=()):
        self.attempts += 1
        self.called.set()
        response = self.responses.popleft() if self.responses else None
        if isinstance(response, Exception):
            raise response
        if response is not None:
            await response.wait()
        self.delivered.append((str(notice.kind), notice.incident.id, [str(item.kind) for item in earlier]))

    async def probe(self):
        response = self.responses.popleft() if self.responses else None
        if isinstance(response, Exception):
            raise response
        return "it is there"

    async def close(self):
        """Do nothing."""

    async def wait_until(self, done):
        """Wait until the condition is true."""
        async with asyncio.timeout(10):
            while not done():
                self.called.clear()
                await asyncio.wait({asyncio.ensure_future(self.called.wait())}, timeout=0.02)

    @property
    def kinds(self):
        """Kinds of the delivered notices."""
        return [kind for kind, _, _ in self.delivered]


class FakeKeyValueStore:
    """Key-value store in memory. While `write_error` is set, writes raise StoreError with it."""

    def __init__(self):
        self.values = {}
        self.write_error = ""

    def get(self, name):
        return self.values.get(name)

    def set(self, name, value):
        if self.write_error:
            raise StoreError(self.write_error)
        self.values[name] = value


class FakeIncidentLookup:
    """Incidents by id. While `is_down` is set, every lookup raises StoreError."""

    def __init__(self):
        self.incidents = {}
        self.is_down = False

    def __call__(self, incident_id):
        if self.is_down:
            raise StoreError("the disk is full")
        if incident_id not in self.incidents:
            raise NotFoundError(f"no incident {incident_id}")
        return self.incidents[incident_id]

    def put(self, incident, **changed):
        self.incidents[incident.id] = replace(incident, **changed)


class FakeNotificationMetrics:
    """Delivery metrics in memory."""

    def __init__(self):
        self.sent, self.failed, self.dropped, self.waiting = [], [], [], {}

    def count_notice_sent(self, notifier, kind):
        self.sent.append((notifier, str(kind)))

    def count_notice_failed(self, notifier, reason):
        self.failed.append((notifier, reason))

    def count_notice_dropped(self, notifier, reason):
        self.dropped.append((notifier, reason))

    def set_notices_waiting(self, notifier, n):
        self.waiting[notifier] = n
