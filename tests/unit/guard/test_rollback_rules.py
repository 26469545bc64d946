"""Guard rules on rollbacks, and on operators who restore a previous value."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import (
    LIMITS,
    MIB,
    SPEED,
    WORKERS,
    make_aged_action,
    make_change,
    make_proposal,
    make_situation,
    named_cases,
    past_change,
    verdict_of,
)
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.types import ActionState, KnobType, Mode

HERE = {"target": "cache-1"}
HOUR = 3600.0
FAILED, RUNNING, UNDONE = ActionState.FAILED, ActionState.VERIFYING, ActionState.ROLLED_BACK
REFUSED = ActionState.REFUSED


RAISED = past_change(60.0, 50, 100)

RESTORATIONS = [
    # (case, earlier changes with the newest first, proposed value, proposer, verdict); the value is 100
    ("to the value before", [RAISED], 50, "ann", "allow"),
    ("to a value that it never had", [RAISED], 51, "ann", "refuse step"),
    ("to the value before in another type", [RAISED], 50.0, "ann", "refuse step"),
    ("to an older value", [past_change(60.0, 70, 100), past_change(HOUR, 50, 70)], 50, "ann", "allow"),
    ("by the engine", [RAISED], 50, "trimtab", "refuse step"),
    ("changed by something else since", [past_change(60.0, 50, 90)], 50, "ann", "refuse step"),
    ("the change is itself an undo", [past_change(60.0, 50, 100, undoes="A0")], 50, "ann", "refuse step"),
    ("the change was rolled back", [past_change(60.0, 50, 100, state=UNDONE)], 50, "ann", "refuse step"),
    ("the change failed", [past_change(60.0, 50, 100, state=FAILED)], 50, "ann", "refuse step"),
    ("a small step back", [past_change(60.0, 91, 100)], 91, "ann", "allow"),
    ("a small step further", [past_change(60.0, 91, 100)], 109, "ann", "refuse dead band"),
    ("while it is verified", [past_change(60.0, 50, 100, state=RUNNING)], 50, "ann", "refuse rate"),
]


@pytest.mark.parametrize(("changes", "value", "by", "word"), named_cases(RESTORATIONS))
def test_an_operator_restores_an_earlier_value(changes, value, by, word):
    """An operator may restore an exact earlier value at once in one step; all other rules apply."""
    proposal, situation = make_change(WORKERS, 100, value, recent_actions=tuple(changes))
    recent = tuple(replace(past, action=replace(past.action, subject="workers")) for past in changes)
    situation = replace(situation, recent_actions=recent, knob=replace(WORKERS, high=200.0))
    assert verdict_of(replace(proposal, proposer=by), situation, person=True) == word


def test_an_operator_restores_the_unset_state():
    """Where the knob was unset before, restoring it is a reset; the pause still applies."""
    unset = past_change(60.0, 50, 100, set_before=False, subject="workers")
    proposal, situation = make_change(WORKERS, 100, None, recent_actions=(unset,))
    proposal = replace(proposal, proposer="ann")
    assert verdict_of(proposal, situation, person=True) == "allow"
    assert verdict_of(proposal, replace(situation, pause=replace(situation.pause, on=True)), person=True) == (
        "refuse pause"
    )


ROLLBACKS = [
    ("a rollback", {}, {}, False, "allow"),
    ("paused", {}, {"pause": replace(make_situation().pause, on=True)}, False, "refuse pause"),
    ("paused, by an operator", {}, {"pause": replace(make_situation().pause, on=True)}, True, "allow"),
    ("target no longer listed", {}, {"targets": ("cache-2",)}, False, "refuse targets"),
    ("knob gone", {}, {"knob": None}, False, "refuse subject"),
    ("to another value", {"after": 901 * MIB}, {}, False, "refuse rollback"),
    ("to the value before in another type", {"after": 900.0 * MIB}, {}, False, "refuse rollback"),
    ("mode off, start-up", {}, {"mode": Mode.OFF, "uptime_s": 0.0}, False, "allow"),
    ("inputs unknown", {}, {"inputs": None}, False, "allow"),
    ("knob cannot be read", {}, {"reading": None}, True, "refuse rollback"),
    ("changed since", {}, {"reading": replace(make_situation().reading, value=1)}, True, "refuse rollback"),
    ("mass", {}, {"mass": None}, False, "refuse mass breaker"),
    ("mass, by an operator", {}, {"mass": None}, True, "allow"),
    (
        "another runs on this target",
        {},
        {"recent_actions": (make_aged_action(9.0, state=RUNNING, **HERE),)},
        False,
        "refuse rate",
    ),
    (
        "many recent actions",
        {},
        {"recent_actions": tuple(make_aged_action(9.0 + i) for i in range(30))},
        False,
        "allow",
    ),
    (
        "already rolled back",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A1", **HERE),)},
        True,
        "refuse rollback",
    ),
    (
        "an earlier rollback failed",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A1", state=FAILED, **HERE),)},
        False,
        "refuse rollback",
    ),
    (
        "an earlier rollback failed, by an operator",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A1", state=FAILED, **HERE),)},
        True,
        "allow",
    ),
    (
        "an earlier rollback was refused",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A1", state=REFUSED, **HERE),)},
        False,
        "allow",
    ),
    (
        "another action was undone",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A9", **HERE),)},
        False,
        "allow",
    ),
]


@pytest.mark.parametrize(("proposed", "changed", "person", "word"), named_cases(ROLLBACKS))
def test_rollback(proposed, changed, person, word):
    """A rollback restores the exact previous value, once, while the value is still the engine's."""
    done = make_aged_action(120.0, id="A1", before=900 * MIB, after=1000 * MIB, state=RUNNING, **HERE)
    recent = (done, *changed.pop("recent_actions", ())) if changed else (done,)
    proposal = make_proposal(id="A2", **{"before": 1000 * MIB, "after": 900 * MIB, **proposed})
    situation = make_situation(undoes=done.action, **{**changed, "recent_actions": recent})
    assert verdict_of(proposal, situation, person=person) == word
    if word == "allow" and not person:
        assert decide(proposal, situation, LIMITS).reason.startswith("it rolls back the engine's own change")


