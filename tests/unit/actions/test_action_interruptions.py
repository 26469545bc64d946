"""After a crash, a full disk, a takeover: what was under way is gone on with, and nothing is done twice."""

import asyncio
from dataclasses import replace

import pytest

from tests.builders.action_stack import Room, fake_redis, only_action, open_ledger, recommended, until
from tests.builders.actions import action_of
from tests.contracts.event_store_contract import ulid
from trimtab.engine.errors import LockedError, StoreError, ToolError
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.types import ActionState, Mode, RecommendationState

R = RecommendationState
CHANGE = {"tool": "fake", "target": "fake", "subject": "size"}


@pytest.fixture
def room(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield Room(ledger, ledger.clock, fake_redis())


async def test_what_an_interruption_left_is_gone_on_with(room):
    """Executing is read back, an undoing is settled, a direct change that nobody waits for has failed."""
    interrupted = action_of(ulid(1), state=ActionState.EXECUTING, started=room.clock.now(), **CHANGE)
    undone = action_of(ulid(2), state=ActionState.VERIFYING, started=room.clock.now(), **CHANGE)
    undo = action_of(ulid(3), state=ActionState.VERIFYING, undoes=ulid(2), told="why", **CHANGE)
    left = action_of(ulid(4), by="ann", **CHANGE)
    for action in (interrupted, undone, undo, left):
        room.ledger.propose(action, "proposed", "trimtab")
    room.tool.values["fake", "size"] = 125
    await room.step()
    assert room.ledger.action(ulid(4)).state is ActionState.PROPOSED  # somebody may still wait for it
    room.clock.tick(61)
    await room.step()
    await room.step()
    said = {
        action.id: (action.state, action.outcome and action.outcome.words) for action in room.ledger.actions()
    }
    assert said == {
        ulid(1): (ActionState.VERIFYING, None),
        ulid(2): (ActionState.ROLLED_BACK, "rolled back: why"),
        ulid(3): (ActionState.KEPT, "the value before is back"),
        ulid(4): (ActionState.FAILED, "not sent: whoever asked for it waits no longer"),
    }
    assert room.tool.effects == []


async def test_an_interrupted_action_becomes_unknown_where_its_tool_stays_away(room):
    """After five minutes; a person is told."""
    action = action_of(ulid(1), state=ActionState.EXECUTING, started=room.clock.now(), **CHANGE)
    room.ledger.propose(action, "proposed", "trimtab")
    room.tool.respond_with("read", *[ToolError("away")] * 30)
    await room.live(300)
    assert room.ledger.action(ulid(1)).state is ActionState.EXECUTING
    await room.live(15)
    assert room.ledger.action(ulid(1)).state is ActionState.UNKNOWN
    assert room.told == ["it was interrupted; the value could not be read back (away)"]


async def test_a_store_that_fails_is_waited_for(room, monkeypatch):
    """Nothing is sent without its record; once it can be written it goes on by itself."""
    recommended(room)

    def full(*_args, **_more):
        raise StoreError("disk is full")

    for broken in (
        "trimtab.engine.store.action_ledger._AuditedTransaction.audit",
        "trimtab.engine.store.action_ledger.ActionLedger.pause",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(broken, full)
            await room.step()
        assert room.tool.effects == []
    await room.step()
    assert room.tool.effects == [("fake", "size", 125)]


async def test_a_record_that_fails_after_sending_is_found_out(room, monkeypatch):
    """The disk is full right then: the next step reads back and goes on; it is sent once."""
    recommended(room)
    move = ActionLedger.transition

    def full(self, action, *rest):
        if action.state is ActionState.VERIFYING:
            raise StoreError("disk is full")
        return move(self, action, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(ActionLedger, "transition", full)
        await room.step()
        await room.step()
    assert only_action(room).state is ActionState.EXECUTING
    await room.step()
    assert only_action(room).state is ActionState.VERIFYING
    assert room.tool.effects == [("fake", "size", 125)]


async def test_an_engine_that_was_taken_over_stops(room, tmp_path):
    """Its writes are refused, nothing is sent, and it says so."""
    recommended(room)
    EventStore(f"sqlite:///{tmp_path}/trimtab.db", room.clock.now, epoch=99).open().close()
    await room.step()
    with pytest.raises(LockedError, match="taken over"):
        await room.step()
    assert room.tool.effects == []


async def test_a_fault_in_one_thing_holds_nothing_else_up(room):
    """Whatever is raised."""
    recommended(room, 500, fingerprint="a")
    recommended(room, 501, subject="other", mode=Mode.APPROVE, expires=room.clock.now())
    decide, room.starter.decide = room.starter.decide, None
    await room.step()
    assert room.ledger.recommendation(ulid(501)).state is R.EXPIRED
    room.starter.decide = decide
    await room.step()
    assert room.tool.effects == [("fake", "size", 125)]


async def test_stopping_leaves_what_is_under_way_to_the_next_start(room):
    """It is cancelled, stays executing, and is read back then."""
    recommended(room)
    room.executor.deadlines = replace(room.executor.deadlines, send_s=30)
    room.tool.gates["apply"] = asyncio.Event()
    await room.conductor.step(room.clock.now())
    await until(lambda: any(call[0] == "apply" for call in room.tool.calls))
    await room.conductor.close()
    assert only_action(room).state is ActionState.EXECUTING
    next_life = Room(room.ledger, room.clock, room.tool, first=100)
    await next_life.conductor.start()
    await next_life.step()
    assert only_action(room).state is ActionState.FAILED
    assert room.tool.effects == []
