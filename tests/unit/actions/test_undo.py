"""Rollbacks under adverse conditions: a missing target, a refusing guard, a waiting engine, a pause."""

import asyncio

import pytest

from tests.builders.action_stack import (
    ActionStack,
    FakeDecision,
    make_fake_tool,
    only_action,
    open_ledger,
    save_recommendation,
    wait_until,
)
from trimtab.engine.audit.audit_export import verify_audit
from trimtab.engine.errors import EngineError, NotFoundError, RefusedError, ToolError
from trimtab.engine.types import ActionState, Pause

S = ActionState
MASS = FakeDecision("refuse", "mass", "40 % of all series are unusual")
RAISED, RESTORED = ("fake", "size", 125), ("fake", "size", 100)


@pytest.fixture
def stack(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield ActionStack(ledger, ledger.clock, make_fake_tool())


@pytest.fixture
async def raised(stack):
    """Return an automatic change that is being verified."""
    save_recommendation(stack)
    stack.add_history()
    await stack.step()
    return only_action(stack)


def undo_states(stack):
    """Return the states of all undos, oldest first."""
    return [action.state for action in reversed(stack.ledger.actions()) if action.undoes is not None]


def allow_operators_only(stack, engine=MASS):
    """Make the guard allow operators and return `engine` for the engine."""

    async def decide(_, person):
        return FakeDecision() if person else engine

    stack.launcher.decide = decide


def fail_guard(stack, error):
    """Make the guard raise an error."""

    async def decide(*_):
        raise error

    stack.launcher.decide = decide


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (NotFoundError("no target 'fake'"), S.REFUSED),
        (RefusedError("fake is disabled"), S.REFUSED),
        (ToolError("fake is away"), S.FAILED),
    ],
)
async def test_a_failed_undo_request_is_not_retried(stack, error, state):
    """An undo whose guard check raises is not retried by the engine; a second request runs it."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    fail_guard(stack, error)
    with pytest.raises(EngineError, match=str(error)):
        await stack.decisions.roll_back(action.id, "ann", "k2")
    assert undo_states(stack) == [state]
    stack.launcher.decide = stack.guard
    await stack.run_for(120)
    assert stack.tool.effects == [RAISED]
    assert (await stack.decisions.roll_back(action.id, "ann", "k3")).state is S.KEPT
    assert stack.ledger.action(action.id).state is S.ROLLED_BACK
    assert stack.tool.effects == [RAISED, RESTORED]


async def test_an_undo_without_its_tool_fails(stack):
    """An undo fails with a reason when its tool is removed before it is sent, and can be repeated."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    removed_tool = stack.toolbox.tools.pop("fake")
    undo = await stack.decisions.roll_back(action.id, "ann", "k2")
    assert undo.state is S.FAILED
    assert "not sent: there is no tool 'fake'" in undo.outcome.words
    assert stack.ledger.action(action.id).state is S.INCONCLUSIVE
    stack.toolbox.tools["fake"] = removed_tool
    assert (await stack.decisions.roll_back(action.id, "ann", "k3")).state is S.KEPT


async def test_a_refused_undo_keeps_the_verification(stack, raised):
    """After refused undo requests the change is still verified and rolled back when it does harm."""
    for key in ("k1", "k2"):
        stack.guard.decision = FakeDecision("refuse", "rate", "another is being changed")
        with pytest.raises(RefusedError, match="another is being changed"):
            await stack.decisions.roll_back(raised.id, "ann", key)
        stack.guard.decision = FakeDecision()
        await stack.run_for(30, level=0.5)
    assert stack.ledger.action(raised.id).state is S.VERIFYING
    await stack.run_for(6 * 60, level=0.2)
    assert stack.tool.effects == [RAISED, RESTORED]
    assert undo_states(stack) == [S.REFUSED, S.REFUSED, S.KEPT]
    assert stack.ledger.action(raised.id).state is S.ROLLED_BACK
    assert verify_audit(stack.ledger) == []


