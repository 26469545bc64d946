"""What the guard remembers: ages that no clock can change, and how long proposals have stood."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.builders.guard_requests import LIMITS, make_aged_action, make_proposal, make_situation
from tests.builders.series import SECOND, START
from trimtab.engine.actions.guard.input_quality import (
    SampleWindow,
    assess_inputs,
    has_level_jump,
    has_sudden_zero,
)
from trimtab.engine.actions.guard.situation import InputQuality, ProposalStability
from trimtab.engine.actions.guard.situation_builder import (
    SituationBuilder,
    TargetObservation,
    proposal_from_action,
)
from trimtab.engine.actions.monotonic_age import RETENTION_S, MonotonicAges
from trimtab.engine.actions.proposal_history import ProposalHistory
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import ActionState, Mode

NAN = float("nan")


def at(seconds: float) -> int:
    """A time of the monotonic clock."""
    return round((1000 + seconds) * SECOND)


def running(seconds: float = 0.0) -> MonotonicAges:
    """Lived for so long."""
    lived = MonotonicAges()
    lived.advance(at(0))
    lived.advance(at(seconds))
    return lived


def test_ages_follow_the_monotonic_clock():
    """An action seen after the start is as old as the engine lived since, whatever the wall clock says."""
    lived = running()
    assert lived.with_ages([], START) == ()
    action = make_aged_action(0.0).action
    assert [p.age_s for p in lived.with_ages([action], START + 10**18)] == [0.0]
    lived.advance(at(90))
    for now in (START - 10**18, START, START + 10**18):
        assert [p.age_s for p in lived.with_ages([action], now)] == [90.0]


def test_a_monotonic_clock_that_steps_back_is_not_believed():
    """Time lived never shrinks."""
    lived = running(60)
    lived.advance(at(10))
    lived.advance(at(20))
    assert (lived.running_s, lived.uptime_s) == (70.0, 70.0)


def test_what_has_not_begun_has_no_age():
    """An action that was not sent yet is not marked: it ages from when it is."""
    lived = running()
    lived.with_ages([], START)
    waiting = replace(make_aged_action(0.0).action, started=None)
    lived.with_ages([waiting], START)
    lived.advance(at(60))
    assert lived.with_ages([waiting], START)[0].age_s == 0.0
    assert lived.with_ages([replace(waiting, started=START)], START)[0].age_s == 0.0


def test_only_the_first_start_asks_the_wall_clock():
    """Without any memory the ledger's own times count, never below zero; with one, what is new is new."""
    old, future = (
        make_aged_action(500.0).action,
        replace(make_aged_action(0.0).action, id="F", started=START + 10 * SECOND),
    )
    lived = running()
    assert [p.age_s for p in lived.with_ages([old, future], START)] == [500.0, 0.0]
    lived.advance(at(10))
    kept = running(5)
    kept.restore(json.loads(json.dumps(lived.state())))
    assert [p.age_s for p in kept.with_ages([old, future], START + 10**18)] == [510.0, 10.0]
    assert kept.with_ages([replace(old, id="N")], START + 10**18)[0].age_s == 0.0
    assert kept.uptime_s == 5.0


def test_what_is_not_asked_for_any_more_is_forgotten():
    """The state holds two days."""
    lived = running()
    lived.age_s("a")
    lived.age_s("b")
    lived.advance(at(RETENTION_S))
    lived.age_s("b")
    assert set(lived.state()["since"]) == {"a", "b"}
    lived.advance(at(RETENTION_S + 1))
    assert set(lived.state()["since"]) == {"b"}


def test_an_approval_is_as_old_as_either_clock_says():
    """The larger age counts; a scheduled one ages from its time on."""
    lived = running()
    approved = make_proposal(approved=START - 5 * SECOND)
    assert lived.approval_age_s(make_proposal(), START) is None
    assert lived.approval_age_s(approved, START) == 5.0
    lived.advance(at(60))
    assert lived.approval_age_s(approved, START - 10**15) == 65.0
    assert lived.approval_age_s(approved, START + 95 * SECOND) == 100.0
    scheduled = replace(approved, id="S", scheduled=START + 50 * SECOND)
    assert lived.approval_age_s(scheduled, START) == 0.0
    assert lived.approval_age_s(scheduled, START + 60 * SECOND) == 10.0


