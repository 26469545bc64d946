"""Reasons of the guard name the target, the measured value, the limit and what to do."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import (
    GOOD_INPUTS,
    LIMITS,
    MAXMEMORY,
    MIB,
    POLICY,
    RESTART,
    SPEED,
    STABLE,
    WORKERS,
    make_aged_action,
    make_change,
    make_proposal,
    make_situation,
)
from tests.builders.series import SECOND, START
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.types import ActionState, KnobReading, Lasts, MemoryOutlook, Mode, Pause, WarmingLoad

APPROVED = {"approver": "ann", "approved": START}
WARM = (
    make_proposal(subject="warm", is_action=True, before=None, after=None),
    make_situation(action=replace(RESTART, name="warm"), warming=WarmingLoad(9.0, 100.0, 0.0)),
)
REASONS = [
    (
        make_proposal(),
        make_situation(pause=Pause(True)),
        "somebody paused all actions; an operator has to resume",
    ),
    (
        make_proposal(),
        make_situation(pause=Pause(True, "ann", 0, "x")),
        "ann paused all actions (x); an operator has to resume",
    ),
    (
        make_proposal(target="*"),
        make_situation(),
        "'*' is not a single target; list each target in tools.redis.targets",
    ),
    (
        make_proposal(target="c"),
        make_situation(),
        "'c' is not a target of redis (cache-1, cache-2); add it to tools.redis.targets",
    ),
    (
        make_proposal(),
        make_situation(targets=()),
        "'cache-1' is not a target of redis (none); add it to tools.redis",
    ),
    (
        make_proposal(),
        make_situation(mode=Mode.OFF),
        "maxmemory of cache-1 is off; set its mode in tools.redis.mode",
    ),
    (make_proposal(), make_situation(knob=None), "cache-1 has no knob 'maxmemory' now; check redis"),
    (WARM[0], make_situation(), "cache-1 has no action 'warm' now; check redis"),
    (
        make_proposal(**APPROVED, proposer="ann"),
        make_situation(),
        "ann proposed it; another operator has to approve",
    ),
    (
        make_proposal(**APPROVED),
        make_situation(approval_age_s=960.0),
        "ann approved it 16 min ago; an approval is valid for 15 min; approve again",
    ),
    (
        make_proposal(**APPROVED),
        make_situation(),
        "ann approved it at an unknown time; an approval is valid for 15 min",
    ),
    (
        make_proposal(expires=START - 90 * SECOND),
        make_situation(),
        "the recommendation expired 1.5 min ago; use the newest one",
    ),
    (
        make_proposal(generation=3),
        make_situation(generation=4),
        "it is generation 3 of the plan, the newest is 4; use the newest recommendation",
    ),
    (
        make_proposal(),
        make_situation(stability=replace(STABLE, last_s=360.0)),
        "it was last evaluated 6 min ago; a plan is valid for 5 min; wait",
    ),
    (
        make_proposal(),
        make_situation(stability=replace(STABLE, last_s=None)),
        "it was never evaluated; a plan is valid for 5 min; wait",
    ),
    (
        make_proposal(),
        make_situation(reading=None),
        "maxmemory of cache-1 cannot be read now; check the tool's status",
    ),
    (
        make_proposal(),
        make_situation(reading=KnobReading(7, True, Lasts.UNKNOWN)),
        "maxmemory of cache-1 is 7, not 1048576000: it was changed; use the newest recommendation",
    ),
    (
        *make_change(POLICY, "volatile-lru", "x"),
        "maxmemory-policy of cache-1 = 'x'; it must be one of allkeys",
    ),
    (
        *make_change(replace(POLICY, choices=()), "a", "x"),
        "maxmemory-policy of cache-1 = 'x'; it must be one of",
    ),
    (*make_change(WORKERS, 2, 2.5), "workers of cache-1 = 2.5; it must be a whole number"),
    (*make_change(WORKERS, 2, 0), "workers of cache-1 = 0; it must be at least 1"),
    (*make_change(WORKERS, 64, 65), "workers of cache-1 = 65; it must be at most 64"),
    (
        make_proposal(after=0),
        make_situation(),
        "maxmemory of cache-1 = 0; it must be above 0, which would lift the limit",
    ),
    (*make_change(SPEED, 4.0, "x"), "speed of cache-1 = 'x'; it must be a number"),
    (
        *make_change(SPEED, 100.0, 60.0),
        "speed of cache-1 100 -> 60 is a step of 40, at most 25 is allowed at once; go to 75 first",
    ),
    (
        *make_change(SPEED, 100.0, 105.0),
        "speed of cache-1 100 -> 105 changes it by less than 10, the dead band; no change is needed",
    ),
    (
        *make_change(POLICY, "volatile-lru", "volatile-lru"),
        "maxmemory-policy of cache-1 is 'volatile-lru' already; no change is needed",
    ),
    (
        *make_change(POLICY, "volatile-lru", "allkeys-lru"),
        "allkeys-lru would evict keys of cache-1 that never expire (the share that expires is unknown); use",
    ),
    (
        *make_change(POLICY, "volatile-lru", "allkeys-lru", ttl_share=0.5),
        "allkeys-lru would evict keys of cache-1 that never expire (50% of them expire); use",
    ),
    (
        make_proposal(),
        make_situation(memory=None),
        "the memory limit of cache-1 is unknown; set memory_limit",
    ),
    (
        make_proposal(),
        make_situation(memory=MemoryOutlook(1000.0, (("others", None),))),
        "unknown others = unknown, over 85% of 1000 bytes (850 bytes); raise maxmemory of cache-1 by less, "
        "or raise the limit",
    ),
    (*WARM, "9 requests/s exceed 5 (at most 10, and 5% of the origin's 100); warm more slowly"),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, source_up=None)),
        "the source of the inputs of maxmemory of cache-1 is not known to be up; wait for it",
    ),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, source_up=False)),
        "the source of the inputs of maxmemory of cache-1 is down; wait for it",
    ),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, newest_age=None)),
        "the newest sample is missing, at most 3 are",
    ),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, newest_age=4.0)),
        "the newest sample is 4 intervals old, at most 3",
    ),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, present_ratio=None)),
        "an unknown share of the window has samples, 90%",
    ),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, present_ratio=0.5)),
        "50% of the window has samples, 90%",
    ),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, zeroed=tuple("abc"))),
        "a, b, c fell to exactly 0",
    ),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, zeroed=tuple("abcde"))),
        "a, b, c and 2 more fell to exactly 0",
    ),
    (
        make_proposal(),
        make_situation(inputs=replace(GOOD_INPUTS, jumped=("a",))),
        "a jumped by a factor of 100 or more, which suggests",
    ),
    (
        make_proposal(),
        make_situation(
            recent_actions=(make_aged_action(7200.0, target="cache-1", state=ActionState.UNKNOWN),)
        ),
        "maxmemory of cache-1 ended unknown 2 h ago; check the target, then approve",
    ),
    (
        make_proposal(),
        make_situation(
            recent_actions=(
                make_aged_action(7200.0, target="cache-1", state=ActionState.FAILED, undoes="A0"),
            )
        ),
        "a rollback of cache-1 ended failed 2 h ago; check the target, then approve",
    ),
    (*make_change(MAXMEMORY, 100 * MIB, 90 * MIB), "lowering maxmemory of cache-1 evicts keys: setting"),
]


@pytest.mark.parametrize(("proposal", "situation", "reason"), REASONS)
def test_reason_names_the_values_and_the_way_on(proposal, situation, reason):
    """A reason begins with the target and its values and ends with what to do."""
    reason_given = decide(proposal, situation, LIMITS).reason
    assert reason_given.startswith(reason)
    assert ";" in reason_given


@pytest.mark.parametrize(
    ("person", "advice"), [(True, "wait until that ends, or undo it"), (False, "wait until that ends")]
)
def test_reason_offers_an_undo_to_operators_only(person, advice):
    """Only an operator is offered to undo the running action; the engine can only wait."""
    running = make_aged_action(1000.0, target="cache-1", state=ActionState.VERIFYING, ended=None)
    reason_given = decide(make_proposal(), make_situation(recent_actions=(running,)), LIMITS, person).reason
    assert reason_given == f"maxmemory of cache-1 is being changed; {advice}"