def test_a_rollback_resets_a_knob_that_was_unset():
    """A rollback resets a knob that was unset before, and refuses to set a value."""
    done = make_aged_action(
        120.0, id="A1", before=900 * MIB, after=1000 * MIB, set_before=False, **HERE
    ).action
    proposal = make_proposal(before=1000 * MIB, after=None)
    assert verdict_of(proposal, make_situation(undoes=done)) == "allow"
    assert verdict_of(replace(proposal, after=900 * MIB), make_situation(undoes=done)) == "refuse rollback"


def test_a_denied_value_never_blocks_a_rollback():
    """A rollback may restore a denied value, which is never proposed."""
    knob = replace(
        SPEED, name="maxmemory-policy", type=KnobType.CHOICE, choices=("allkeys-lru", "noeviction")
    )
    proposal, situation = make_change(knob, "allkeys-lru", "noeviction")
    done = make_aged_action(
        60.0, subject="maxmemory-policy", before="noeviction", after="allkeys-lru", **HERE
    ).action
    assert verdict_of(proposal, situation) == "refuse denied"
    assert verdict_of(proposal, replace(situation, undoes=done)) == "allow"


@pytest.mark.parametrize(
    "other",
    [{"tool": "x"}, {"target": "cache-2"}, {"subject": "hz"}, {"is_action": True}],
)
def test_a_rollback_needs_the_same_knob(other):
    """A rollback of another tool, target or knob, or of a tool action, is refused."""
    done = make_aged_action(120.0, **{"before": 900 * MIB, "after": 1000 * MIB, **HERE, **other}).action
    assert (
        verdict_of(make_proposal(before=1000 * MIB, after=900 * MIB), make_situation(undoes=done))
        == "refuse rollback"
    )