@pytest.mark.parametrize("wrong", [{}, {"seconds": "x", "since": {}}, {"seconds": 1.0, "since": []}])
def test_a_state_of_something_else_is_refused(wrong):
    """What was not written by it is not taken for it."""
    with pytest.raises((KeyError, TypeError)):
        MonotonicAges().restore(wrong)
    with pytest.raises((KeyError, TypeError)):
        SituationBuilder(LIMITS).restore({"lived": wrong, "stability": []} if wrong else wrong)


def test_a_state_of_other_evaluations_is_refused():
    """As above."""
    with pytest.raises(TypeError, match="holds lists"):
        ProposalHistory(300.0).restore({"a": 3})


def test_a_proposal_stands_while_every_evaluation_comes_to_it():
    """What is left out once begins anew; each fingerprint counts for itself, once an evaluation."""
    seen, mine, other = (
        ProposalHistory(300.0),
        make_proposal(after=15),
        make_proposal(fingerprint="other", after="lru"),
    )
    seen.record([mine, mine, other], 0.0)
    seen.record([mine], 60.0)
    seen.record([mine, other], 120.0)
    assert seen.stability(mine, 130.0, 300.0) == ProposalStability(3, 130.0, 10.0, 15.0)
    assert seen.stability(other, 130.0, 300.0) == ProposalStability(1, 10.0, 10.0, None)
    seen.record([], 140.0)
    assert seen.stability(mine, 140.0, 300.0) == ProposalStability()


def test_the_most_of_the_hold_is_remembered():
    """A reduction sees the highest value of the last seconds, and forgets what is older."""
    seen = ProposalHistory(300.0)
    for second, value in ((0, 9), (100, 5), (200, 7), (300, 3)):
        seen.record([make_proposal(after=value)], float(second))
    most = [
        seen.stability(make_proposal(), second, 300.0).max_value for second in (300.0, 301.0, 500.0, 501.0)
    ]
    assert most == [9.0, 7.0, 7.0, 3.0]
    assert seen.stability(make_proposal(), 601.0, 300.0).max_value is None
    again = ProposalHistory(300.0)
    again.restore(json.loads(json.dumps(seen.state())))
    assert again.stability(make_proposal(), 300.0, 300.0) == seen.stability(make_proposal(), 300.0, 300.0)
    seen.record([make_proposal(after=1)], 601.0)
    assert len(seen.state()[make_proposal().fingerprint][3]) == 1


ZEROS = [
    ([5, 4, 5, 0], True),
    ([5, 4, 5, NAN, 0, NAN], True),
    ([5] + [0] * 50, True),  # the zeros that it ends with do not make zeros usual
    ([0, 0, 0, 0], False),  # it was never anything else
    ([5, 0, 4, 0], False),  # used to it
    ([5, 4, 0, 3], False),  # it is not zero now
    ([0] + [5] * 9 + [0], True),  # one in ten before is seldom
    ([0] + [5] * 8 + [0], False),
    ([NAN, NAN], False),
    ([], False),
]


@pytest.mark.parametrize(("x", "fell"), ZEROS)
def test_a_sudden_zero(x, fell):
    """A series that is not used to zeros and reads zero is suspect for as long as its window remembers."""
    assert has_sudden_zero(np.array(x, float)) is fell


JUMPS = [
    ([2, 3, 2, 2000, 3000], True),
    ([2000, 3000, 2], True),  # downwards
    ([2, 200], True),
    ([2, 199], False),
    ([2, 30, 300, 3000], False),  # a climb
    ([2, 3000, 2, 3000], False),  # it goes to and fro by habit
    ([2] + [1000] * 9, True),
    ([2] + [1000] * 10, False),  # so long ago that it is the new level
    ([2, 0, NAN, 900, 0], True),  # zeros and gaps say nothing
    ([2] * 8 + [30] + [2000], True),
    ([2] * 7 + [30, 31] + [2000], False),
    ([-2, -2000], True),
    ([5], False),
    ([0, NAN], False),
]


@pytest.mark.parametrize(("x", "found"), JUMPS)
def test_a_changed_unit(x, found):
    """A level that jumps a hundredfold in one step is suspect; a climb, or a habit, is none."""
    assert has_level_jump(np.array(x, float), 100.0) is found


