"""Taking back at a bad moment: the target is gone, the guard refuses, the engine waits, all is paused."""

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
RAISED, BACK = ("fake", "size", 125), ("fake", "size", 100)


@pytest.fixture
def stack(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield ActionStack(ledger, ledger.clock, make_fake_tool())


@pytest.fixture
async def raised(stack):
    """An automatic change that is being watched."""
    save_recommendation(stack)
    stack.add_history()
    await stack.step()
    return only_action(stack)


def undoings(stack):
    """States of what was to take it back, oldest first."""
    return [action.state for action in reversed(stack.ledger.actions()) if action.undoes is not None]


def person_passes(stack, engine=MASS):
    """The guard holds the engine up, and lets people pass."""

    async def decide(_, person):
        return FakeDecision() if person else engine

    stack.launcher.decide = decide


def raises(stack, error):
    """The target cannot even be asked about."""

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
async def test_an_undo_of_what_is_gone_waits_for_nothing(stack, error, state):
    """Who asked is told why; once the target is back nothing goes by itself, and a second click does it."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    raises(stack, error)
    with pytest.raises(EngineError, match=str(error)):
        await stack.decisions.roll_back(action.id, "ann", "k2")
    assert undoings(stack) == [state]
    stack.launcher.decide = stack.guard
    await stack.run_for(120)
    assert stack.tool.effects == [RAISED]
    assert (await stack.decisions.roll_back(action.id, "ann", "k3")).state is S.KEPT
    assert stack.ledger.action(action.id).state is S.ROLLED_BACK
    assert stack.tool.effects == [RAISED, BACK]


async def test_an_undo_of_a_tool_that_was_taken_out_fails_and_says_so(stack):
    """Between the guard's word and the sending: nothing is sent, and the target is locked for the engine."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    held = stack.toolbox.tools.pop("fake")
    undo = await stack.decisions.roll_back(action.id, "ann", "k2")
    assert undo.state is S.FAILED
    assert "not sent: there is no tool 'fake'" in undo.outcome.words
    assert stack.ledger.action(action.id).state is S.INCONCLUSIVE
    stack.toolbox.tools["fake"] = held
    assert (await stack.decisions.roll_back(action.id, "ann", "k3")).state is S.KEPT


async def test_a_click_that_was_refused_leaves_the_watch_on(stack, raised):
    """Whoever tried to take it back in vain is not worse off than who did not: harm is taken back."""
    for key in ("k1", "k2"):
        stack.guard.decision = FakeDecision("refuse", "rate", "another is being changed")
        with pytest.raises(RefusedError, match="another is being changed"):
            await stack.decisions.roll_back(raised.id, "ann", key)
        stack.guard.decision = FakeDecision()
        await stack.run_for(30, level=0.5)
    assert stack.ledger.action(raised.id).state is S.VERIFYING
    await stack.run_for(6 * 60, level=0.2)
    assert stack.tool.effects == [RAISED, BACK]
    assert undoings(stack) == [S.REFUSED, S.REFUSED, S.KEPT]
    assert stack.ledger.action(raised.id).state is S.ROLLED_BACK
    assert verify_audit(stack.ledger) == []


@pytest.mark.parametrize("paused", [False, True])
async def test_a_person_need_not_wait_for_what_holds_the_engine_up(stack, raised, paused):
    """Its undoing waits, for much else is wrong or all is paused: a click takes it back at once, and once."""
    person_passes(stack)
    await stack.run_for(5 * 60, level=0.2)
    assert undoings(stack) == [S.PROPOSED]
    stack.ledger.set_pause(Pause(on=paused, by="ann"))
    undo = await stack.decisions.roll_back(raised.id, "ann", "k")
    assert (undo.state, undo.by) == (S.KEPT, "ann")
    assert undoings(stack) == [S.REFUSED, S.KEPT]
    assert stack.ledger.action(raised.id).state is S.ROLLED_BACK
    stack.launcher.decide = stack.guard
    stack.ledger.set_pause(Pause(on=False, by="ann"))
    await stack.run_for(120, level=0.2)
    assert stack.tool.effects == [RAISED, BACK]
    assert verify_audit(stack.ledger) == []


async def test_the_engine_goes_on_where_the_person_could_not(stack, raised):
    """A click that calls the waiting undoing off and is refused itself loses nothing: it is tried again."""
    stack.guard.decision = MASS
    await stack.run_for(5 * 60, level=0.2)
    with pytest.raises(RefusedError, match="40 %"):
        await stack.decisions.roll_back(raised.id, "ann", "k")
    await stack.run_for(30, level=0.2)
    assert undoings(stack) == [S.REFUSED, S.REFUSED, S.PROPOSED]
    stack.guard.decision = FakeDecision()
    await stack.run_for(30, level=0.2)
    assert stack.tool.effects == [RAISED, BACK]
    assert stack.ledger.action(raised.id).state is S.ROLLED_BACK


async def test_a_click_while_the_undoing_is_sent_sends_no_second(stack, raised):
    """The tool is slow to answer: the person is given the one that is under way."""
    stack.executor.deadlines = type(stack.executor.deadlines)(30, 30, 0)
    person_passes(stack)
    await stack.run_for(5 * 60, level=0.2)
    stack.launcher.decide = stack.guard
    stack.tool.gates["apply"] = asyncio.Event()
    await stack.scheduler.step(stack.clock.now())
    await wait_until(lambda: any(call[:4] == ("apply", "fake", "size", 125) for call in stack.tool.calls))
    undo = await stack.decisions.roll_back(raised.id, "ann", "k")
    assert (undo.state, undo.by) == (S.EXECUTING, "trimtab")
    stack.tool.gates["apply"].set()
    await stack.scheduler.wait_until_idle()
    assert stack.tool.effects == [RAISED, BACK]
    assert undoings(stack) == [S.KEPT]


async def test_one_click_sent_twice_is_one_undo(stack, raised):
    """After a crash left it unsent: the same request is given it back, another one takes its place."""
    left = stack.decisions.undo.new_undo(raised, "ann", f"undo:{raised.id}:k", "requested by ann")
    await stack.launcher.journal.propose(left)
    assert (await stack.decisions.roll_back(raised.id, "ann", "k")).state is S.PROPOSED
    assert (await stack.decisions.roll_back(raised.id, "ann", "k2")).state is S.KEPT
    await stack.step()
    assert undoings(stack) == [S.REFUSED, S.KEPT]
    assert stack.tool.effects == [RAISED, BACK]


@pytest.mark.usefixtures("raised")
async def test_harm_that_cannot_be_taken_back_is_told_at_once(stack):
    """The target has vanished: people hear why in the same step, and it is done once it is there again."""
    raises(stack, NotFoundError("fake has no target 'fake'"))
    await stack.run_for(5 * 60, level=0.2)
    assert "rollback is waiting: fake has no target 'fake'" in stack.notifications
    assert stack.tool.effects == [RAISED]
    stack.launcher.decide = stack.guard
    await stack.run_for(15, level=0.2)
    assert stack.tool.effects == [RAISED, BACK]
