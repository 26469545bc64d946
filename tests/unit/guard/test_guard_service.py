"""How the guard is asked: what it reads, and that an action is asked about as its recommendation."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import (
    ENOUGH_MEMORY,
    GOOD_INPUTS,
    MAXMEMORY,
    MIB,
    NO_MASS_ANOMALY,
    make_aged_action,
    make_proposal,
)
from tests.builders.series import SECOND, START
from tests.fakes.ports import FakeClock
from trimtab.engine.actions.guard.guard_service import GuardService
from trimtab.engine.actions.guard.situation_builder import SituationBuilder, TargetObservation
from trimtab.engine.errors import ToolError
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import ActionState, KnobReading, Lasts, Mode, Pause

HERE = {"target": "cache-1", "before": 1000 * MIB, "after": 1200 * MIB}
LIVE = TargetObservation(
    mode=Mode.AUTO, targets=("cache-1",), total_targets=1, knob=MAXMEMORY, inputs=GOOD_INPUTS,
    mass=NO_MASS_ANOMALY,
    memory=ENOUGH_MEMORY, reading=KnobReading(1000 * MIB, True, Lasts.UNTIL_RESTART),
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


class GuardServiceStack:
    """An engine that has run for an hour and came to R1 again and again."""

    def __init__(self, ledger, live=LIVE):
        self.ledger, self.live, self.monotonic_s = ledger, live, 0
        self.situation_builder = SituationBuilder(Guardrails())
        self.service = GuardService(
            self.situation_builder, ledger, FakeClock(), lambda: self.monotonic_s * SECOND, self.observe
        )
        for _ in range(60):
            self.monotonic_s += 60
            self.situation_builder.advance(self.monotonic_s * SECOND)
            self.situation_builder.record_evaluation([make_proposal()])

    async def observe(self, proposal):
        if isinstance(self.live, Exception):
            raise self.live
        return replace(self.live, targets=(proposal.target,))

    async def decide(self, proposal, person=False):
        decision = await self.service(proposal, person)
        return f"{decision.verdict} {decision.guard}".strip()


async def test_a_recommendation_is_asked_about_with_what_is_stored_and_seen():
    """It passes; with the pause on, or another change of its target, it does not."""
    stack = GuardServiceStack(StoredActions())
    assert await stack.decide(make_proposal()) == "allow"
    stack.ledger.switch = Pause(True)
    assert await stack.decide(make_proposal()) == "refuse pause"
    busy = make_aged_action(0.0, state=ActionState.EXECUTING, **HERE).action
    assert await GuardServiceStack(StoredActions([busy])).decide(make_proposal()) == "refuse cooldown"


async def test_an_action_is_asked_about_as_its_recommendation():
    """Its own row does not stand in its way, and what is known of the recommendation counts."""
    mine = make_aged_action(
        0.0, id="A1", state=ActionState.PROPOSED, started=None, recommendation_id="R1", **HERE
    ).action
    stack = GuardServiceStack(StoredActions([mine], [make_proposal()]))
    assert await stack.decide(mine) == "allow"
    other = make_proposal(fingerprint="another")
    assert await GuardServiceStack(StoredActions([mine], [other])).decide(mine) == "refuse plan"


async def test_what_a_person_does_by_hand_has_no_recommendation():
    """It is asked about as it stands, and needs the person."""
    mine = make_aged_action(0.0, id="A1", state=ActionState.PROPOSED, started=None, by="ann", **HERE).action
    stack = GuardServiceStack(StoredActions([mine]))
    assert await stack.decide(mine, person=True) == "allow"
    assert await stack.decide(mine) == "refuse plan"


async def test_a_rollback_is_asked_about_as_one():
    """It finds what it takes back, by the engine itself, and is no change of its own."""
    done = make_aged_action(60.0, id="A1", state=ActionState.VERIFYING, recommendation_id="R1", **HERE).action
    back = replace(
        done, id="A2", key="u", before=1200 * MIB, after=1000 * MIB, undoes="A1", state=ActionState.PROPOSED,
        started=None, ended=None,
    )  # fmt: skip
    reading = KnobReading(1200 * MIB, True, Lasts.UNTIL_RESTART)
    stack = GuardServiceStack(StoredActions([done, back]), replace(LIVE, reading=reading))
    assert await stack.decide(back) == "allow"
    stack.live = LIVE
    assert await stack.decide(back) == "refuse rollback"


async def test_what_mode_auto_would_do_is_asked_about_as_nobodys_word():
    """Of one whose mode lets nothing be done; all other rows hold as ever."""
    stack = GuardServiceStack(StoredActions(), replace(LIVE, mode=Mode.OFF))
    assert await stack.decide(make_proposal()) == "refuse mode"
    assert (await stack.service.decide_as_auto(make_proposal())).verdict == "allow"
    stack.ledger.switch = Pause(True)
    assert (await stack.service.decide_as_auto(make_proposal())).guard == "pause"


async def test_a_target_that_cannot_be_seen_is_not_decided_about():
    """The tool's own error says why."""
    stack = GuardServiceStack(StoredActions(), ToolError("cache-1 does not answer"))
    with pytest.raises(ToolError, match="does not answer"):
        await stack.decide(make_proposal())


async def test_an_action_is_as_old_as_the_engine_lived_since():
    """Cooldown ends by the monotonic clock; the fake wall clock stands still."""
    done = make_aged_action(0.0, started=START, **HERE).action
    stack = GuardServiceStack(StoredActions())
    assert await stack.decide(make_proposal()) == "allow"
    stack.ledger.all[done.id] = done
    words = []
    for minutes in (0, 14, 1):
        stack.monotonic_s += minutes * 60
        stack.situation_builder.advance(stack.monotonic_s * SECOND)
        stack.situation_builder.record_evaluation([make_proposal()])
        words.append(await stack.decide(make_proposal()))
    assert words == ["refuse cooldown", "refuse cooldown", "allow"]
