"""The guard and what was done before: cooldown, reversal, lock, pace, breadth, and who goes first."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import (
    LIMITS,
    MIB,
    SPEED,
    STABLE,
    WORKERS,
    make_aged_action,
    make_change,
    make_proposal,
    make_situation,
    named_cases,
    verdict_of,
)
from tests.builders.series import SECOND, START
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.actions.guard.situation import GuardVerdict
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import ActionState, KnobType, Mode, Risk, ToolAction

HERE = {"target": "cache-1"}
MINUTE, HOUR = 60.0, 3600.0
FAILED, RUNNING, UNDONE = ActionState.FAILED, ActionState.VERIFYING, ActionState.ROLLED_BACK
REFUSED = ActionState.REFUSED


def raised(age_s, before=80, after=100, **changed):
    """A change of speed of cache-1, so long ago."""
    return make_aged_action(
        age_s, **{"subject": "speed", "before": before, "after": after, **HERE, **changed}
    )


PASTS = [
    ("15 min ago", [make_aged_action(15 * MINUTE, **HERE)], "allow"),
    ("less than 15 min ago", [make_aged_action(15 * MINUTE - 1, **HERE)], "refuse cooldown"),
    ("just now, elsewhere", [make_aged_action(1.0, target="cache-9")], "refuse targets"),
    ("another tool's target of that name", [make_aged_action(11 * MINUTE, tool="other", **HERE)], "allow"),
    ("what failed is a touch, too", [make_aged_action(14 * MINUTE, state=FAILED, **HERE)], "refuse cooldown"),
    ("a rollback 60 min ago", [make_aged_action(HOUR, undoes="A0", **HERE)], "allow"),
    ("a rollback less than 60 min ago", [make_aged_action(HOUR - 1, undoes="A0", **HERE)], "refuse cooldown"),
    (
        "rolled back less than 60 min ago",
        [make_aged_action(HOUR - 1, state=UNDONE, **HERE)],
        "refuse cooldown",
    ),
    # another target within 10 min is one too many of 10
    ("elsewhere 10 min ago", [make_aged_action(10 * MINUTE)], "allow"),
    ("elsewhere less than 10 min ago", [make_aged_action(10 * MINUTE - 1)], "refuse targets"),
    # running ones
    ("one runs here", [make_aged_action(HOUR, state=RUNNING, **HERE)], "refuse rate"),
    (
        "one is being sent here",
        [make_aged_action(0.0, state=ActionState.EXECUTING, started=None, **HERE)],
        "refuse cooldown",
    ),
    ("one runs elsewhere", [make_aged_action(HOUR, state=RUNNING)], "allow"),
    (
        "two run elsewhere",
        [make_aged_action(HOUR, state=RUNNING), make_aged_action(HOUR, state=RUNNING, id="B")],
        "refuse rate",
    ),
    # pace
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
        "never sent ones count for nothing",
        [make_aged_action(1.0, state=FAILED, started=None, **HERE)] * 9,
        "allow",
    ),
    # what nobody knows
    (
        "the last ended unknown",
        [make_aged_action(2 * HOUR, state=ActionState.UNKNOWN, **HERE)],
        "approve uncertain",
    ),
    ("elsewhere it did", [make_aged_action(2 * HOUR, state=ActionState.UNKNOWN)], "allow"),
    (
        "a rollback failed",
        [make_aged_action(2 * HOUR, state=FAILED, undoes="A0", **HERE)],
        "approve uncertain",
    ),
    ("a change failed", [make_aged_action(2 * HOUR, state=FAILED, **HERE)], "allow"),
    (
        "an unknown one, and a good one since",
        [make_aged_action(2 * HOUR, state=ActionState.UNKNOWN, **HERE), make_aged_action(HOUR, **HERE)],
        "allow",
    ),
]


@pytest.mark.parametrize(("recent", "word"), named_cases(PASTS))
def test_past(recent, word):
    """What was done before refuses on one side of its limit and lets pass on the other."""
    assert verdict_of(make_proposal(), make_situation(recent_actions=tuple(recent))) == word


UP, DOWN = (100.0, 120.0), (100.0, 80.0)
TURNS = [
    # (what was done, the change now)
    ("opposite within 30 min", [raised(30 * MINUTE - 1)], DOWN, "approve reversal"),
    ("opposite after 30 min", [raised(30 * MINUTE)], DOWN, "allow"),
    ("onwards", [raised(16 * MINUTE)], UP, "allow"),
    ("opposite of what failed", [raised(16 * MINUTE, state=FAILED)], DOWN, "allow"),
    ("opposite of an older change", [raised(20 * MINUTE, 120, 80), raised(16 * MINUTE)], UP, "allow"),
    ("of another knob", [raised(16 * MINUTE, subject="hz")], DOWN, "allow"),
    ("another target's", [raised(29 * MINUTE, target="cache-2")], DOWN, "allow"),
    # two changes of direction in 6 h lock
    ("a second turn", [raised(5 * HOUR, 80, 120), raised(HOUR, 120, 100)], UP, "refuse lock"),
    ("onwards after a turn", [raised(5 * HOUR, 80, 120), raised(HOUR, 120, 100)], DOWN, "allow"),
    ("a turn 6 h ago", [raised(7 * HOUR, 80, 120), raised(6 * HOUR, 120, 100)], UP, "allow"),
    (
        "a turn less than 6 h ago",
        [raised(7 * HOUR, 80, 120), raised(6 * HOUR - 1, 120, 100)],
        UP,
        "refuse lock",
    ),
    (
        "two turns lock every direction",
        [raised(5 * HOUR, 80, 100), raised(3 * HOUR, 100, 80), raised(2 * HOUR, 80, 100)],
        UP,
        "refuse lock",
    ),
    (
        "one of two turns 6 h ago",
        [raised(6.5 * HOUR, 80, 100), raised(6 * HOUR, 100, 80), raised(2 * HOUR, 80, 100)],
        UP,
        "allow",
    ),
    (
        "what failed is no turn",
        [raised(5 * HOUR, 80, 100), raised(3 * HOUR, 100, 80, state=FAILED), raised(2 * HOUR, 80, 100)],
        UP,
        "allow",
    ),
    (
        "turns of another knob of this target lock it, too",
        [
            raised(5 * HOUR, 80, 100, subject="hz"),
            raised(3 * HOUR, 100, 80, subject="hz"),
            raised(2 * HOUR, 80, 100, subject="hz"),
        ],
        UP,
        "refuse lock",
    ),
    (
        "a rollback is a turn",
        [raised(2.2 * HOUR, 100, 120, id="A1", state=UNDONE), raised(2 * HOUR, 120, 100, undoes="A1")],
        UP,
        "refuse lock",
    ),
    (
        "also where it reset what was not set before",
        [raised(2.2 * HOUR, 100, 120, id="A1", state=UNDONE), raised(2 * HOUR, 120, None, undoes="A1")],
        (100.0, 110.0),
        "refuse lock",
    ),
]


@pytest.mark.parametrize(("recent", "values", "word"), named_cases(TURNS))
def test_turn(recent, values, word):
    """A change of direction soon needs a person, a second one locks the target."""
    limits = Guardrails()
    proposal, situation = make_change(
        SPEED, *values, stability=replace(STABLE, max_value=0.0), recent_actions=tuple(recent)
    )
    assert verdict_of(proposal, situation, limits) == word


def test_choices_turn_when_they_go_back():
    """Between words there is no direction: back to the one before is the opposite."""
    proposal, situation = make_change(
        replace(SPEED, name="policy", type=KnobType.CHOICE, choices=("a", "b", "c")), "b", "a"
    )
    went = make_aged_action(20 * MINUTE, subject="policy", before="a", after="b", **HERE)
    assert verdict_of(proposal, replace(situation, recent_actions=(went,))) == "approve reversal"
    assert verdict_of(replace(proposal, after="c"), replace(situation, recent_actions=(went,))) == "allow"


def test_only_one_change_of_direction_where_the_settings_say_so():
    """With `reversals: 1` the first turn is refused until the change before it is too old."""
    proposal, situation = make_change(SPEED, 100.0, 80.0, recent_actions=(raised(2 * HOUR),))
    decision = decide(proposal, situation, Guardrails(reversals=1))
    assert decision.guard == "lock"
    assert decision.until == START + 4 * 3600 * SECOND
    assert (
        verdict_of(
            proposal, replace(situation, recent_actions=(raised(6 * HOUR - 1),)), Guardrails(reversals=1)
        )
        != "allow"
    )
    assert (
        verdict_of(proposal, replace(situation, recent_actions=(raised(6 * HOUR),)), Guardrails(reversals=1))
        == "allow"
    )
    turned = (raised(5 * HOUR, 80, 120), raised(3 * HOUR, 120, 100))
    onwards = decide(proposal, replace(situation, recent_actions=turned), Guardrails(reversals=1))
    assert (onwards.guard, onwards.until) == ("lock", START + 3 * 3600 * SECOND)


def test_an_action_is_no_turn():
    """What a tool is told to do has no direction; it is refused where the target is locked."""
    action = ToolAction("restart", "", Risk.LOW)
    proposal = make_proposal(subject="restart", is_action=True, before=None, after=None)
    once = (raised(5 * HOUR, 80, 100), raised(3 * HOUR, 100, 80))
    assert verdict_of(proposal, make_situation(action=action, recent_actions=once)) == "allow"
    assert verdict_of(proposal, make_situation(action=action, recent_actions=TO_AND_FRO)) == "refuse lock"
    done = make_aged_action(20 * MINUTE, subject="restart", is_action=True, before=None, after=None, **HERE)
    assert verdict_of(proposal, make_situation(action=action, recent_actions=(done,))) == "allow"


def test_the_reason_of_a_wait_tells_what_happened():
    """Of a rollback, of a knob, of a turn that would be once more."""
    gone = decide(
        make_proposal(), make_situation(recent_actions=(make_aged_action(60.0, undoes="A0", **HERE),)), LIMITS
    ).reason
    assert gone == "a rollback changed cache-1 1 min ago; wait 59 min"
    touched = decide(
        make_proposal(), make_situation(recent_actions=(make_aged_action(60.0, **HERE),)), LIMITS
    ).reason
    assert touched == "maxmemory changed cache-1 1 min ago; wait 14 min"
    again = decide(*make_change(SPEED, *UP, recent_actions=DOWN_AND_ON), LIMITS).reason
    assert again == (
        "cache-1 had 1 reversals within 6 h and this would be another reversal, 2 lock it; wait 3 h"
    )
    locked = decide(*make_change(SPEED, *UP, recent_actions=TO_AND_FRO), LIMITS).reason
    assert locked == "cache-1 had 2 reversals within 6 h, 2 lock it; wait 1 h"


TO_AND_FRO = (raised(5.5 * HOUR, 80, 100), raised(5 * HOUR, 100, 80), raised(2 * HOUR, 80, 100))
DOWN_AND_ON = (raised(5 * HOUR, 80, 140), raised(3 * HOUR, 140, 120), raised(HOUR, 120, 100))
WAITS = [
    ("lock", *make_change(SPEED, *UP, recent_actions=TO_AND_FRO), HOUR),
    ("lock", *make_change(SPEED, *UP, recent_actions=DOWN_AND_ON), 3 * HOUR),
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
        *make_change(SPEED, *UP, recent_actions=(raised(5 * HOUR, 80, 120), raised(HOUR, 120, 100))),
        5 * HOUR,
    ),
]


@pytest.mark.parametrize(("guard", "proposal", "situation", "wait_s"), WAITS)
def test_a_wait_says_until_when(guard, proposal, situation, wait_s):
    """What passes with time says when, to the second; at that moment the row is silent."""
    decision = decide(proposal, situation, LIMITS)
    assert (decision.verdict, decision.guard) == (GuardVerdict.REFUSE, guard)
    assert decision.until == (None if wait_s is None else START + round(wait_s * SECOND))
    assert "wait" in decision.reason


def test_targets_are_few_at_a_time():
    """At most a tenth of all targets, and at least one, is touched within ten minutes."""
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


def test_one_change_at_a_time_in_a_group():
    """While a knob that acts on this one is being changed, on whatever target, it waits."""
    other = make_aged_action(HOUR, tool="pm2", target="api", subject="instances", state=RUNNING)
    group = frozenset({("pm2", "api", "instances")})
    assert (
        verdict_of(make_proposal(), make_situation(recent_actions=(other,), coupled_knobs=group))
        == "refuse rate"
    )
    assert verdict_of(make_proposal(), make_situation(recent_actions=(other,))) == "allow"
    kept = replace(other, action=replace(other.action, state=ActionState.KEPT))
    assert verdict_of(make_proposal(), make_situation(recent_actions=(kept,), coupled_knobs=group)) == "allow"


def test_of_two_that_were_written_down_together_the_earlier_goes_first():
    """Asked again before it is sent, an action sees those before it, never itself nor those after it."""
    mine, other = (
        make_aged_action(
            0.0, id=name, state=ActionState.PROPOSED, created=created, started=None, ended=None, **HERE
        )
        for name, created in (("A2", START), ("A1", START))
    )
    sees = make_situation(recent_actions=(mine, other))
    assert verdict_of(make_proposal(id="A2"), sees) == "refuse cooldown"
    assert verdict_of(make_proposal(id="A1"), sees) == "allow"
    assert verdict_of(make_proposal(id="A3"), sees) == "refuse cooldown"
    by_recommendation = replace(other, action=replace(other.action, recommendation_id="R1"))
    assert (
        verdict_of(make_proposal(id="R1"), make_situation(recent_actions=(mine, by_recommendation)))
        == "allow"
    )
    earlier = replace(mine, action=replace(mine.action, created=START - 1))
    assert (
        verdict_of(make_proposal(id="A1"), make_situation(recent_actions=(earlier, other)))
        == "refuse cooldown"
    )


def test_what_is_being_sent_is_not_sent_again():
    """An action that runs stands in the way of itself."""
    running = make_aged_action(HOUR, id="A1", state=ActionState.EXECUTING, recommendation_id="R1", **HERE)
    assert verdict_of(make_proposal(id="R1"), make_situation(recent_actions=(running,))) == "refuse rate"


GREW = raised(60.0, 50, 100)
STEPS_BACK = [
    # (row, changes of speed, newest first, value wanted, who, what comes of it); it is 100 now
    ("to the value before", [GREW], 50, "ann", "allow"),
    ("to one that never stood", [GREW], 51, "ann", "refuse step"),
    ("to it as another kind", [GREW], 50.0, "ann", "refuse step"),
    ("to one before that", [raised(60.0, 70, 100), raised(HOUR, 50, 70)], 50, "ann", "allow"),
    ("by the engine", [GREW], 50, "trimtab", "refuse step"),
    ("changed by something else", [raised(60.0, 50, 90)], 50, "ann", "refuse step"),
    ("to one that was taken back", [raised(60.0, 50, 100, undoes="A0")], 50, "ann", "refuse step"),
    ("from one that was taken back", [raised(60.0, 50, 100, state=UNDONE)], 50, "ann", "refuse step"),
    ("what failed changed nothing", [raised(60.0, 50, 100, state=FAILED)], 50, "ann", "refuse step"),
    ("back a little, just now", [raised(60.0, 91, 100)], 91, "ann", "allow"),
    ("on a little, just now", [raised(60.0, 91, 100)], 109, "ann", "refuse dead band"),
    ("while it is being watched", [raised(60.0, 50, 100, state=RUNNING)], 50, "ann", "refuse rate"),
]


@pytest.mark.parametrize(("changes", "value", "by", "word"), named_cases(STEPS_BACK))
def test_a_person_sets_back_what_stood_before(changes, value, by, word):
    """At once and in one step, where the value is exactly one that led to ours; all other rows hold."""
    proposal, situation = make_change(WORKERS, 100, value, recent_actions=tuple(changes))
    recent = tuple(replace(one, action=replace(one.action, subject="workers")) for one in changes)
    situation = replace(situation, recent_actions=recent, knob=replace(WORKERS, high=200.0))
    assert verdict_of(replace(proposal, proposer=by), situation, person=True) == word


def test_a_reset_is_a_value_that_stood():
    """Where nobody had set it before, setting it back is a reset; and the pause still holds."""
    unset = raised(60.0, 50, 100, set_before=False, subject="workers")
    proposal, situation = make_change(WORKERS, 100, None, recent_actions=(unset,))
    proposal = replace(proposal, proposer="ann")
    assert verdict_of(proposal, situation, person=True) == "allow"
    assert verdict_of(proposal, replace(situation, pause=replace(situation.pause, on=True)), person=True) == (
        "refuse pause"
    )


def test_times_are_scaled_for_a_trial():
    """With a tenth of the time a trial's cooldown, hour and start-up are a tenth; the reason says so."""
    limits = Guardrails(time_scale=0.1)
    recent = tuple(make_aged_action(6 * MINUTE + i) for i in range(6))
    assert verdict_of(make_proposal(), make_situation(recent_actions=recent, trial=True), limits) == "allow"
    assert verdict_of(make_proposal(), make_situation(recent_actions=recent), limits) == "refuse rate"
    cooling = (make_aged_action(90.0, **HERE),)
    assert (
        verdict_of(make_proposal(), make_situation(recent_actions=cooling, trial=True, uptime_s=30.0), limits)
        == "allow"
    )
    assert (
        verdict_of(make_proposal(), make_situation(recent_actions=cooling, uptime_s=30.0), limits)
        == "refuse start-up"
    )
    decision = decide(make_proposal(), make_situation(trial=True), limits)
    assert decision.reason.endswith("within every limit, with durations scaled by 0.1 for a trial target")


