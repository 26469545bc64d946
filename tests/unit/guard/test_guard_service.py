"""The guard service builds the situation of a proposal or action and decides on it."""

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
    """The part of the ledger that the guard reads."""

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
    """A guard service after one hour in which every evaluation proposed R1."""

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


async def test_decision_uses_the_pause_and_the_stored_actions():
    """A recommendation is allowed; the pause or another action on its target refuses it."""
    stack = GuardServiceStack(StoredActions())
    assert await stack.decide(make_proposal()) == "allow"
    stack.ledger.switch = Pause(True)
    assert await stack.decide(make_proposal()) == "refuse pause"
    busy = make_aged_action(0.0, state=ActionState.EXECUTING, **HERE).action
    assert await GuardServiceStack(StoredActions([busy])).decide(make_proposal()) == "refuse cooldown"


async def test_an_action_is_decided_as_its_recommendation():
    """An action does not block itself, and the stability of its recommendation counts."""
    action = make_aged_action(
        0.0, id="A1", state=ActionState.PROPOSED, started=None, recommendation_id="R1", **HERE
    ).action
    stack = GuardServiceStack(StoredActions([action], [make_proposal()]))
    assert await stack.decide(action) == "allow"
    other = make_proposal(fingerprint="another")
    assert await GuardServiceStack(StoredActions([action], [other])).decide(action) == "refuse plan"


async def test_a_manual_action_needs_no_recommendation():
    """A manual action without a recommendation is allowed for an operator only."""
    action = make_aged_action(0.0, id="A1", state=ActionState.PROPOSED, started=None, by="ann", **HERE).action
    stack = GuardServiceStack(StoredActions([action]))
    assert await stack.decide(action, person=True) == "allow"
    assert await stack.decide(action) == "refuse plan"


async def test_an_undo_is_decided_as_a_rollback():
    """An undo is allowed while the knob has the value of the action that it undoes."""
    done = make_aged_action(60.0, id="A1", state=ActionState.VERIFYING, recommendation_id="R1", **HERE).action
    undo = replace(
        done, id="A2", key="u", before=1200 * MIB, after=1000 * MIB, undoes="A1", state=ActionState.PROPOSED,
        started=None, ended=None,
    )  # fmt: skip
    reading = KnobReading(1200 * MIB, True, Lasts.UNTIL_RESTART)
    stack = GuardServiceStack(StoredActions([done, undo]), replace(LIVE, reading=reading))
    assert await stack.decide(undo) == "allow"
    stack.live = LIVE
    assert await stack.decide(undo) == "refuse rollback"


async def test_decide_as_auto_ignores_the_mode_only():
    """`decide_as_auto` ignores the mode; every other guard rule applies."""
    stack = GuardServiceStack(StoredActions(), replace(LIVE, mode=Mode.OFF))
    assert await stack.decide(make_proposal()) == "refuse mode"
    assert (await stack.service.decide_as_auto(make_proposal())).verdict == "allow"
    stack.ledger.switch = Pause(True)
    assert (await stack.service.decide_as_auto(make_proposal())).guard == "pause"


async def test_a_failing_observation_raises():
    """The guard raises the tool's error when the target cannot be observed."""
    stack = GuardServiceStack(StoredActions(), ToolError("cache-1 does not answer"))
    with pytest.raises(ToolError, match="does not answer"):
        await stack.decide(make_proposal())


async def test_cooldown_follows_the_monotonic_clock():
    """The cooldown ends by the monotonic clock although the wall clock does not move."""
    done = make_aged_action(0.0, started=START, **HERE).action
    stack = GuardServiceStack(StoredActions())
    assert await stack.decide(make_proposal()) == "allow"
    stack.ledger.all[done.id] = done
    decisions = []
    for minutes in (0, 14, 1):
        stack.monotonic_s += minutes * 60
        stack.situation_builder.advance(stack.monotonic_s * SECOND)
        stack.situation_builder.record_evaluation([make_proposal()])
        decisions.append(await stack.decide(make_proposal()))
    assert decisions == ["refuse cooldown", "refuse cooldown", "allow"]
