"""How the guard is asked: what it reads, and that an action is asked about as its recommendation."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import CALM, GOOD, MAXMEMORY, MIB, ROOM, asked, past
from tests.builders.series import SECOND, START
from tests.fakes.ports import FakeClock
from trimtab.engine.actions.guard.guard_service import Asking
from trimtab.engine.actions.guard.situation_builder import Live, Memory
from trimtab.engine.errors import ToolError
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import ActionState, KnobReading, Lasts, Mode, Pause

HERE = {"target": "cache-1", "before": 1000 * MIB, "after": 1200 * MIB}
LIVE = Live(
    mode=Mode.AUTO, targets=("cache-1",), targets_in_all=1, knob=MAXMEMORY, inputs=GOOD, mass=CALM,
    memory=ROOM, reading=KnobReading(1000 * MIB, True, Lasts.UNTIL_RESTART),
)  # fmt: skip


class StoredActions:
    """The part of a ledger that the guard reads."""

    def __init__(self, actions=(), recommendations=()):
        self.all = {action.id: action for action in actions}
        self.made = {made.id: made for made in recommendations}
        self.switch = Pause(False)

    def action(self, action_id):
        return self.all[action_id]

    def recommendation(self, recommendation_id):
        return self.made[recommendation_id]

    def actions(self, *, unfinished=False, limit=100):
        found = [action for action in self.all.values() if not (unfinished and action.state.is_final)]
        return sorted(found, key=lambda action: action.id, reverse=True)[:limit]

    def pause(self):
        return self.switch


class Room:
    """An engine that has run for an hour and came to R1 again and again."""

    def __init__(self, ledger, live=LIVE):
        self.ledger, self.live, self.seconds = ledger, live, 0
        self.memory = Memory(Guardrails())
        self.asking = Asking(self.memory, ledger, FakeClock(), lambda: self.seconds * SECOND, self.see)
        for _ in range(60):
            self.seconds += 60
            self.memory.tick(self.seconds * SECOND)
            self.memory.evaluated([asked()])

    async def see(self, proposal):
        if isinstance(self.live, Exception):
            raise self.live
        return replace(self.live, targets=(proposal.target,))

    async def said(self, proposal, person=False):
        decision = await self.asking(proposal, person)
        return f"{decision.verdict} {decision.guard}".strip()


async def test_a_recommendation_is_asked_about_with_what_is_stored_and_seen():
    """It passes; with the pause on, or another change of its target, it does not."""
    room = Room(StoredActions())
    assert await room.said(asked()) == "allow"
    room.ledger.switch = Pause(True)
    assert await room.said(asked()) == "refuse pause"
    busy = past(0.0, state=ActionState.EXECUTING, **HERE).action
    assert await Room(StoredActions([busy])).said(asked()) == "refuse cooldown"


async def test_an_action_is_asked_about_as_its_recommendation():
    """Its own row does not stand in its way, and what is known of the recommendation counts."""
    mine = past(0.0, id="A1", state=ActionState.PROPOSED, started=None, recommendation_id="R1", **HERE).action
    room = Room(StoredActions([mine], [asked()]))
    assert await room.said(mine) == "allow"
    other = asked(fingerprint="another")
    assert await Room(StoredActions([mine], [other])).said(mine) == "refuse plan"


async def test_what_a_person_does_by_hand_has_no_recommendation():
    """It is asked about as it stands, and needs the person."""
    mine = past(0.0, id="A1", state=ActionState.PROPOSED, started=None, by="ann", **HERE).action
    room = Room(StoredActions([mine]))
    assert await room.said(mine, person=True) == "allow"
    assert await room.said(mine) == "refuse plan"


async def test_a_rollback_is_asked_about_as_one():
    """It finds what it takes back, by the engine itself, and is no change of its own."""
    done = past(60.0, id="A1", state=ActionState.VERIFYING, recommendation_id="R1", **HERE).action
    back = replace(
        done, id="A2", key="u", before=1200 * MIB, after=1000 * MIB, undoes="A1", state=ActionState.PROPOSED,
        started=None, ended=None,
    )  # fmt: skip
    reading = KnobReading(1200 * MIB, True, Lasts.UNTIL_RESTART)
    room = Room(StoredActions([done, back]), replace(LIVE, reading=reading))
    assert await room.said(back) == "allow"
    room.live = LIVE
    assert await room.said(back) == "refuse rollback"


async def test_what_mode_auto_would_do_is_asked_about_as_nobodys_word():
    """Of one whose mode lets nothing be done; all other rows hold as ever."""
    room = Room(StoredActions(), replace(LIVE, mode=Mode.OFF))
    assert await room.said(asked()) == "refuse mode"
    assert (await room.asking.in_mode_auto(asked())).verdict == "allow"
    room.ledger.switch = Pause(True)
    assert (await room.asking.in_mode_auto(asked())).guard == "pause"


async def test_a_target_that_cannot_be_seen_is_not_decided_about():
    """The tool's own error says why."""
    room = Room(StoredActions(), ToolError("cache-1 does not answer"))
    with pytest.raises(ToolError, match="does not answer"):
        await room.said(asked())


async def test_an_action_is_as_old_as_the_engine_lived_since():
    """Cooldown ends by the monotonic clock; the fake wall clock stands still."""
    done = past(0.0, started=START, **HERE).action
    room = Room(StoredActions())
    assert await room.said(asked()) == "allow"
    room.ledger.all[done.id] = done
    words = []
    for minutes in (0, 14, 1):
        room.seconds += minutes * 60
        room.memory.tick(room.seconds * SECOND)
        room.memory.evaluated([asked()])
        words.append(await room.said(asked()))
    assert words == ["refuse cooldown", "refuse cooldown", "allow"]
