"""What a receiver is told, and what it was told already."""

import json
from math import inf

import pytest

from tests.builders.series import START
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_notifications import HOUR, MINUTE, notice_of, over, worse
from trimtab.engine.notifications.notice_json import cut, from_plain, to_plain
from trimtab.engine.notifications.outbox import MOST_THREADS, Book
from trimtab.engine.types import NoticeKind, Severity

SAME = "ab" * 8


def told(*notices, gaps=0):
    """What the receiver is told of these, one after the other, each delivered at once; `gaps` in ns."""
    book, found, now = Book(), [], START
    for notice in notices:
        book.take(notice, now)
        for thread in list(book.threads.values()):
            while thread.waiting:
                found.append(str(thread.waiting[0][1].kind))
                book.taken(thread, now)
        now += gaps
    return found


@pytest.mark.parametrize(
    ("notices", "expected"),
    [
        ([notice_of(), notice_of()], ["firing"]),  # a restart finds it anew
        # a restart finds it anew, and critical by now
        ([notice_of(), notice_of(level=Severity.CRITICAL), worse()], ["firing", "worse"]),
        ([notice_of(level=Severity.CRITICAL), notice_of(level=Severity.CRITICAL)], ["firing"]),
        ([notice_of(), over(), over()], ["firing", "resolved"]),
        ([over()], []),  # nobody was told that it began
        ([worse()], ["worse"]),  # a receiver that came later
        ([notice_of(), worse(), worse(), over()], ["firing", "worse", "resolved"]),
        # the same trouble under another id: told once, over when both are
        ([notice_of(1, print_=SAME), notice_of(2, print_=SAME), over(1, print_=SAME)], ["firing"]),
        (
            [
                notice_of(1, print_=SAME),
                notice_of(2, print_=SAME),
                over(1, print_=SAME),
                over(2, print_=SAME),
            ],
            ["firing", "resolved"],
        ),
        ([notice_of(print_=SAME), notice_of(2, print_=SAME, severity=0.8)], ["firing", "firing"]),
        # over, and again at once
        (
            [notice_of(1, print_=SAME), over(1, print_=SAME), notice_of(2, print_=SAME)],
            ["firing", "resolved"],
        ),
        (
            [notice_of(1, print_=SAME), over(1, print_=SAME), notice_of(2, print_=SAME, severity=0.9)],
            ["firing", "resolved", "firing"],
        ),
        ([notice_of(1), notice_of(2), over(2), over(1)], ["firing", "firing", "resolved", "resolved"]),
    ],
)
def test_each_trouble_is_told_once(notices, expected):
    """The same notice, or the same trouble under a new id, is not told again; what is worse is."""
    assert told(*notices) == expected


def test_the_same_trouble_is_news_after_a_while():
    """Half an hour after it was over it is told again, as a trouble of its own."""
    notices = [notice_of(1, print_=SAME), over(1, print_=SAME), notice_of(2, print_=SAME)]
    assert told(*notices, gaps=HOUR) == ["firing", "resolved", "firing"]


def test_what_returns_before_its_end_was_told_is_told_again():
    """The receiver hears first that it is over, then that it is back."""
    book = Book()
    for notice in (notice_of(1, print_=SAME), over(1, print_=SAME), notice_of(2, print_=SAME)):
        book.take(notice, START)
    assert [str(n.kind) for _, n in book.threads[SAME].waiting] == ["firing", "resolved", "firing"]


def test_the_first_notice_is_kept_however_many_follow():
    """It gives the identity that a receiver knows the trouble by."""
    book = Book()
    for k in range(10):
        book.take(notice_of(k + 1, print_=SAME, severity=0.1 * k), START)
        while book.threads[SAME].waiting:
            book.taken(book.threads[SAME], START)
    kept = [notice.incident.id for notice in book.threads[SAME].told]
    assert kept[0] == ulid(1)
    assert kept[-1] == ulid(10)
    assert len(kept) == 4


def test_what_was_given_up_is_not_ended():
    """An incident that the receiver never heard of is not told to be over."""
    book = Book()
    book.take(notice_of(), START)
    book.given_up(*book.threads.values(), START)
    assert not book.take(notice_of(), START)
    assert book.take(over(), START)
    assert book.threads == {}


def test_it_goes_on_where_it_was():
    """All of it survives as JSON, a size without bound too."""
    book = Book()
    book.take(notice_of(1), START)
    book.taken(*book.threads.values(), START)
    book.take(worse(1), START + MINUTE)
    again = Book()
    again.restore(json.loads(json.dumps(book.state(), allow_nan=False)))
    assert again.state() == book.state()
    thread = again.threads[f"{1:016x}"]
    assert thread.told[0].incident.suspects[0].size == inf
    assert thread.waiting == [(START + MINUTE, cut(worse(1)))]


@pytest.mark.parametrize("kind", NoticeKind)
def test_a_notice_is_kept_without_what_no_message_says(kind):
    """Thousands of anomalies are not written with each notice; what a message says comes back as it was."""
    notice = notice_of(1, kind, anomaly_ids=tuple(map(ulid, range(3000))), entities=("a",) * 500)
    plain = json.dumps(to_plain(cut(notice)))
    assert len(plain) < 4000
    assert from_plain(json.loads(plain)) == cut(notice)


def test_what_is_over_is_forgotten():
    """Half an hour after its end; what goes on is never forgotten."""
    book = Book()
    for k in (1, 2):
        book.take(notice_of(k), START)
        book.taken(book.threads[f"{k:016x}"], START)
    book.take(over(1), START)
    book.taken(book.threads[f"{1:016x}"], START)
    book.forget(START + MINUTE)
    assert len(book.threads) == 2
    book.forget(START + HOUR)
    assert list(book.threads) == [f"{2:016x}"]


def test_a_flood_is_bounded():
    """The oldest troubles make room, so that memory and the store stay small."""
    book = Book()
    for k in range(MOST_THREADS + 5):
        book.take(notice_of(k), START)
    assert len(book.threads) == MOST_THREADS
    assert f"{0:016x}" not in book.threads
