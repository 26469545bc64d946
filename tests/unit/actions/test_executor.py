"""Executor: the journal entries before and after one action is sent, whatever the tool answers."""

import asyncio

import pytest

from tests.builders.action_stack import ActionStack, make_fake_tool, wait_until
from tests.builders.actions import make_action
from tests.builders.ledgers import open_ledger
from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.actions.executor import Deadlines
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.types import ActionState, Pause

LOST = ToolUncertainError("the connection broke")
CHANGE = {"tool": "fake", "target": "fake", "subject": "size"}
FLUSH = {
    "tool": "fake",
    "target": "fake",
    "subject": "flush",
    "is_action": True,
    "before": None,
    "after": None,
}


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path, FakeClock().now) as ledger:
        yield ledger


@pytest.fixture
def stack(ledger):
    return ActionStack(ledger, FakeClock(), make_fake_tool())


async def propose_and_execute(stack, **changed):
    """Propose an action and execute it; return its final state."""
    action = await stack.launcher.journal.propose(make_action(ulid(1), **{**CHANGE, **changed}))
    return await stack.executor.execute(action)


async def test_a_change_is_journaled_before_it_is_sent(stack):
    """The action is stored as executing with its previous value before the tool is called."""
    stored = []
    stack.tool.gates["apply"] = asyncio.Event()
    task = asyncio.create_task(propose_and_execute(stack))
    await wait_until(lambda: any(call[0] == "apply" for call in stack.tool.calls))
    stored.append(stack.ledger.action(ulid(1)))
    stack.tool.gates["apply"].set()
    done = await task
    assert (stored[0].state, stored[0].started, stored[0].set_before) == (
        ActionState.EXECUTING,
        stack.clock.now(),
        True,
    )
    assert (done.state, done.told) == (
        ActionState.VERIFYING,
        "lasts until restart; to make it last: size 125",
    )
    assert [row.what for row in stack.ledger.audit_rows(subject=ulid(1))] == [
        "proposed",
        "executing",
        "verifying",
    ]
    assert stack.tool.effects == [("fake", "size", 125)]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("read", NotFoundError("no knob size"), "not sent: no knob size"),
        ("read", ToolError("away"), "not sent: away"),
        ("apply", ConflictError("it is 101"), "it is 101"),
        ("apply", RefusedError("over the memory"), "over the memory"),
        ("apply", ToolError("not allowed"), "not allowed"),
    ],
)
async def test_a_refused_change_fails(stack, call, error, words):
    """A change that the tool refuses fails with the tool's reason and has no effect."""
    stack.tool.respond_with(call, error)
    done = await propose_and_execute(stack)
    assert (done.state, done.outcome.words) == (ActionState.FAILED, words)
    assert stack.tool.effects == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"before": 90}, "size of fake is 100, 90 was expected: it was changed in the meantime"),
        ({"target": "other"}, "'other' is not a target of fake"),
        ({"tool": "none"}, "there is no tool 'none'"),
        ({"before": None}, "size of fake is 100, None was expected"),
    ],
)
async def test_a_mismatched_change_is_not_sent(stack, changed, words):
    """A change with another previous value, an unlisted target or an unknown tool is not sent."""
    done = await propose_and_execute(stack, **changed)
    assert done.state is ActionState.FAILED
    assert f"not sent: {words}" in done.outcome.words
    assert not any(call[0] == "apply" for call in stack.tool.calls)
    assert done.started is None


@pytest.mark.parametrize(
    ("lost_after", "value", "state"),
    [
        (True, None, ActionState.VERIFYING),  # it took effect, the answer was lost
        (False, None, ActionState.FAILED),  # it never arrived
        (False, 777, ActionState.UNKNOWN),  # somebody else changed the value
    ],
)
async def test_a_lost_answer_is_read_back(stack, lost_after, value, state):
    """After a lost answer the value that is read back decides the state; nothing is sent again."""
    if value is not None:
        stack.tool.values["fake", "size"] = value
        stack.tool.respond_with("read", await make_fake_tool().read("fake", "size"))
    (stack.tool.fail_after_effect if lost_after else stack.tool.respond_with)("apply", LOST)
    done = await propose_and_execute(stack)
    assert done.state is state
    assert "the connection broke" in (done.outcome.words if done.outcome else done.told)
    assert len([call for call in stack.tool.calls if call[0] == "apply"]) == 1


async def test_a_lost_answer_that_cannot_be_read_back_is_unknown(stack):
    """A change without an answer that cannot be read back is unknown and never sent again."""
    stack.tool.fail_after_effect("apply", LOST)
    stack.tool.respond_with("read", None, ToolError("away"))
    done = await propose_and_execute(stack)
    assert done.state is ActionState.UNKNOWN
    assert done.outcome.words == "the connection broke; the value could not be read back (away)"


