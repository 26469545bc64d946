"""Guard rules on changes of direction: a reversal needs an operator, two lock the target."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import (
    SPEED,
    STABLE,
    make_aged_action,
    make_change,
    make_proposal,
    make_situation,
    named_cases,
    past_change,
    verdict_of,
)
from tests.builders.series import SECOND, START
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import ActionState, KnobType, Risk, ToolAction

HERE = {"target": "cache-1"}
MINUTE, HOUR = 60.0, 3600.0
FAILED, UNDONE = ActionState.FAILED, ActionState.ROLLED_BACK
UP, DOWN = (100.0, 120.0), (100.0, 80.0)
TWO_REVERSALS = (
    past_change(5.5 * HOUR, 80, 100),
    past_change(5 * HOUR, 100, 80),
    past_change(2 * HOUR, 80, 100),
)
REVERSALS = [
    # (case, earlier changes, values of the proposal, verdict)
    ("opposite within 30 min", [past_change(30 * MINUTE - 1)], DOWN, "approve reversal"),
    ("opposite after 30 min", [past_change(30 * MINUTE)], DOWN, "allow"),
    ("same direction", [past_change(16 * MINUTE)], UP, "allow"),
    ("opposite of a failed change", [past_change(16 * MINUTE, state=FAILED)], DOWN, "allow"),
    (
        "opposite of an older change",
        [past_change(20 * MINUTE, 120, 80), past_change(16 * MINUTE)],
        UP,
        "allow",
    ),
    ("opposite on another knob", [past_change(16 * MINUTE, subject="hz")], DOWN, "allow"),
    ("opposite on another target", [past_change(29 * MINUTE, target="cache-2")], DOWN, "allow"),
    # two reversals within 6 h lock the target
    ("a second reversal", [past_change(5 * HOUR, 80, 120), past_change(HOUR, 120, 100)], UP, "refuse lock"),
    ("no second reversal", [past_change(5 * HOUR, 80, 120), past_change(HOUR, 120, 100)], DOWN, "allow"),
    ("a reversal 6 h ago", [past_change(7 * HOUR, 80, 120), past_change(6 * HOUR, 120, 100)], UP, "allow"),
    (
        "a reversal less than 6 h ago",
        [past_change(7 * HOUR, 80, 120), past_change(6 * HOUR - 1, 120, 100)],
        UP,
        "refuse lock",
    ),
    (
        "two reversals lock every direction",
        [past_change(5 * HOUR, 80, 100), past_change(3 * HOUR, 100, 80), past_change(2 * HOUR, 80, 100)],
        UP,
        "refuse lock",
    ),
    (
        "one of two reversals 6 h ago",
        [past_change(6.5 * HOUR, 80, 100), past_change(6 * HOUR, 100, 80), past_change(2 * HOUR, 80, 100)],
        UP,
        "allow",
    ),
    (
        "a failed change is no reversal",
        [
            past_change(5 * HOUR, 80, 100),
            past_change(3 * HOUR, 100, 80, state=FAILED),
            past_change(2 * HOUR, 80, 100),
        ],
        UP,
        "allow",
    ),
    (
        "reversals of another knob lock the target",
        [
            past_change(5 * HOUR, 80, 100, subject="hz"),
            past_change(3 * HOUR, 100, 80, subject="hz"),
            past_change(2 * HOUR, 80, 100, subject="hz"),
        ],
        UP,
        "refuse lock",
    ),
    (
        "a rollback is a reversal",
        [
            past_change(2.2 * HOUR, 100, 120, id="A1", state=UNDONE),
            past_change(2 * HOUR, 120, 100, undoes="A1"),
        ],
        UP,
        "refuse lock",
    ),
    (
        "a rollback to unset is a reversal",
        [
            past_change(2.2 * HOUR, 100, 120, id="A1", state=UNDONE),
            past_change(2 * HOUR, 120, None, undoes="A1"),
        ],
        (100.0, 110.0),
        "refuse lock",
    ),
]


@pytest.mark.parametrize(("recent", "values", "word"), named_cases(REVERSALS))
def test_reversal(recent, values, word):
    """A reversal within 30 minutes needs an operator; a second one within 6 hours locks the target."""
    limits = Guardrails()
    proposal, situation = make_change(
        SPEED, *values, stability=replace(STABLE, max_value=0.0), recent_actions=tuple(recent)
    )
    assert verdict_of(proposal, situation, limits) == word


def test_a_choice_reverses_when_it_returns():
    """A choice has no direction; returning to the previous value is a reversal."""
    proposal, situation = make_change(
        replace(SPEED, name="policy", type=KnobType.CHOICE, choices=("a", "b", "c")), "b", "a"
    )
    earlier = make_aged_action(20 * MINUTE, subject="policy", before="a", after="b", **HERE)
    assert verdict_of(proposal, replace(situation, recent_actions=(earlier,))) == "approve reversal"
    assert verdict_of(replace(proposal, after="c"), replace(situation, recent_actions=(earlier,))) == "allow"


def test_one_allowed_reversal():
    """With `reversals: 1` a first reversal is refused until the earlier change is 6 hours old."""
    proposal, situation = make_change(SPEED, 100.0, 80.0, recent_actions=(past_change(2 * HOUR),))
    decision = decide(proposal, situation, Guardrails(reversals=1))
    assert decision.guard == "lock"
    assert decision.until == START + 4 * 3600 * SECOND
    assert (
        verdict_of(
            proposal, replace(situation, recent_actions=(past_change(6 * HOUR - 1),)), Guardrails(reversals=1)
        )
        != "allow"
    )
    assert (
        verdict_of(
            proposal, replace(situation, recent_actions=(past_change(6 * HOUR),)), Guardrails(reversals=1)
        )
        == "allow"
    )
    reversed_once = (past_change(5 * HOUR, 80, 120), past_change(3 * HOUR, 120, 100))
    onward = decide(proposal, replace(situation, recent_actions=reversed_once), Guardrails(reversals=1))
    assert (onward.guard, onward.until) == ("lock", START + 3 * 3600 * SECOND)


def test_a_tool_action_is_no_reversal():
    """A tool action has no direction; it is refused only while the target is locked."""
    action = ToolAction("restart", "", Risk.LOW)
    proposal = make_proposal(subject="restart", is_action=True, before=None, after=None)
    one_reversal = (past_change(5 * HOUR, 80, 100), past_change(3 * HOUR, 100, 80))
    assert verdict_of(proposal, make_situation(action=action, recent_actions=one_reversal)) == "allow"
    assert verdict_of(proposal, make_situation(action=action, recent_actions=TWO_REVERSALS)) == "refuse lock"
    done = make_aged_action(20 * MINUTE, subject="restart", is_action=True, before=None, after=None, **HERE)
    assert verdict_of(proposal, make_situation(action=action, recent_actions=(done,))) == "allow"