ROLLBACK_ROWS = [
    ("it is one", {}, {}, False, "allow"),
    ("paused", {}, {"pause": replace(make_situation().pause, on=True)}, False, "refuse pause"),
    ("paused, a person", {}, {"pause": replace(make_situation().pause, on=True)}, True, "allow"),
    ("target not named any more", {}, {"targets": ("cache-2",)}, False, "refuse targets"),
    ("knob gone", {}, {"knob": None}, False, "refuse subject"),
    ("to another value", {"after": 901 * MIB}, {}, False, "refuse rollback"),
    ("to the same as another kind", {"after": 900.0 * MIB}, {}, False, "refuse rollback"),
    ("mode off, start-up", {}, {"mode": Mode.OFF, "uptime_s": 0.0}, False, "allow"),
    ("figures gone", {}, {"inputs": None}, False, "allow"),
    ("not to be read", {}, {"reading": None}, True, "refuse rollback"),
    ("changed since", {}, {"reading": replace(make_situation().reading, value=1)}, True, "refuse rollback"),
    ("mass", {}, {"mass": None}, False, "refuse mass breaker"),
    ("mass, a person", {}, {"mass": None}, True, "allow"),
    (
        "another runs here",
        {},
        {"recent_actions": (make_aged_action(9.0, state=RUNNING, **HERE),)},
        False,
        "refuse rate",
    ),
    (
        "many were made",
        {},
        {"recent_actions": tuple(make_aged_action(9.0 + i) for i in range(30))},
        False,
        "allow",
    ),
    (
        "made before",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A1", **HERE),)},
        True,
        "refuse rollback",
    ),
    (
        "failed before",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A1", state=FAILED, **HERE),)},
        False,
        "refuse rollback",
    ),
    (
        "failed, a person",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A1", state=FAILED, **HERE),)},
        True,
        "allow",
    ),
    (
        "refused, never sent",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A1", state=REFUSED, **HERE),)},
        False,
        "allow",
    ),
    (
        "elsewhere undone",
        {},
        {"recent_actions": (make_aged_action(9.0, undoes="A9", **HERE),)},
        False,
        "allow",
    ),
]


