"""Two engines on one store: one stalls, another takes over, and the first continues."""

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
"""Points at which the engine stalls, and how often each is passed; none is inside a transaction."""
WHERE = [(name, number) for name, often in POINTS.items() for number in range(1, often + 1)]


class StallAt:
    """Blocks at the n-th pass of a point until `go` is set."""

    def __init__(self, where):
        self.where = where
        self.passed = collections.Counter()
        self.stalled, self.go = threading.Event(), threading.Event()

    def __call__(self, name):
        self.passed[name] += 1
        if (name, self.passed[name]) == self.where:
            self.stalled.set()
            assert self.go.wait(30)


def open_stack(folder, clock, tool, epoch, boundary=lambda _: None):
    """Return the store and an action stack of an engine with this epoch and its own data folder."""
    store = EventStore(f"sqlite:///{folder}/trimtab.db", clock.now, epoch=epoch).open()
    ledger = ActionLedger(store.fenced, folder / f"data-{epoch}" / ANCHOR_FILE, boundary)
    deadlines = Deadlines(send_s=20, settle_s=0)
    return store, ActionStack(ledger, clock, tool, boundary=boundary, deadlines=deadlines, first=epoch * 1000)


def run_until_refused(stack):
    """Run steps of an engine that was taken over; return its LockedError, or None."""

    async def work():
        for _ in range(3):
            await stack.step()
        stack.ledger.append_audit("looked", "engine", "trimtab")  # a write, in case nothing else was left

    try:
        asyncio.run(work())
    except LockedError as error:
        return error
    return None


def run_takeover(folder, where):
    """Stall the first engine at `where`, let the second take over and finish, then let the first continue."""
    clock, tool, stall = FakeClock(), make_fake_tool(), StallAt(where)
    first_store, first = open_stack(folder, clock, tool, 1, stall)
    made = make_recommendation(ulid(500), tool="fake", target="fake", subject="size", mode=Mode.AUTO)
    ActionLedger(first_store.fenced).save_recommendation(made, "recommended", "trimtab")
    ended = []
    thread = threading.Thread(target=lambda: ended.append(run_until_refused(first)))
    thread.start()
    assert stall.stalled.wait(30), where
    clock.tick(60)
    second_store, second = open_stack(folder, clock, tool, 2)
    for _ in range(3):
        asyncio.run(second.step())
    rows = len(second.ledger.audit_rows())
    stall.go.set()
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
def test_a_stalled_engine_is_refused(tmp_path, where):
    """A stalled engine writes and sends nothing; the change is made at most once."""
    run_takeover(tmp_path, where)


@pytest.mark.trials
def test_a_hundred_stale_engines_are_refused(tmp_path):
    """A hundred stalled engines write and send nothing."""
    for number in range(100):
        (tmp_path / str(number)).mkdir()
        run_takeover(tmp_path / str(number), WHERE[number % len(WHERE)])


def test_a_held_audit_lock_times_out(tmp_path, monkeypatch):
    """A process that holds the audit lock makes others fail after the timeout."""
    clock, tool, stall = FakeClock(), make_fake_tool(), StallAt(("ledger.commit", 1))
    store, stack = open_stack(tmp_path, clock, tool, 1, stall)
    thread = threading.Thread(target=lambda: stack.ledger.append_audit("a", "b", "c"))
    thread.start()
    assert stall.stalled.wait(30)
    monkeypatch.setattr("trimtab.engine.store.audit_anchor._LOCK_ATTEMPTS", 2)
    try:
        with pytest.raises(StoreError, match=r"another process has held the lock for 0\.01 s"):
            stack.ledger.audit_heads()
    finally:
        stall.go.set()
        thread.join(30)
    assert verify_audit(stack.ledger) == []
    store.close()
