"""State behind guard decisions: monotonic ages, proposal history, input quality and the situation."""

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


def monotonic_ns(seconds: float) -> int:
    """Return a time of the monotonic clock, ns."""
    return round((1000 + seconds) * SECOND)


def ages_after(seconds: float = 0.0) -> MonotonicAges:
    """Return monotonic ages of an engine that has run this many seconds."""
    ages = MonotonicAges()
    ages.advance(monotonic_ns(0))
    ages.advance(monotonic_ns(seconds))
    return ages


def test_ages_follow_the_monotonic_clock():
    """An action ages by the monotonic clock, whatever the wall clock shows."""
    ages = ages_after()
    assert ages.with_ages([], START) == ()
    action = make_aged_action(0.0).action
    assert [p.age_s for p in ages.with_ages([action], START + 10**18)] == [0.0]
    ages.advance(monotonic_ns(90))
    for now in (START - 10**18, START, START + 10**18):
        assert [p.age_s for p in ages.with_ages([action], now)] == [90.0]


def test_a_backward_step_of_the_clock_is_ignored():
    """Running time never decreases when the monotonic clock steps back."""
    ages = ages_after(60)
    ages.advance(monotonic_ns(10))
    ages.advance(monotonic_ns(20))
    assert (ages.running_s, ages.uptime_s) == (70.0, 70.0)


def test_an_unsent_action_has_age_zero():
    """An action ages from the time at which it starts, not from its proposal."""
    ages = ages_after()
    ages.with_ages([], START)
    waiting = replace(make_aged_action(0.0).action, started=None)
    ages.with_ages([waiting], START)
    ages.advance(monotonic_ns(60))
    assert ages.with_ages([waiting], START)[0].age_s == 0.0
    assert ages.with_ages([replace(waiting, started=START)], START)[0].age_s == 0.0


def test_wall_clock_ages_count_on_the_first_start_only():
    """Without stored state, ages come from the ledger's times (at least 0); later actions start at 0."""
    old, future = (
        make_aged_action(500.0).action,
        replace(make_aged_action(0.0).action, id="F", started=START + 10 * SECOND),
    )
    ages = ages_after()
    assert [p.age_s for p in ages.with_ages([old, future], START)] == [500.0, 0.0]
    ages.advance(monotonic_ns(10))
    kept = ages_after(5)
    kept.restore(json.loads(json.dumps(ages.state())))
    assert [p.age_s for p in kept.with_ages([old, future], START + 10**18)] == [510.0, 10.0]
    assert kept.with_ages([replace(old, id="N")], START + 10**18)[0].age_s == 0.0
    assert kept.uptime_s == 5.0


def test_unused_ages_expire():
    """Ages that are not read for two days are removed from the state."""
    ages = ages_after()
    ages.age_s("a")
    ages.age_s("b")
    ages.advance(monotonic_ns(RETENTION_S))
    ages.age_s("b")
    assert set(ages.state()["since"]) == {"a", "b"}
    ages.advance(monotonic_ns(RETENTION_S + 1))
    assert set(ages.state()["since"]) == {"b"}


def test_approval_age_is_the_larger_of_both_clocks():
    """The larger of monotonic and wall-clock age counts; a scheduled approval ages from its time."""
    ages = ages_after()
    approved = make_proposal(approved=START - 5 * SECOND)
    assert ages.approval_age_s(make_proposal(), START) is None
    assert ages.approval_age_s(approved, START) == 5.0
    ages.advance(monotonic_ns(60))
    assert ages.approval_age_s(approved, START - 10**15) == 65.0
    assert ages.approval_age_s(approved, START + 95 * SECOND) == 100.0
    scheduled = replace(approved, id="S", scheduled=START + 50 * SECOND)
    assert ages.approval_age_s(scheduled, START) == 0.0
    assert ages.approval_age_s(scheduled, START + 60 * SECOND) == 10.0


@pytest.mark.parametrize("wrong", [{}, {"seconds": "x", "since": {}}, {"seconds": 1.0, "since": []}])
def test_a_foreign_ages_state_is_refused(wrong):
    """Restoring a state of another format raises."""
    with pytest.raises((KeyError, TypeError)):
        MonotonicAges().restore(wrong)
    with pytest.raises((KeyError, TypeError)):
        SituationBuilder(LIMITS).restore({"lived": wrong, "stability": []} if wrong else wrong)


def test_a_foreign_history_state_is_refused():
    """Restoring a proposal history of another format raises."""
    with pytest.raises(TypeError, match="holds lists"):
        ProposalHistory(300.0).restore({"a": 3})


def test_stability_counts_consecutive_evaluations():
    """A proposal missing from one evaluation starts again; each fingerprint counts once per evaluation."""
    history, first, other = (
        ProposalHistory(300.0),
        make_proposal(after=15),
        make_proposal(fingerprint="other", after="lru"),
    )
    history.record([first, first, other], 0.0)
    history.record([first], 60.0)
    history.record([first, other], 120.0)
    assert history.stability(first, 130.0, 300.0) == ProposalStability(3, 130.0, 10.0, 15.0)
    assert history.stability(other, 130.0, 300.0) == ProposalStability(1, 10.0, 10.0, None)
    history.record([], 140.0)
    assert history.stability(first, 140.0, 300.0) == ProposalStability()


