"""What a receiver is told, and what it was told already."""

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
    """What the receiver is told of these, one after the other, each delivered at once; `gaps` in ns."""
    book, found, now = Outbox(), [], START
    for notice in notices:
        book.enqueue(notice, now)
        for thread in list(book.threads.values()):
            while thread.waiting:
                found.append(str(thread.waiting[0][1].kind))
                book.mark_sent(thread, now)
        now += gaps
    return found


@pytest.mark.parametrize(
    ("notices", "expected"),
    [
        ([make_notice(), make_notice()], ["firing"]),  # a restart finds it anew
        # a restart finds it anew, and critical by now
        ([make_notice(), make_notice(level=Severity.CRITICAL), make_worse_notice()], ["firing", "worse"]),
        ([make_notice(level=Severity.CRITICAL), make_notice(level=Severity.CRITICAL)], ["firing"]),
        ([make_notice(), make_resolved_notice(), make_resolved_notice()], ["firing", "resolved"]),
        ([make_resolved_notice()], []),  # nobody was told that it began
        ([make_worse_notice()], ["worse"]),  # a receiver that came later
        (
            [make_notice(), make_worse_notice(), make_worse_notice(), make_resolved_notice()],
            ["firing", "worse", "resolved"],
        ),
        # the same trouble under another id: told once, over when both are
        (
            [
                make_notice(1, fingerprint=SAME_FINGERPRINT),
                make_notice(2, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(1, print_=SAME_FINGERPRINT),
            ],
            ["firing"],
        ),
        (
            [
                make_notice(1, fingerprint=SAME_FINGERPRINT),
                make_notice(2, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(1, print_=SAME_FINGERPRINT),
                make_resolved_notice(2, print_=SAME_FINGERPRINT),
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
        # over, and again at once
        (
            [
                make_notice(1, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(1, print_=SAME_FINGERPRINT),
                make_notice(2, fingerprint=SAME_FINGERPRINT),
            ],
            ["firing", "resolved"],
        ),
        (
            [
                make_notice(1, fingerprint=SAME_FINGERPRINT),
                make_resolved_notice(1, print_=SAME_FINGERPRINT),
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
def test_each_trouble_is_told_once(notices, expected):
    """The same notice, or the same trouble under a new id, is not told again; what is worse is."""
    assert sent_kinds(*notices) == expected


def test_the_same_trouble_is_news_after_a_while():
    """Half an hour after it was over it is told again, as a trouble of its own."""
    notices = [
        make_notice(1, fingerprint=SAME_FINGERPRINT),
        make_resolved_notice(1, print_=SAME_FINGERPRINT),
        make_notice(2, fingerprint=SAME_FINGERPRINT),
    ]
    assert sent_kinds(*notices, gaps=HOUR) == ["firing", "resolved", "firing"]


def test_what_returns_before_its_end_was_told_is_told_again():
    """The receiver hears first that it is over, then that it is back."""
    book = Outbox()
    for notice in (
        make_notice(1, fingerprint=SAME_FINGERPRINT),
        make_resolved_notice(1, print_=SAME_FINGERPRINT),
        make_notice(2, fingerprint=SAME_FINGERPRINT),
    ):
        book.enqueue(notice, START)
    assert [str(n.kind) for _, n in book.threads[SAME_FINGERPRINT].waiting] == [
        "firing",
        "resolved",
        "firing",
    ]


def test_the_first_notice_is_kept_however_many_follow():
    """It gives the identity that a receiver knows the trouble by."""
    book = Outbox()
    for k in range(10):
        book.enqueue(make_notice(k + 1, fingerprint=SAME_FINGERPRINT, severity=0.1 * k), START)
        while book.threads[SAME_FINGERPRINT].waiting:
            book.mark_sent(book.threads[SAME_FINGERPRINT], START)
    kept = [notice.incident.id for notice in book.threads[SAME_FINGERPRINT].sent]
    assert kept[0] == ulid(1)
    assert kept[-1] == ulid(10)
    assert len(kept) == 4


def test_what_was_given_up_is_not_ended():
    """An incident that the receiver never heard of is not told to be over."""
    book = Outbox()
    book.enqueue(make_notice(), START)
    book.mark_dropped(*book.threads.values(), START)
    assert not book.enqueue(make_notice(), START)
    assert book.enqueue(make_resolved_notice(), START)
    assert book.threads == {}


def test_it_goes_on_where_it_was():
    """All of it survives as JSON, a size without bound too."""
    book = Outbox()
    book.enqueue(make_notice(1), START)
    book.mark_sent(*book.threads.values(), START)
    book.enqueue(make_worse_notice(1), START + MINUTE)
    again = Outbox()
    again.restore(json.loads(json.dumps(book.state(), allow_nan=False)))
    assert again.state() == book.state()
    thread = again.threads[f"{1:016x}"]
    assert thread.sent[0].incident.suspects[0].size == inf
    assert thread.waiting == [(START + MINUTE, trim_notice(make_worse_notice(1)))]


@pytest.mark.parametrize("kind", NoticeKind)
def test_a_notice_is_kept_without_what_no_message_says(kind):
    """Thousands of anomalies are not written with each notice; what a message says comes back as it was."""
    notice = make_notice(1, kind, anomaly_ids=tuple(map(ulid, range(3000))), entities=("a",) * 500)
    plain = json.dumps(notice_to_dict(trim_notice(notice)))
    assert len(plain) < 4000
    assert notice_from_dict(json.loads(plain)) == trim_notice(notice)


def test_what_is_over_is_forgotten():
    """Half an hour after its end; what goes on is never forgotten."""
    book = Outbox()
    for k in (1, 2):
        book.enqueue(make_notice(k), START)
        book.mark_sent(book.threads[f"{k:016x}"], START)
    book.enqueue(make_resolved_notice(1), START)
    book.mark_sent(book.threads[f"{1:016x}"], START)
    book.remove_expired(START + MINUTE)
    assert len(book.threads) == 2
    book.remove_expired(START + HOUR)
    assert list(book.threads) == [f"{2:016x}"]


def test_a_flood_is_bounded():
    """The oldest troubles make room, so that memory and the store stay small."""
    book = Outbox()
    for k in range(MAX_THREADS + 5):
        book.enqueue(make_notice(k), START)
    assert len(book.threads) == MAX_THREADS
    assert f"{0:016x}" not in book.threads