@pytest.mark.parametrize("error", [LOST, ValueError("a fault of the tool"), None])
async def test_a_tool_action_without_an_answer_is_unknown(stack, error):
    """A tool action without an answer is unknown: after a lost connection, a fault or a timeout."""
    if error is None:
        stack.tool.gates["run"] = asyncio.Event()
    else:
        stack.tool.respond_with("run", error)
    done = await propose_and_execute(stack, **FLUSH)
    assert done.state is ActionState.UNKNOWN
    assert "not run again" in done.outcome.words


async def test_a_tool_action_receives_its_key(stack):
    """A tool action receives its idempotency key, so that the tool can refuse a second run."""
    done = await propose_and_execute(stack, **FLUSH)
    assert (done.state, done.told) == (ActionState.VERIFYING, "flush done")
    assert stack.tool.effects == [("fake", "flush", f"key-{ulid(1)}")]


async def test_a_missing_answer_is_read_back_at_the_deadline(stack):
    """A change without an answer is read back at the deadline."""
    stack.tool.gates["apply"] = asyncio.Event()
    done = await propose_and_execute(stack)
    assert done.state is ActionState.FAILED
    assert done.outcome.words == "no answer in 0.2 s; it reads 100: it was not changed"


async def test_a_late_change_is_read_back(ledger):
    """An unchanged value is read a second time after the settle time before the action fails."""
    clock = FakeClock()
    stack = ActionStack(ledger, clock, make_fake_tool(), deadlines=Deadlines(0.2, 0.2, settle_s=1.0))
    stack.tool.respond_with("apply", LOST)
    task = asyncio.create_task(propose_and_execute(stack))
    await wait_until(lambda: clock.sleepers)
    stack.tool.values["fake", "size"] = 125
    clock.tick(1.0)
    assert (await task).state is ActionState.VERIFYING


async def test_concurrent_executions_send_once(stack):
    """Concurrent executions of one action send it once; the others raise ConflictError."""
    action = await stack.launcher.journal.propose(make_action(ulid(1), **CHANGE))
    other = ActionStack(stack.ledger, stack.clock, stack.tool)
    results = await asyncio.gather(
        *(each.execute(action) for each in (stack.executor, stack.executor, other.executor)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Action", "ConflictError", "ConflictError"]
    assert stack.tool.effects == [("fake", "size", 125)]


async def test_nothing_is_sent_during_a_pause(stack):
    """A pause that starts after the guard's decision leaves the action proposed."""
    stack.ledger.set_pause(Pause(on=True, by="ann"))
    assert (await propose_and_execute(stack)).state is ActionState.PROPOSED
    assert stack.tool.effects == []


async def test_a_stalled_execution_sends_nothing(stack):
    """An execution that stalls between journal and send fails, because another engine may have taken over."""
    stack.executor.boundary = lambda name: stack.clock.tick(31) if name == "executor.send" else None
    done = await propose_and_execute(stack)
    assert done.state is ActionState.FAILED
    assert "passed before it was sent" in done.outcome.words
    assert stack.tool.effects == []


@pytest.mark.parametrize(
    ("value", "state"), [(125, ActionState.VERIFYING), (100, ActionState.FAILED), (7, ActionState.UNKNOWN)]
)
async def test_an_interrupted_action_is_read_back(stack, value, state):
    """An interrupted action gets its state from the value that is read back; nothing is sent."""
    action = await stack.launcher.journal.propose(make_action(ulid(1), **CHANGE))
    action = await stack.launcher.journal.mark_executing(action, await stack.tool.read("fake", "size"))
    stack.tool.values["fake", "size"] = value
    assert (await stack.executor.recover(action, give_up=False)).state is state
    assert not any(call[0] == "apply" for call in stack.tool.calls)


async def test_an_interrupted_action_waits_for_its_tool(stack):
    """An interrupted action waits for its tool and becomes unknown when recovery gives up."""
    action = await stack.launcher.journal.propose(make_action(ulid(1), **CHANGE))
    action = await stack.launcher.journal.mark_executing(action, None)
    stack.tool.respond_with("read", ToolError("away"), ToolError("away"))
    assert await stack.executor.recover(action, give_up=False) == action
    assert (await stack.executor.recover(action, give_up=True)).state is ActionState.UNKNOWN


async def test_a_short_delay_is_no_stall(stack):
    """A delay under a second between journal and send is allowed."""
    stack.executor.boundary = lambda _: stack.clock.tick(0.1)
    done = await propose_and_execute(stack)
    assert done.state is ActionState.VERIFYING
    assert stack.clock.now() - done.created < SECOND