def test_stability_keeps_the_maximum_of_the_hold():
    """Stability holds the highest proposed value within the hold and forgets older ones."""
    history = ProposalHistory(300.0)
    for second, value in ((0, 9), (100, 5), (200, 7), (300, 3)):
        history.record([make_proposal(after=value)], float(second))
    most = [
        history.stability(make_proposal(), second, 300.0).max_value for second in (300.0, 301.0, 500.0, 501.0)
    ]
    assert most == [9.0, 7.0, 7.0, 3.0]
    assert history.stability(make_proposal(), 601.0, 300.0).max_value is None
    again = ProposalHistory(300.0)
    again.restore(json.loads(json.dumps(history.state())))
    assert again.stability(make_proposal(), 300.0, 300.0) == history.stability(make_proposal(), 300.0, 300.0)
    history.record([make_proposal(after=1)], 601.0)
    assert len(history.state()[make_proposal().fingerprint][3]) == 1


ZEROS = [
    ([5, 4, 5, 0], True),
    ([5, 4, 5, NAN, 0, NAN], True),
    ([5] + [0] * 50, True),  # trailing zeros do not make zeros usual
    ([0, 0, 0, 0], False),  # always zero
    ([5, 0, 4, 0], False),  # zeros are usual
    ([5, 4, 0, 3], False),  # the newest value is not zero
    ([0] + [5] * 9 + [0], True),  # one zero in ten values is rare
    ([0] + [5] * 8 + [0], False),
    ([NAN, NAN], False),
    ([], False),
]


@pytest.mark.parametrize(("x", "fell"), ZEROS)
def test_sudden_zero(x, fell):
    """A series that is rarely zero and reads zero is suspect until the window forgets its old values."""
    assert has_sudden_zero(np.array(x, float)) is fell


JUMPS = [
    ([2, 3, 2, 2000, 3000], True),
    ([2000, 3000, 2], True),  # downwards
    ([2, 200], True),
    ([2, 199], False),
    ([2, 30, 300, 3000], False),  # a gradual rise
    ([2, 3000, 2, 3000], False),  # it alternates regularly
    ([2] + [1000] * 9, True),
    ([2] + [1000] * 10, False),  # old enough to be the new level
    ([2, 0, NAN, 900, 0], True),  # zeros and gaps are ignored
    ([2] * 8 + [30] + [2000], True),
    ([2] * 7 + [30, 31] + [2000], False),
    ([-2, -2000], True),
    ([5], False),
    ([0, NAN], False),
]


@pytest.mark.parametrize(("x", "found"), JUMPS)
def test_level_jump(x, found):
    """A jump by a factor of 100 in one step is suspect; a gradual rise or an alternating series is not."""
    assert has_level_jump(np.array(x, float), 100.0) is found


def test_input_quality_covers_all_windows():
    """Input quality counts missing series and reports newest age, present ratio and suspect series."""
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


def test_present_ratio_covers_the_newest_part_only():
    """An old gap does not lower the present ratio, and old values still define what is usual."""
    x = np.concatenate([np.full(200, 5.0), np.full(240, NAN), np.full(40, 0.0)])
    history = assess_inputs([SampleWindow("a", x, 1.0)], 15.0, True, LIMITS)
    assert (history.present_ratio, history.zeroed) == (1.0, ("a",))
    assert assess_inputs([SampleWindow("a", x[:-1], 1.0)], 15.0, True, LIMITS).present_ratio == 39 / 40
    assert assess_inputs([SampleWindow("a", x, 1.0)], 3600.0, True, LIMITS).present_ratio == 1.0


def test_all_series_at_zero_are_suspect():
    """Series that are all zero are suspect; one series with other values clears them."""
    zero = [SampleWindow(name, np.zeros(4), 1.0) for name in "ab"]
    assert assess_inputs(zero, 15.0, True, LIMITS).zeroed == ("a", "b")
    alive = SampleWindow("c", np.array([3.0, 4.0, 3.0, 4.0]), 1.0)
    assert assess_inputs([*zero, alive], 15.0, True, LIMITS).zeroed == ()
    unknown = [SampleWindow("a", np.full(4, NAN), None)]
    assert assess_inputs(unknown, 15.0, True, LIMITS).zeroed == ()


def test_situation_builder_combines_all_inputs():
    """A situation combines ledger, history and observation, with durations scaled for a trial."""
    builder = SituationBuilder(Guardrails(time_scale=0.5))
    builder.advance(monotonic_ns(0))
    builder.record_evaluation([make_proposal(after=9)])
    builder.advance(monotonic_ns(200))
    builder.record_evaluation([make_proposal(after=5)])
    live = TargetObservation(mode=Mode.AUTO, targets=("cache-1",), total_targets=3, generation=4, trial=True)
    done = make_aged_action(50.0).action
    pause = make_situation().pause
    found = builder.build(make_proposal(approved=START), START, pause, [done, done], live, undoes=done)
    assert found.stability == ProposalStability(2, 200.0, 0.0, 5.0)  # 9 is older than the hold of a trial
    assert [(p.action, p.age_s) for p in found.recent_actions] == [(done, 50.0)]
    assert (found.now, found.uptime_s, found.undoes, found.approval_age_s) == (START, 200.0, done, 0.0)
    assert (found.mode, found.targets, found.total_targets, found.generation) == (
        Mode.AUTO,
        ("cache-1",),
        3,
        4,
    )
    slow = builder.build(make_proposal(), START, pause, [], replace(live, trial=False))
    assert slow.stability.max_value == 9.0
    again = SituationBuilder(builder.limits)
    again.restore(json.loads(json.dumps(builder.state())))
    assert again.build(make_proposal(), START, pause, [done], live).stability == found.stability


def test_proposal_from_a_stored_action():
    """A proposal made from an action has its target, values and author and does not expire."""
    action = make_aged_action(5.0, state=ActionState.PROPOSED, by="ann").action
    made = proposal_from_action(action)
    assert (made.id, made.tool, made.target, made.subject) == (action.id, "redis", "cache-2", "maxmemory")
    assert (made.before, made.after, made.proposer, made.created) == (
        action.before, action.after, "ann", action.created,
    )  # fmt: skip
