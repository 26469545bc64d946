"""Guard rules on recent actions: cooldown, rate, number of targets, order; and when a wait ends."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import (
    LIMITS,
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
from trimtab.engine.actions.guard.situation import GuardVerdict
from trimtab.engine.types import ActionState

HERE = {"target": "cache-1"}
MINUTE, HOUR = 60.0, 3600.0
FAILED, RUNNING, UNDONE = ActionState.FAILED, ActionState.VERIFYING, ActionState.ROLLED_BACK
UP = (100.0, 120.0)
TWO_REVERSALS = (
    past_change(5.5 * HOUR, 80, 100),
    past_change(5 * HOUR, 100, 80),
    past_change(2 * HOUR, 80, 100),
)
RECENT_ACTIONS = [
    ("15 min ago", [make_aged_action(15 * MINUTE, **HERE)], "allow"),
    ("less than 15 min ago", [make_aged_action(15 * MINUTE - 1, **HERE)], "refuse cooldown"),
    ("just now, on another target", [make_aged_action(1.0, target="cache-9")], "refuse targets"),
    ("that target name of another tool", [make_aged_action(11 * MINUTE, tool="other", **HERE)], "allow"),
    ("a failed action counts", [make_aged_action(14 * MINUTE, state=FAILED, **HERE)], "refuse cooldown"),
    ("a rollback 60 min ago", [make_aged_action(HOUR, undoes="A0", **HERE)], "allow"),
    ("a rollback less than 60 min ago", [make_aged_action(HOUR - 1, undoes="A0", **HERE)], "refuse cooldown"),
    (
        "rolled back less than 60 min ago",
        [make_aged_action(HOUR - 1, state=UNDONE, **HERE)],
        "refuse cooldown",
    ),
    # a second target within 10 min exceeds a tenth of 10 targets
    ("another target 10 min ago", [make_aged_action(10 * MINUTE)], "allow"),
    ("another target less than 10 min ago", [make_aged_action(10 * MINUTE - 1)], "refuse targets"),
    # running actions
    ("one runs on this target", [make_aged_action(HOUR, state=RUNNING, **HERE)], "refuse rate"),
    (
        "one is being sent to this target",
        [make_aged_action(0.0, state=ActionState.EXECUTING, started=None, **HERE)],
        "refuse cooldown",
    ),
    ("one runs on another target", [make_aged_action(HOUR, state=RUNNING)], "allow"),
    (
        "two run on another target",
        [make_aged_action(HOUR, state=RUNNING), make_aged_action(HOUR, state=RUNNING, id="B")],
        "refuse rate",
    ),
    # rate
    ("5 within the hour", [make_aged_action(20 * MINUTE + i) for i in range(5)], "allow"),
    ("6 within the hour", [make_aged_action(20 * MINUTE + i) for i in range(6)], "refuse rate"),
    (
        "5 and one an hour ago",
        [make_aged_action(20 * MINUTE + i) for i in range(5)] + [make_aged_action(HOUR)],
        "allow",
    ),
    ("19 within the day", [make_aged_action(HOUR * (i + 1)) for i in range(19)], "allow"),
    ("20 within the day", [make_aged_action(HOUR * (i + 1)) for i in range(20)], "refuse rate"),
    (
        "19 and one a day ago",
        [make_aged_action(HOUR * (i + 1)) for i in range(19)] + [make_aged_action(24 * HOUR)],
        "allow",
    ),
    (
        "actions that were never sent do not count",
        [make_aged_action(1.0, state=FAILED, started=None, **HERE)] * 9,
        "allow",
    ),
    # unknown outcomes
    (
        "the last ended unknown",
        [make_aged_action(2 * HOUR, state=ActionState.UNKNOWN, **HERE)],
        "approve uncertain",
    ),
    ("another target ended unknown", [make_aged_action(2 * HOUR, state=ActionState.UNKNOWN)], "allow"),
    (
        "a rollback failed",
        [make_aged_action(2 * HOUR, state=FAILED, undoes="A0", **HERE)],
        "approve uncertain",
    ),
    ("a change failed", [make_aged_action(2 * HOUR, state=FAILED, **HERE)], "allow"),
    (
        "a kept action after the unknown one",
        [make_aged_action(2 * HOUR, state=ActionState.UNKNOWN, **HERE), make_aged_action(HOUR, **HERE)],
        "allow",
    ),
]


@pytest.mark.parametrize(("recent", "word"), named_cases(RECENT_ACTIONS))
def test_rule_of_recent_actions(recent, word):
    """Each rule on recent actions refuses on one side of its limit and passes on the other."""
    assert verdict_of(make_proposal(), make_situation(recent_actions=tuple(recent))) == word


def test_reason_of_a_wait_names_its_cause():
    """The reason of a wait names the rollback, the knob or the reversals that cause it."""
    after_rollback = decide(
        make_proposal(), make_situation(recent_actions=(make_aged_action(60.0, undoes="A0", **HERE),)), LIMITS
    ).reason
    assert after_rollback == "a rollback changed cache-1 1 min ago; wait 59 min"
    after_change = decide(
        make_proposal(), make_situation(recent_actions=(make_aged_action(60.0, **HERE),)), LIMITS
    ).reason
    assert after_change == "maxmemory changed cache-1 1 min ago; wait 14 min"
    another_reversal = decide(*make_change(SPEED, *UP, recent_actions=ONE_REVERSAL), LIMITS).reason
    assert another_reversal == (
        "cache-1 had 1 reversals within 6 h and this would be another reversal, 2 lock it; wait 3 h"
    )
    locked = decide(*make_change(SPEED, *UP, recent_actions=TWO_REVERSALS), LIMITS).reason
    assert locked == "cache-1 had 2 reversals within 6 h, 2 lock it; wait 1 h"


ONE_REVERSAL = (past_change(5 * HOUR, 80, 140), past_change(3 * HOUR, 140, 120), past_change(HOUR, 120, 100))
WAITS = [
    ("lock", *make_change(SPEED, *UP, recent_actions=TWO_REVERSALS), HOUR),
    ("lock", *make_change(SPEED, *UP, recent_actions=ONE_REVERSAL), 3 * HOUR),
    (
        "persistence",
        make_proposal(),
        make_situation(stability=replace(STABLE, evaluations=1, since_s=180.0)),
        None,
    ),
    (
        "persistence",
        make_proposal(),
        make_situation(stability=replace(STABLE, evaluations=1, since_s=180.5)),
        None,
    ),
    (
        "cooldown",
        make_proposal(),
        make_situation(recent_actions=(make_aged_action(5 * MINUTE, **HERE),)),
        10 * MINUTE,
    ),
    (
        "cooldown",
        make_proposal(),
        make_situation(
            recent_actions=(make_aged_action(5 * MINUTE, undoes="A0", **HERE), make_aged_action(60, **HERE))
        ),
        55 * MINUTE,
    ),
    ("start-up", make_proposal(), make_situation(uptime_s=1.0), 299.0),
    ("persistence", make_proposal(), make_situation(stability=replace(STABLE, since_s=100.0)), 80.0),
    ("persistence", make_proposal(), make_situation(stability=replace(STABLE, evaluations=1)), None),
    (
        "rate",
        make_proposal(),
        make_situation(recent_actions=tuple(make_aged_action(20 * MINUTE + i) for i in range(7))),
        HOUR - 20 * MINUTE - 5,
    ),
    (
        "rate",
        make_proposal(),
        make_situation(recent_actions=tuple(make_aged_action(HOUR * (i + 1)) for i in range(21))),
        4 * HOUR,
    ),
    (
        "rate",
        make_proposal(),
        make_situation(recent_actions=(make_aged_action(HOUR, state=RUNNING, **HERE),)),
        None,
    ),
    (
        "targets",
        make_proposal(),
        make_situation(
            recent_actions=(
                make_aged_action(60.0),
                make_aged_action(120.0),
                make_aged_action(30.0, target="c"),
            )
        ),
        9.5 * MINUTE,
    ),
    ("reducing", *make_change(SPEED, 400.0, 300.0, stability=replace(STABLE, since_s=200.0)), 100.0),
    ("reducing", *make_change(SPEED, 400.0, 300.0, stability=replace(STABLE, max_value=400.0)), None),
    (
        "lock",
        *make_change(
            SPEED, *UP, recent_actions=(past_change(5 * HOUR, 80, 120), past_change(HOUR, 120, 100))
        ),
        5 * HOUR,
    ),
]


@pytest.mark.parametrize(("guard", "proposal", "situation", "wait_s"), WAITS)
def test_a_wait_has_an_end(guard, proposal, situation, wait_s):
    """`until` is the time at which the wait ends, or None when it does not end by time alone."""
    decision = decide(proposal, situation, LIMITS)
    assert (decision.verdict, decision.guard) == (GuardVerdict.REFUSE, guard)
    assert decision.until == (None if wait_s is None else START + round(wait_s * SECOND))
    assert "wait" in decision.reason


def test_number_of_targets_is_limited():
    """At most a tenth of all targets, and at least one, may change within ten minutes."""
    one, two = (make_aged_action(60.0, target=f"c{i}") for i in range(2))
    assert verdict_of(make_proposal(), make_situation(total_targets=0)) == "allow"
    assert (
        verdict_of(make_proposal(), make_situation(recent_actions=(one,), total_targets=0))
        == "refuse targets"
    )
    assert (
        verdict_of(make_proposal(), make_situation(recent_actions=(one,), total_targets=19))
        == "refuse targets"
    )
    assert verdict_of(make_proposal(), make_situation(recent_actions=(one,), total_targets=20)) == "allow"
    assert (
        verdict_of(make_proposal(), make_situation(recent_actions=(one, two), total_targets=29))
        == "refuse targets"
    )
    assert verdict_of(make_proposal(), make_situation(recent_actions=(one, two), total_targets=30)) == "allow"


def test_coupled_knobs_change_one_at_a_time():
    """A knob waits while a coupled knob of any target is being changed."""
    earlier_one = make_aged_action(HOUR, tool="pm2", target="api", subject="instances", state=RUNNING)
    group = frozenset({("pm2", "api", "instances")})
    assert (
        verdict_of(make_proposal(), make_situation(recent_actions=(earlier_one,), coupled_knobs=group))
        == "refuse rate"
    )
    assert verdict_of(make_proposal(), make_situation(recent_actions=(earlier_one,))) == "allow"
    kept = replace(earlier_one, action=replace(earlier_one.action, state=ActionState.KEPT))
    assert verdict_of(make_proposal(), make_situation(recent_actions=(kept,), coupled_knobs=group)) == "allow"


def test_the_earlier_of_two_proposed_actions_wins():
    """An action checked again before sending yields to earlier ones, never to itself or to later ones."""
    later, earlier_one = (
        make_aged_action(
            0.0, id=name, state=ActionState.PROPOSED, created=created, started=None, ended=None, **HERE
        )
        for name, created in (("A2", START), ("A1", START))
    )
    situation = make_situation(recent_actions=(later, earlier_one))
    assert verdict_of(make_proposal(id="A2"), situation) == "refuse cooldown"
    assert verdict_of(make_proposal(id="A1"), situation) == "allow"
    assert verdict_of(make_proposal(id="A3"), situation) == "refuse cooldown"
    by_recommendation = replace(earlier_one, action=replace(earlier_one.action, recommendation_id="R1"))
    assert (
        verdict_of(make_proposal(id="R1"), make_situation(recent_actions=(later, by_recommendation)))
        == "allow"
    )
    earlier = replace(later, action=replace(later.action, created=START - 1))
    assert (
        verdict_of(make_proposal(id="A1"), make_situation(recent_actions=(earlier, earlier_one)))
        == "refuse cooldown"
    )


def test_an_executing_action_blocks_itself():
    """An action that is executing is not sent again."""
    running = make_aged_action(HOUR, id="A1", state=ActionState.EXECUTING, recommendation_id="R1", **HERE)
    assert verdict_of(make_proposal(id="R1"), make_situation(recent_actions=(running,))) == "refuse rate"