def test_inputs_are_looked_at_together():
    """Missing and newest ones, the share of the windows, what is suspect."""
    windows = [
        SampleWindow("a", np.array([1.0, NAN, 2.0, 2.0]), 15.0),
        SampleWindow("b", np.array([1.0, 2.0, 3.0, 0.0]), 45.0),
        SampleWindow("c", np.array([1.0, 2.0, 2.0, 999.0]), 46.0),
        SampleWindow("d", np.full(4, NAN), None),
    ]
    assert assess_inputs(windows, 15.0, True, LIMITS) == InputQuality(
        4, 2, 1.0, 11 / 16, True, ("b",), ("c",)
    )
    assert assess_inputs([], 15.0, None, LIMITS) == InputQuality(0, 0, None, None, None)


def test_only_the_newest_part_of_a_window_has_to_be_there():
    """A gap of an hour ago is none of now; what was usual then still is."""
    x = np.concatenate([np.full(200, 5.0), np.full(240, NAN), np.full(40, 0.0)])
    seen = assess_inputs([SampleWindow("a", x, 1.0)], 15.0, True, LIMITS)
    assert (seen.present_ratio, seen.zeroed) == (1.0, ("a",))
    assert assess_inputs([SampleWindow("a", x[:-1], 1.0)], 15.0, True, LIMITS).present_ratio == 39 / 40
    assert assess_inputs([SampleWindow("a", x, 1.0)], 3600.0, True, LIMITS).present_ratio == 1.0


def test_nothing_but_zeros_is_suspect():
    """Where every figure reads zero it is what measures them that fails; where one lives they are fine."""
    zero = [SampleWindow(name, np.zeros(4), 1.0) for name in "ab"]
    assert assess_inputs(zero, 15.0, True, LIMITS).zeroed == ("a", "b")
    alive = SampleWindow("c", np.array([3.0, 4.0, 3.0, 4.0]), 1.0)
    assert assess_inputs([*zero, alive], 15.0, True, LIMITS).zeroed == ()
    unknown = [SampleWindow("a", np.full(4, NAN), None)]
    assert assess_inputs(unknown, 15.0, True, LIMITS).zeroed == ()


def test_the_situation_is_put_together():
    """What is stored, remembered and seen comes to the guard whole, scaled for a trial."""
    memory = SituationBuilder(Guardrails(time_scale=0.5))
    memory.advance(at(0))
    memory.record_evaluation([make_proposal(after=9)])
    memory.advance(at(200))
    memory.record_evaluation([make_proposal(after=5)])
    live = TargetObservation(mode=Mode.AUTO, targets=("cache-1",), total_targets=3, generation=4, trial=True)
    done = make_aged_action(50.0).action
    pause = make_situation().pause
    found = memory.build(make_proposal(approved=START), START, pause, [done, done], live, undoes=done)
    assert found.stability == ProposalStability(2, 200.0, 0.0, 5.0)  # 9 is older than the hold of a trial
    assert [(p.action, p.age_s) for p in found.recent_actions] == [(done, 50.0)]
    assert (found.now, found.uptime_s, found.undoes, found.approval_age_s) == (START, 200.0, done, 0.0)
    assert (found.mode, found.targets, found.total_targets, found.generation) == (
        Mode.AUTO,
        ("cache-1",),
        3,
        4,
    )
    slow = memory.build(make_proposal(), START, pause, [], replace(live, trial=False))
    assert slow.stability.max_value == 9.0
    again = SituationBuilder(memory.limits)
    again.restore(json.loads(json.dumps(memory.state())))
    assert again.build(make_proposal(), START, pause, [done], live).stability == found.stability


def test_a_stored_action_is_asked_about_as_it_is():
    """Place, values and author of the proposal are the action's; it never expires by itself."""
    action = make_aged_action(5.0, state=ActionState.PROPOSED, by="ann").action
    made = proposal_from_action(action)
    assert (made.id, made.tool, made.target, made.subject) == (action.id, "redis", "cache-2", "maxmemory")
    assert (made.before, made.after, made.proposer, made.created) == (
        action.before, action.after, "ann", action.created,
    )  # fmt: skip
