"""Each guard rule on both sides of its limit: pause, mode, plan, freshness, mass breaker, memory."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import (
    ENOUGH_MEMORY,
    GOOD_INPUTS,
    LIMITS,
    MIB,
    NO_MASS_ANOMALY,
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
from trimtab.engine.actions.guard.situation import GuardVerdict, ProposalStability
from trimtab.engine.settings import Guardrails
from trimtab.engine.types import KnobReading, Lasts, MemoryOutlook, Mode, Pause

GIB = 2**30


def test_a_proposal_within_every_limit_is_allowed():
    """The default proposal is allowed and the reason says why."""
    decision = decide(make_proposal(), make_situation(), LIMITS)
    assert (decision.verdict, decision.guard, decision.until) == (GuardVerdict.ALLOW, "", None)
    assert decision.reason == "the mode of maxmemory of cache-1 is auto, and it is within every limit"


def test_reason_names_the_operator_decision():
    """The reason of an allowed manual decision says that an operator decided it."""
    assert decide(make_proposal(), make_situation(), LIMITS, person=True).reason == (
        "an operator decided it, and it is within every limit"
    )


def test_the_order_is_pause_then_refusals_then_waits_then_approvals():
    """The most serious objection is reported first: pause, refusals, waits, then approvals."""
    situation = make_situation(
        pause=Pause(True),
        targets=("other",),
        uptime_s=1.0,
        mode=Mode.RECOMMEND,
        stability=ProposalStability(1, 1.0, 1.0),
    )
    fixes = [
        {},
        {"pause": Pause(False)},
        {"targets": ("cache-1",)},
        {"uptime_s": 301.0},
        {"stability": STABLE},
        {"mode": Mode.AUTO},
    ]
    verdicts = []
    for step in fixes:
        situation = replace(situation, **step)
        verdicts.append(verdict_of(make_proposal(), situation))
    assert verdicts == [
        "refuse pause", "refuse targets", "refuse start-up", "refuse persistence", "approve mode", "allow",
    ]  # fmt: skip


SITUATIONS = [
    # (case, changed fields of the situation, verdict)
    ("pause", {"pause": Pause(True, "ann", 0, "maintenance")}, "refuse pause"),
    ("target not listed", {"targets": ("cache-2",)}, "refuse targets"),
    ("no target listed", {"targets": ()}, "refuse targets"),
    ("a wildcard in the list", {"targets": ("cache-1", "*")}, "refuse targets"),
    ("an empty name in the list", {"targets": ("cache-1", " ")}, "refuse targets"),
    ("a pattern in the list", {"targets": ("cache-1", "cache-*")}, "refuse targets"),
    ("mode off", {"mode": Mode.OFF}, "refuse mode"),
    ("mode recommend", {"mode": Mode.RECOMMEND}, "approve mode"),
    ("mode approve", {"mode": Mode.APPROVE}, "approve mode"),
    ("knob gone", {"knob": None}, "refuse subject"),
    ("another knob", {"knob": WORKERS}, "refuse subject"),
    ("another generation", {"generation": 1}, "refuse plan"),
    ("never evaluated", {"stability": replace(STABLE, last_s=None)}, "refuse plan"),
    ("plan at the maximum age", {"stability": replace(STABLE, last_s=300.0)}, "allow"),
    ("plan too old", {"stability": replace(STABLE, last_s=300.1)}, "refuse plan"),
    ("knob cannot be read", {"reading": None}, "refuse plan"),
    ("changed by somebody else", {"reading": KnobReading(999 * MIB, True, Lasts.UNKNOWN)}, "refuse plan"),
    # freshness
    ("inputs unknown", {"inputs": None}, "refuse freshness"),
    ("no inputs", {"inputs": replace(GOOD_INPUTS, series=0)}, "refuse freshness"),
    ("source down", {"inputs": replace(GOOD_INPUTS, source_up=False)}, "refuse freshness"),
    ("source unknown", {"inputs": replace(GOOD_INPUTS, source_up=None)}, "refuse freshness"),
    ("sample at the maximum age", {"inputs": replace(GOOD_INPUTS, newest_age=3.0)}, "allow"),
    ("sample too old", {"inputs": replace(GOOD_INPUTS, newest_age=3.01)}, "refuse freshness"),
    ("no sample", {"inputs": replace(GOOD_INPUTS, newest_age=None)}, "refuse freshness"),
    ("window just full enough", {"inputs": replace(GOOD_INPUTS, present_ratio=0.9)}, "allow"),
    ("window too empty", {"inputs": replace(GOOD_INPUTS, present_ratio=0.89)}, "refuse freshness"),
    ("window unknown", {"inputs": replace(GOOD_INPUTS, present_ratio=None)}, "refuse freshness"),
    ("one input missing, increase", {"inputs": replace(GOOD_INPUTS, missing=1)}, "allow"),
    ("sudden zero", {"inputs": replace(GOOD_INPUTS, zeroed=("a", "b", "c", "d"))}, "refuse sudden zero"),
    ("unit change", {"inputs": replace(GOOD_INPUTS, jumped=("a",))}, "refuse unit change"),
    # mass breaker
    ("mass unknown", {"mass": None}, "refuse mass breaker"),
    ("30 % elsewhere", {"mass": replace(NO_MASS_ANOMALY, anomalous=30)}, "allow"),
    ("31 % elsewhere", {"mass": replace(NO_MASS_ANOMALY, anomalous=31)}, "refuse mass breaker"),
    ("4 of 5, below the minimum count", {"mass": replace(NO_MASS_ANOMALY, anomalous=4, watched=5)}, "allow"),
    ("5 of 6", {"mass": replace(NO_MASS_ANOMALY, anomalous=5, watched=6)}, "refuse mass breaker"),
    ("no other series is watched", {"mass": replace(NO_MASS_ANOMALY, watched=0, sources=0)}, "allow"),
    ("1 of 3 sources down", {"mass": replace(NO_MASS_ANOMALY, sources_down=1)}, "allow"),
    ("9 of 20 sources down, 45 %", {"mass": replace(NO_MASS_ANOMALY, sources_down=9, sources=20)}, "allow"),
    ("2 of 4 down", {"mass": replace(NO_MASS_ANOMALY, sources_down=2, sources=4)}, "refuse mass breaker"),
    # start-up and persistence
    ("just started", {"uptime_s": 299.0}, "refuse start-up"),
    ("running long enough", {"uptime_s": 300.0}, "allow"),
    ("2 evaluations", {"stability": replace(STABLE, evaluations=2)}, "refuse persistence"),
    ("3 within less than 3 min", {"stability": replace(STABLE, since_s=179.0)}, "refuse persistence"),
    ("3 in 3 min", {"stability": replace(STABLE, since_s=180.0)}, "allow"),
    # memory
    ("limit unknown", {"memory": MemoryOutlook(None, ENOUGH_MEMORY.parts)}, "refuse memory"),
    ("outlook unknown", {"memory": None}, "refuse memory"),
    ("a part unknown", {"memory": MemoryOutlook(16.0 * GIB, (("others", None),))}, "refuse memory"),
    ("85 %", {"memory": MemoryOutlook(100.0, (("data", 80.0), ("others", 5.0)))}, "allow"),
    ("over 85 %", {"memory": MemoryOutlook(100.0, (("data", 80.0), ("others", 5.1)))}, "refuse memory"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "word"), named_cases(SITUATIONS))
def test_rule_of_the_situation(changed, word):
    """Each guard rule on the situation refuses on one side of its limit and passes on the other."""
    assert verdict_of(make_proposal(), make_situation(**changed)) == word


PROPOSALS = [
    ("target is a wildcard", {"target": "*"}, "refuse targets"),
    ("target is empty", {"target": ""}, "refuse targets"),
    ("target is everything", {"target": "ALL"}, "refuse targets"),
    ("expires now", {"expires": START}, "refuse plan"),
    ("expires in a moment", {"expires": START + 1}, "allow"),
    ("another generation", {"generation": 7}, "refuse plan"),
    ("from another value", {"before": 999 * MIB}, "refuse plan"),
    ("to NaN", {"after": float("nan")}, "refuse bounds"),
    ("to infinity", {"after": float("inf")}, "refuse bounds"),
    ("to a string", {"after": "much"}, "refuse bounds"),
    ("to true", {"after": True}, "refuse bounds"),
    ("to a fraction of a byte", {"after": 1200 * MIB + 0.5}, "refuse bounds"),
    ("to no limit at all", {"after": 0}, "refuse bounds"),
    ("below the lowest", {"after": 63 * MIB}, "refuse bounds"),
    ("above the highest", {"after": 9 * GIB}, "refuse bounds"),
    ("25 % up", {"after": 1250 * MIB}, "allow"),
    ("a byte over 25 %", {"after": 1250 * MIB + 1000}, "refuse step"),
    ("1000 times as much", {"after": 8 * GIB}, "refuse step"),
    ("10 % up", {"after": 1100 * MIB}, "allow"),
    ("less than 10 % up", {"after": 1099 * MIB}, "refuse dead band"),
    ("to the current value", {"after": 1000 * MIB}, "refuse dead band"),
    ("down, which evicts data", {"after": 900 * MIB}, "approve irreversible"),
    ("back to the default", {"after": None}, "approve step"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "word"), named_cases(PROPOSALS))
def test_rule_of_the_proposal(changed, word):
    """Each guard rule on the proposal refuses on one side of its limit and passes on the other."""
    assert verdict_of(make_proposal(**changed), make_situation()) == word


APPROVED = {"approver": "ann", "approved": START - 60 * SECOND}


@pytest.mark.parametrize(
    ("changed", "age_s", "word"),
    [
        ({}, 60.0, "allow"),
        ({}, 900.0, "allow"),
        ({}, 900.1, "refuse approval"),
        ({}, None, "refuse approval"),
        ({"proposer": "ann"}, 60.0, "refuse approval"),
    ],
)
def test_approval(changed, age_s, word):
    """An approval by another operator than the proposer is valid for 15 minutes."""
    situation = make_situation(mode=Mode.APPROVE, approval_age_s=age_s)
    assert verdict_of(make_proposal(**APPROVED, **changed), situation) == word


def test_an_operator_overrides_mode_persistence_hold_and_start_up_only():
    """A manual decision overrides mode, persistence, hold and start-up; every other rule applies."""
    overridable = {
        "mode": Mode.OFF, "uptime_s": 0.0, "stability": ProposalStability(), "inputs": None,
        "knob": replace(SPEED, high=None, reversible=False),
    }  # fmt: skip
    proposal, situation = make_change(SPEED, 400.0, 300.0)
    assert verdict_of(proposal, replace(situation, **overridable), person=True) == "allow"
    for changed, word in [
        ({"pause": Pause(True)}, "refuse pause"),
        ({"targets": ("other",)}, "refuse targets"),
        ({"inputs": replace(GOOD_INPUTS, zeroed=("a",))}, "refuse sudden zero"),
        ({"inputs": replace(GOOD_INPUTS, missing=1)}, "refuse reducing"),
        ({"mass": replace(NO_MASS_ANOMALY, anomalous=99)}, "refuse mass breaker"),
        ({"reading": KnobReading(401.0, True, Lasts.UNKNOWN)}, "refuse plan"),
    ]:
        assert verdict_of(proposal, replace(situation, **changed), person=True) == word
    assert verdict_of(*make_change(SPEED, 400.0, 200.0), person=True) == "refuse step"


def test_reasons_name_values_and_advice():
    """A reason names the target, the measured value, the limit and what to do."""
    reasons = {
        (verdict_of(make_proposal(**p), make_situation(**s))): decide(
            make_proposal(**p), make_situation(**s), LIMITS
        ).reason
        for p, s in [
            ({"after": 1300 * MIB}, {}),
            ({}, {"mass": replace(NO_MASS_ANOMALY, anomalous=40)}),
            ({}, {"uptime_s": 60.0}),
        ]
    }
    assert reasons == {
        "refuse step": "maxmemory of cache-1 1000.0 MiB -> 1.3 GiB is a step of 300.0 MiB, "
        "at most 250.0 MiB is allowed at once; go to 1.2 GiB first",
        "refuse mass breaker": "40 of 100 series elsewhere are anomalous, over 30%: all actions are "
        "suspended; look for a common cause",
        "refuse start-up": "the engine started 1 min ago; wait 4 min",
    }


def test_durations_are_scaled_for_a_trial_target():
    """With a time scale of 0.1, durations are a tenth for trial targets only, and the reason says so."""
    limits = Guardrails(time_scale=0.1)
    recent = tuple(make_aged_action(360.0 + i) for i in range(6))
    assert verdict_of(make_proposal(), make_situation(recent_actions=recent, trial=True), limits) == "allow"
    assert verdict_of(make_proposal(), make_situation(recent_actions=recent), limits) == "refuse rate"
    cooling = (make_aged_action(90.0, target="cache-1"),)
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
