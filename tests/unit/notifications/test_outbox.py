"""Outbox: which notifications are sent and which are repetitions."""

import json
from math import inf

import pytest

from tests.builders.series import START
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_notifications import HOUR, MINUTE, make_notice, make_resolved_notice, make_worse_notice
from trimtab.engine.notifications.notice_json import notice_from_dict, notice_to_dict, trim_notice
from trimtab.engine.notifications.outbox import MAX_THREADS, Outbox
from trimtab.engine.types import NoticeKind, Severity

SAME_FINGERPRINT = "ab" * 8


def sent_kinds(*notices, gaps=0):
    """Kinds of the sent notifications if these are enqueued `gaps` ns apart, each delivered at once."""
    outbox, kinds_sent, now = Outbox(), [], START
    for notice in notices:
        outbox.enqueue(notice, now)
        for thread in list(outbox.threads.values()):
            while thread.waiting:
                kinds_sent.append(str(thread.waiting[0][1].kind))
                outbox.mark_sent(thread, now)
        now += gaps
    return kinds_sent


@pytest.mark.parametrize(
    ("notices", "expected"),
    [
        ([make_notice(), make_notice()], ["firing"]),  # a restart finds it again
        # a restart finds it again, now critical
        ([make_notice(), make_notice(level=Severity.CRITICAL), make_worse_notice()], ["firing", "worse"]),
        ([make_notice(level=Severity.CRITICAL), make_notice(level=Severity.CRITICAL)], ["firing"]),
        ([make_notice(), make_resolved_notice(), make_resolved_notice()], ["firing", "resolved"]),
        ([make_resolved_notice()], []),  # its beginning was never sent
        ([make_worse_notice()], ["worse"]),  # a receiver that was added later
        (
            [make_notice(), make_worse_notice(), make_worse_notice(), make_resolved_notice()],
            ["firing", "worse", "resolved"],
        ),
        # the same fingerprint under another id: sent once, resolved when both are
        (
            [
                make_notice(1, fingerprint=SAME_FINGERPRINT),
                make_notice(2, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(1, fingerprint=SAME_FINGERPRINT),
            ],
            ["firing"],
        ),
        (
            [
                make_notice(1, fingerprint=SAME_FINGERPRINT),
                make_notice(2, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(1, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(2, fingerprint=SAME_FINGERPRINT),
            ],
            ["firing", "resolved"],
        ),
        (
            [
                make_notice(fingerprint=SAME_FINGERPRINT),
                make_notice(2, fingerprint=SAME_FINGERPRINT, severity=0.8),
            ],
            ["firing", "firing"],
        ),
        # resolved, and again immediately
        (
            [
                make_notice(1, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(1, fingerprint=SAME_FINGERPRINT),
                make_notice(2, fingerprint=SAME_FINGERPRINT),
            ],
            ["firing", "resolved"],
        ),
        (
            [
                make_notice(1, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(1, fingerprint=SAME_FINGERPRINT),
                make_notice(2, fingerprint=SAME_FINGERPRINT, severity=0.9),
            ],
            ["firing", "resolved", "firing"],
        ),
        (
            [make_notice(1), make_notice(2), make_resolved_notice(2), make_resolved_notice(1)],
            ["firing", "firing", "resolved", "resolved"],
        ),
    ],
)
def test_repetitions_are_not_sent(notices, expected):
    """A repeated notification, or the same fingerprint under a new id, is not sent again; a worse one is."""
    assert sent_kinds(*notices) == expected


def test_a_late_recurrence_is_sent():
    """Half an hour after the resolution a recurrence starts a new thread."""
    notices = [
        make_notice(1, fingerprint=SAME_FINGERPRINT),
        make_resolved_notice(1, fingerprint=SAME_FINGERPRINT),
        make_notice(2, fingerprint=SAME_FINGERPRINT),
    ]
    assert sent_kinds(*notices, gaps=HOUR) == ["firing", "resolved", "firing"]


def test_a_recurrence_before_the_resolution_was_sent():
    """The resolution is sent first, then the recurrence."""
    outbox = Outbox()
    for notice in (
        make_notice(1, fingerprint=SAME_FINGERPRINT),
        make_resolved_notice(1, fingerprint=SAME_FINGERPRINT),
        make_notice(2, fingerprint=SAME_FINGERPRINT),
    ):
        outbox.enqueue(notice, START)
    assert [str(n.kind) for _, n in outbox.threads[SAME_FINGERPRINT].waiting] == [
        "firing",
        "resolved",
        "firing",
    ]


def test_the_first_notification_is_kept():
    """It determines the identity that the receiver knows."""
    outbox = Outbox()
    for k in range(10):
        outbox.enqueue(make_notice(k + 1, fingerprint=SAME_FINGERPRINT, severity=0.1 * k), START)
        while outbox.threads[SAME_FINGERPRINT].waiting:
            outbox.mark_sent(outbox.threads[SAME_FINGERPRINT], START)
    stored = [notice.incident.id for notice in outbox.threads[SAME_FINGERPRINT].sent]
    assert stored[0] == ulid(1)
    assert stored[-1] == ulid(10)
    assert len(stored) == 4


def test_a_dropped_notification_is_not_resolved():
    """An incident that the receiver never learned of is not sent as resolved."""
    outbox = Outbox()
    outbox.enqueue(make_notice(), START)
    outbox.mark_dropped(*outbox.threads.values(), START)
    assert not outbox.enqueue(make_notice(), START)
    assert outbox.enqueue(make_resolved_notice(), START)
    assert outbox.threads == {}


def test_the_state_survives_json():
    """The whole state survives JSON, including an infinite size."""
    outbox = Outbox()
    outbox.enqueue(make_notice(1), START)
    outbox.mark_sent(*outbox.threads.values(), START)
    outbox.enqueue(make_worse_notice(1), START + MINUTE)
    again = Outbox()
    again.restore(json.loads(json.dumps(outbox.state(), allow_nan=False)))
    assert again.state() == outbox.state()
    thread = again.threads[f"{1:016x}"]
    assert thread.sent[0].incident.suspects[0].size == inf
    assert thread.waiting == [(START + MINUTE, trim_notice(make_worse_notice(1)))]


@pytest.mark.parametrize("kind", NoticeKind)
def test_unused_parts_are_not_stored(kind):
    """Anomaly ids are not stored; the parts used by messages are."""
    notice = make_notice(1, kind, anomaly_ids=tuple(map(ulid, range(3000))), entities=("a",) * 500)
    plain = json.dumps(notice_to_dict(trim_notice(notice)))
    assert len(plain) < 4000
    assert notice_from_dict(json.loads(plain)) == trim_notice(notice)


def test_resolved_threads_expire():
    """They are removed half an hour after the resolution; open ones are not."""
    outbox = Outbox()
    for k in (1, 2):
        outbox.enqueue(make_notice(k), START)
        outbox.mark_sent(outbox.threads[f"{k:016x}"], START)
    outbox.enqueue(make_resolved_notice(1), START)
    outbox.mark_sent(outbox.threads[f"{1:016x}"], START)
    outbox.remove_expired(START + MINUTE)
    assert len(outbox.threads) == 2
    outbox.remove_expired(START + HOUR)
    assert list(outbox.threads) == [f"{2:016x}"]


def test_a_flood_is_bounded():
    """The oldest threads are removed, so that memory and store stay small."""
    outbox = Outbox()
    for k in range(MAX_THREADS + 5):
        outbox.enqueue(make_notice(k), START)
    assert len(outbox.threads) == MAX_THREADS
    assert f"{0:016x}" not in outbox.threads
