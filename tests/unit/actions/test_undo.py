"""Taking back at a bad moment: the target is gone, the guard refuses, the engine waits, all is paused."""

import asyncio

import pytest

from tests.builders.action_stack import Room, Word, fake_redis, only_action, open_ledger, recommended, until
from trimtab.engine.audit.audit_export import verify
from trimtab.engine.errors import EngineError, NotFoundError, RefusedError, ToolError
from trimtab.engine.types import ActionState, Pause

S = ActionState
MASS = Word("refuse", "mass", "40 % of all series are unusual")
RAISED, BACK = ("fake", "size", 125), ("fake", "size", 100)


@pytest.fixture
def room(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield Room(ledger, ledger.clock, fake_redis())


@pytest.fixture
async def raised(room):
    """An automatic change that is being watched."""
    recommended(room)
    room.past()
    await room.step()
    return only_action(room)


def undoings(room):
    """States of what was to take it back, oldest first."""
    return [action.state for action in reversed(room.ledger.actions()) if action.undoes is not None]


def person_passes(room, engine=MASS):
    """The guard holds the engine up, and lets people pass."""

    async def decide(_, person):
        return Word() if person else engine

    room.starter.decide = decide


def raises(room, error):
    """The target cannot even be asked about."""

    async def decide(*_):
        raise error

    room.starter.decide = decide


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (NotFoundError("no target 'fake'"), S.REFUSED),
        (RefusedError("fake is disabled"), S.REFUSED),
        (ToolError("fake is away"), S.FAILED),
    ],
)
async def test_an_undo_of_what_is_gone_waits_for_nothing(room, error, state):
    """Who asked is told why; once the target is back nothing goes by itself, and a second click does it."""
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    raises(room, error)
    with pytest.raises(EngineError, match=str(error)):
        await room.desk.roll_back(action.id, "ann", "k2")
    assert undoings(room) == [state]
    room.starter.decide = room.guard
    await room.live(120)
    assert room.tool.effects == [RAISED]
    assert (await room.desk.roll_back(action.id, "ann", "k3")).state is S.KEPT
    assert room.ledger.action(action.id).state is S.ROLLED_BACK
    assert room.tool.effects == [RAISED, BACK]


async def test_an_undo_of_a_tool_that_was_taken_out_fails_and_says_so(room):
    """Between the guard's word and the sending: nothing is sent, and the target is locked for the engine."""
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    held = room.toolbox.tools.pop("fake")
    undo = await room.desk.roll_back(action.id, "ann", "k2")
    assert undo.state is S.FAILED
    assert "not sent: no tool is called 'fake'" in undo.outcome.words
    assert room.ledger.action(action.id).state is S.INCONCLUSIVE
    room.toolbox.tools["fake"] = held
    assert (await room.desk.roll_back(action.id, "ann", "k3")).state is S.KEPT


async def test_a_click_that_was_refused_leaves_the_watch_on(room, raised):
    """Whoever tried to take it back in vain is not worse off than who did not: harm is taken back."""
    for key in ("k1", "k2"):
        room.guard.says = Word("refuse", "rate", "another is being changed")
        with pytest.raises(RefusedError, match="another is being changed"):
            await room.desk.roll_back(raised.id, "ann", key)
        room.guard.says = Word()
        await room.live(30, level=0.5)
    assert room.ledger.action(raised.id).state is S.VERIFYING
    await room.live(6 * 60, level=0.2)
    assert room.tool.effects == [RAISED, BACK]
    assert undoings(room) == [S.REFUSED, S.REFUSED, S.KEPT]
    assert room.ledger.action(raised.id).state is S.ROLLED_BACK
    assert verify(room.ledger) == []


@pytest.mark.parametrize("paused", [False, True])
async def test_a_person_need_not_wait_for_what_holds_the_engine_up(room, raised, paused):
    """Its undoing waits, for much else is wrong or all is paused: a click takes it back at once, and once."""
    person_passes(room)
    await room.live(5 * 60, level=0.2)
    assert undoings(room) == [S.PROPOSED]
    room.ledger.set_pause(Pause(on=paused, by="ann"))
    undo = await room.desk.roll_back(raised.id, "ann", "k")
    assert (undo.state, undo.by) == (S.KEPT, "ann")
    assert undoings(room) == [S.REFUSED, S.KEPT]
    assert room.ledger.action(raised.id).state is S.ROLLED_BACK
    room.starter.decide = room.guard
    room.ledger.set_pause(Pause(on=False, by="ann"))
    await room.live(120, level=0.2)
    assert room.tool.effects == [RAISED, BACK]
    assert verify(room.ledger) == []


async def test_the_engine_goes_on_where_the_person_could_not(room, raised):
    """A click that calls the waiting undoing off and is refused itself loses nothing: it is tried again."""
    room.guard.says = MASS
    await room.live(5 * 60, level=0.2)
    with pytest.raises(RefusedError, match="40 %"):
        await room.desk.roll_back(raised.id, "ann", "k")
    await room.live(30, level=0.2)
    assert undoings(room) == [S.REFUSED, S.REFUSED, S.PROPOSED]
    room.guard.says = Word()
    await room.live(30, level=0.2)
    assert room.tool.effects == [RAISED, BACK]
    assert room.ledger.action(raised.id).state is S.ROLLED_BACK


async def test_a_click_while_the_undoing_is_sent_sends_no_second(room, raised):
    """The tool is slow to answer: the person is given the one that is under way."""
    room.executor.deadlines = type(room.executor.deadlines)(30, 30, 0)
    person_passes(room)
    await room.live(5 * 60, level=0.2)
    room.starter.decide = room.guard
    room.tool.gates["apply"] = asyncio.Event()
    await room.conductor.step(room.clock.now())
    await until(lambda: any(call[:4] == ("apply", "fake", "size", 125) for call in room.tool.calls))
    undo = await room.desk.roll_back(raised.id, "ann", "k")
    assert (undo.state, undo.by) == (S.EXECUTING, "trimtab")
    room.tool.gates["apply"].set()
    await room.conductor.settled()
    assert room.tool.effects == [RAISED, BACK]
    assert undoings(room) == [S.KEPT]


async def test_one_click_sent_twice_is_one_undo(room, raised):
    """After a crash left it unsent: the same request is given it back, another one takes its place."""
    left = room.desk.undoing.made(raised, "ann", f"undo:{raised.id}:k", "ann took it back")
    await room.starter.journal.propose(left)
    assert (await room.desk.roll_back(raised.id, "ann", "k")).state is S.PROPOSED
    assert (await room.desk.roll_back(raised.id, "ann", "k2")).state is S.KEPT
    await room.step()
    assert undoings(room) == [S.REFUSED, S.KEPT]
    assert room.tool.effects == [RAISED, BACK]


@pytest.mark.usefixtures("raised")
async def test_harm_that_cannot_be_taken_back_is_told_at_once(room):
    """The target has vanished: people hear why in the same step, and it is done once it is there again."""
    raises(room, NotFoundError("fake has no target 'fake'"))
    await room.live(5 * 60, level=0.2)
    assert "not yet taken back: fake has no target 'fake'" in room.told
    assert room.tool.effects == [RAISED]
    room.starter.decide = room.guard
    await room.live(15, level=0.2)
    assert room.tool.effects == [RAISED, BACK]