@pytest.mark.parametrize(("proposed", "changed", "person", "word"), named_cases(ROLLBACK_ROWS))
def test_rollback(proposed, changed, person, word):
    """A rollback goes to the exact value before, once, while the value is ours; little else stops it."""
    done = make_aged_action(120.0, id="A1", before=900 * MIB, after=1000 * MIB, state=RUNNING, **HERE)
    recent = (done, *changed.pop("recent_actions", ())) if changed else (done,)
    proposal = make_proposal(id="A2", **{"before": 1000 * MIB, "after": 900 * MIB, **proposed})
    situation = make_situation(undoes=done.action, **{**changed, "recent_actions": recent})
    assert verdict_of(proposal, situation, person=person) == word
    if word == "allow" and not person:
        assert decide(proposal, situation, LIMITS).reason.startswith("it rolls back the engine's own change")


def test_a_rollback_resets_what_was_not_set_before():
    """The exact state before is then the default."""
    done = make_aged_action(
        120.0, id="A1", before=900 * MIB, after=1000 * MIB, set_before=False, **HERE
    ).action
    back = make_proposal(before=1000 * MIB, after=None)
    assert verdict_of(back, make_situation(undoes=done)) == "allow"
    assert verdict_of(replace(back, after=900 * MIB), make_situation(undoes=done)) == "refuse rollback"


def test_a_denied_value_never_blocks_a_rollback():
    """Back to noeviction, which is never proposed."""
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
def test_a_rollback_is_of_the_same_knob(other):
    """What was done elsewhere, or is an action, is not taken back here."""
    done = make_aged_action(120.0, **{"before": 900 * MIB, "after": 1000 * MIB, **HERE, **other}).action
    assert (
        verdict_of(make_proposal(before=1000 * MIB, after=900 * MIB), make_situation(undoes=done))
        == "refuse rollback"
    )
