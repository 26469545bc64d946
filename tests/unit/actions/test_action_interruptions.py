"""Recovery after a crash, a full disk or a takeover: actions continue and nothing is sent twice."""

import asyncio
from dataclasses import replace

import pytest

from tests.builders.action_stack import (
    ActionStack,
    make_fake_tool,
    only_action,
    open_ledger,
    save_recommendation,
    wait_until,
)
from tests.builders.actions import make_action
from tests.contracts.event_store_contract import ulid
from trimtab.engine.errors import LockedError, StoreError, ToolError
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.types import ActionState, Mode, RecommendationState

R = RecommendationState
CHANGE = {"tool": "fake", "target": "fake", "subject": "size"}


@pytest.fixture
def stack(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield ActionStack(ledger, ledger.clock, make_fake_tool())


async def test_interrupted_actions_are_recovered(stack):
    """Executing actions are read back, undos are settled, and abandoned manual changes fail."""
    interrupted = make_action(ulid(1), state=ActionState.EXECUTING, started=stack.clock.now(), **CHANGE)
    undone = make_action(ulid(2), state=ActionState.VERIFYING, started=stack.clock.now(), **CHANGE)
    undo = make_action(ulid(3), state=ActionState.VERIFYING, undoes=ulid(2), told="why", **CHANGE)
    abandoned = make_action(ulid(4), by="ann", **CHANGE)
    for action in (interrupted, undone, undo, abandoned):
        stack.ledger.propose(action, "proposed", "trimtab")
    stack.tool.values["fake", "size"] = 125
    await stack.step()
    assert stack.ledger.action(ulid(4)).state is ActionState.PROPOSED  # the request may still be open
    stack.clock.tick(61)
    await stack.step()
    await stack.step()
    outcomes = {
        action.id: (action.state, action.outcome and action.outcome.words)
        for action in stack.ledger.actions()
    }
    assert outcomes == {
        ulid(1): (ActionState.VERIFYING, None),
        ulid(2): (ActionState.ROLLED_BACK, "rolled back: why"),
        ulid(3): (ActionState.KEPT, "the previous value is restored"),
        ulid(4): (ActionState.FAILED, "not sent: the request timed out"),
    }
    assert stack.tool.effects == []


async def test_an_interrupted_action_becomes_unknown_without_its_tool(stack):
    """An action whose tool is unreachable for five minutes becomes unknown, with a notification."""
    action = make_action(ulid(1), state=ActionState.EXECUTING, started=stack.clock.now(), **CHANGE)
    stack.ledger.propose(action, "proposed", "trimtab")
    stack.tool.respond_with("read", *[ToolError("away")] * 30)
    await stack.run_for(300)
    assert stack.ledger.action(ulid(1)).state is ActionState.EXECUTING
    await stack.run_for(15)
    assert stack.ledger.action(ulid(1)).state is ActionState.UNKNOWN
    assert stack.notifications == ["it was interrupted; the value could not be read back (away)"]


async def test_nothing_is_sent_while_the_store_fails(stack, monkeypatch):
    """Nothing is sent without its journal entry; sending resumes when the store works again."""
    save_recommendation(stack)

    def full(*_args, **_more):
        raise StoreError("disk is full")

    for broken in (
        "trimtab.engine.store.action_ledger._AuditedTransaction.append_audit",
        "trimtab.engine.store.action_ledger.ActionLedger.pause",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(broken, full)
            await stack.step()
        assert stack.tool.effects == []
    await stack.step()
    assert stack.tool.effects == [("fake", "size", 125)]


async def test_a_failed_write_after_sending_is_recovered(stack, monkeypatch):
    """When the store fails after sending, a later step reads back and the change is sent once."""
    save_recommendation(stack)
    move = ActionLedger.transition

    def full(self, action, *rest):
        if action.state is ActionState.VERIFYING:
            raise StoreError("disk is full")
        return move(self, action, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(ActionLedger, "transition", full)
        await stack.step()
        await stack.step()
    assert only_action(stack).state is ActionState.EXECUTING
    await stack.step()
    assert only_action(stack).state is ActionState.VERIFYING
    assert stack.tool.effects == [("fake", "size", 125)]


async def test_an_engine_that_was_taken_over_stops(stack, tmp_path):
    """An engine that was taken over raises LockedError and sends nothing."""
    save_recommendation(stack)
    EventStore(f"sqlite:///{tmp_path}/trimtab.db", stack.clock.now, epoch=99).open().close()
    await stack.step()
    with pytest.raises(LockedError, match="taken over"):
        await stack.step()
    assert stack.tool.effects == []


async def test_a_fault_in_one_action_does_not_block_others(stack):
    """An exception while one recommendation starts does not keep others from expiring."""
    save_recommendation(stack, 500, fingerprint="a")
    save_recommendation(stack, 501, subject="other", mode=Mode.APPROVE, expires=stack.clock.now())
    decide, stack.launcher.decide = stack.launcher.decide, None
    await stack.step()
    assert stack.ledger.recommendation(ulid(501)).state is R.EXPIRED
    stack.launcher.decide = decide
    await stack.step()
    assert stack.tool.effects == [("fake", "size", 125)]


async def test_a_stopped_action_is_recovered_at_the_next_start(stack):
    """A cancelled send stays executing and is read back at the next start."""
    save_recommendation(stack)
    stack.executor.deadlines = replace(stack.executor.deadlines, send_s=30)
    stack.tool.gates["apply"] = asyncio.Event()
    await stack.scheduler.step(stack.clock.now())
    await wait_until(lambda: any(call[0] == "apply" for call in stack.tool.calls))
    await stack.scheduler.close()
    assert only_action(stack).state is ActionState.EXECUTING
    next_engine = ActionStack(stack.ledger, stack.clock, stack.tool, first=100)
    await next_engine.scheduler.start()
    await next_engine.step()
    assert only_action(stack).state is ActionState.FAILED
    assert stack.tool.effects == []