@pytest.mark.parametrize("paused", [False, True])
async def test_an_operator_overrides_a_waiting_rollback(stack, raised, paused):
    """An operator's undo replaces the engine's waiting rollback and restores the value once."""
    allow_operators_only(stack)
    await stack.run_for(5 * 60, level=0.2)
    assert undo_states(stack) == [S.PROPOSED]
    stack.ledger.set_pause(Pause(on=paused, by="ann"))
    undo = await stack.decisions.roll_back(raised.id, "ann", "k")
    assert (undo.state, undo.by) == (S.KEPT, "ann")
    assert undo_states(stack) == [S.REFUSED, S.KEPT]
    assert stack.ledger.action(raised.id).state is S.ROLLED_BACK
    stack.launcher.decide = stack.guard
    stack.ledger.set_pause(Pause(on=False, by="ann"))
    await stack.run_for(120, level=0.2)
    assert stack.tool.effects == [RAISED, RESTORED]
    assert verify_audit(stack.ledger) == []


async def test_the_engine_retries_after_a_refused_undo(stack, raised):
    """A refused undo that replaced the engine's rollback is followed by a new one."""
    stack.guard.decision = MASS
    await stack.run_for(5 * 60, level=0.2)
    with pytest.raises(RefusedError, match="40 %"):
        await stack.decisions.roll_back(raised.id, "ann", "k")
    await stack.run_for(30, level=0.2)
    assert undo_states(stack) == [S.REFUSED, S.REFUSED, S.PROPOSED]
    stack.guard.decision = FakeDecision()
    await stack.run_for(30, level=0.2)
    assert stack.tool.effects == [RAISED, RESTORED]
    assert stack.ledger.action(raised.id).state is S.ROLLED_BACK


async def test_an_undo_in_progress_is_returned(stack, raised):
    """A request during a running rollback returns that rollback and sends nothing more."""
    stack.executor.deadlines = type(stack.executor.deadlines)(30, 30, 0)
    allow_operators_only(stack)
    await stack.run_for(5 * 60, level=0.2)
    stack.launcher.decide = stack.guard
    stack.tool.gates["apply"] = asyncio.Event()
    await stack.scheduler.step(stack.clock.now())
    await wait_until(lambda: any(call[:4] == ("apply", "fake", "size", 125) for call in stack.tool.calls))
    undo = await stack.decisions.roll_back(raised.id, "ann", "k")
    assert (undo.state, undo.by) == (S.EXECUTING, "trimtab")
    stack.tool.gates["apply"].set()
    await stack.scheduler.wait_until_idle()
    assert stack.tool.effects == [RAISED, RESTORED]
    assert undo_states(stack) == [S.KEPT]


async def test_a_repeated_undo_request_is_one_undo(stack, raised):
    """A repeated request returns the undo that a crash left; another request replaces it."""
    unsent = stack.decisions.undo.new_undo(raised, "ann", f"undo:{raised.id}:k", "requested by ann")
    await stack.launcher.journal.propose(unsent)
    assert (await stack.decisions.roll_back(raised.id, "ann", "k")).state is S.PROPOSED
    assert (await stack.decisions.roll_back(raised.id, "ann", "k2")).state is S.KEPT
    await stack.step()
    assert undo_states(stack) == [S.REFUSED, S.KEPT]
    assert stack.tool.effects == [RAISED, RESTORED]


@pytest.mark.usefixtures("raised")
async def test_a_blocked_rollback_is_notified(stack):
    """A rollback whose target is missing is notified in the same step and runs once the target is back."""
    fail_guard(stack, NotFoundError("fake has no target 'fake'"))
    await stack.run_for(5 * 60, level=0.2)
    assert "rollback is waiting: fake has no target 'fake'" in stack.notifications
    assert stack.tool.effects == [RAISED]
    stack.launcher.decide = stack.guard
    await stack.run_for(15, level=0.2)
    assert stack.tool.effects == [RAISED, RESTORED]
