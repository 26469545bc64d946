"""Two engines on one store: one stands still at some point, another takes over, the first goes on."""

import asyncio
import collections
import threading

import pytest

from tests.builders.action_stack import ActionStack, make_fake_tool
from tests.builders.actions import make_recommendation
from tests.contracts.event_store_contract import ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.actions.executor import Deadlines
from trimtab.engine.audit.audit_export import verify_audit
from trimtab.engine.errors import LockedError, StoreError
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.types import ActionState, Mode

POINTS = {
    "ledger.committed": 4,
    "ledger.anchored": 4,
    "executor.ready": 1,
    "executor.send": 1,
    "executor.sent": 1,
}
"""Where it stands still, and how often that is passed; a transaction would hold the other up."""
WHERE = [(name, number) for name, often in POINTS.items() for number in range(1, often + 1)]


class PauseAt:
    """Stands still at the n-th time that a point is passed, until it is let go."""

    def __init__(self, where):
        self.where = where
        self.passed = collections.Counter()
        self.stands, self.go = threading.Event(), threading.Event()

    def __call__(self, name):
        self.passed[name] += 1
        if (name, self.passed[name]) == self.where:
            self.stands.set()
            assert self.go.wait(30)


def open_stack(folder, clock, tool, epoch, boundary=lambda _: None):
    """An engine on the store, under an epoch of its own; each has its data folder, as on another machine."""
    store = EventStore(f"sqlite:///{folder}/trimtab.db", clock.now, epoch=epoch).open()
    ledger = ActionLedger(store.fenced, folder / f"data-{epoch}" / ANCHOR_FILE, boundary)
    deadlines = Deadlines(send_s=20, settle_s=0)
    return store, ActionStack(ledger, clock, tool, boundary=boundary, deadlines=deadlines, first=epoch * 1000)


def until_refused(stack):
    """Steps of an engine that does not know that it was taken over; how it ended."""

    async def work():
        for _ in range(3):
            await stack.step()
        stack.ledger.append_audit("looked", "engine", "trimtab")  # it had nothing left to write

    try:
        asyncio.run(work())
    except LockedError as error:
        return error
    return None


def trial(folder, where):
    """The first stands still at `where`, the second takes over and does what is open, the first goes on."""
    clock, tool, stands = FakeClock(), make_fake_tool(), PauseAt(where)
    first_store, first = open_stack(folder, clock, tool, 1, stands)
    made = make_recommendation(ulid(500), tool="fake", target="fake", subject="size", mode=Mode.AUTO)
    ActionLedger(first_store.fenced).save_recommendation(made, "recommended", "trimtab")
    ended = []
    thread = threading.Thread(target=lambda: ended.append(until_refused(first)))
    thread.start()
    assert stands.stands.wait(30), where
    clock.tick(60)
    second_store, second = open_stack(folder, clock, tool, 2)
    for _ in range(3):
        asyncio.run(second.step())
    rows = len(second.ledger.audit_rows())
    stands.go.set()
    thread.join(30)
    asyncio.run(second.step())
    assert isinstance(ended[0], LockedError), where
    assert len(second.ledger.audit_rows()) == rows, "the first wrote after it was taken over"
    (action,) = second.ledger.actions()
    done = [("fake", "size", 125)] if action.state is ActionState.VERIFYING else []
    assert tool.effects == done, where
    assert action.state in {ActionState.VERIFYING, ActionState.FAILED}
    first_store.close()
    second_store.close()


@pytest.mark.parametrize("where", WHERE, ids=lambda where: f"{where[0]}-{where[1]}")
def test_who_stood_still_is_refused(tmp_path, where):
    """It writes nothing and sends nothing; the change is made once at most, and its end is known."""
    trial(tmp_path, where)


@pytest.mark.trials
def test_a_hundred_stale_engines_are_refused(tmp_path):
    """The same, often."""
    for number in range(100):
        (tmp_path / str(number)).mkdir()
        trial(tmp_path / str(number), WHERE[number % len(WHERE)])


def test_who_holds_the_end_of_the_audit_for_ever_is_told(tmp_path, monkeypatch):
    """A process that stands still with the file's lock holds nobody up for ever."""
    clock, tool, stands = FakeClock(), make_fake_tool(), PauseAt(("ledger.commit", 1))
    store, stack = open_stack(tmp_path, clock, tool, 1, stands)
    thread = threading.Thread(target=lambda: stack.ledger.append_audit("a", "b", "c"))
    thread.start()
    assert stands.stands.wait(30)
    monkeypatch.setattr("trimtab.engine.store.audit_anchor._LOCK_ATTEMPTS", 2)
    try:
        with pytest.raises(StoreError, match=r"another process has held the lock for 0\.01 s"):
            stack.ledger.audit_heads()
    finally:
        stands.go.set()
        thread.join(30)
    assert verify_audit(stack.ledger) == []
    store.close()
