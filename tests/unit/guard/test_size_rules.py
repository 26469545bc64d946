"""Guard rules on the size of a change, its value, memory and data, on both sides of each limit."""

from dataclasses import replace

import pytest

from tests.builders.guard_requests import (
    ENOUGH_MEMORY,
    GOOD_INPUTS,
    LIMITS,
    MAXMEMORY,
    MIB,
    POLICY,
    RESTART,
    SPEED,
    STABLE,
    WORKERS,
    make_change,
    make_proposal,
    make_situation,
    named_cases,
    verdict_of,
)
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.actions.guard.situation import GuardVerdict
from trimtab.engine.types import KnobType, MemoryOutlook, Mode, WarmingLoad

GIB = 2**30


STEP_UP = replace(SPEED, step=300.0)
STEP_FIXED = replace(SPEED, step=300.0, reversible=False)
CHANGES = [
    # a reversible knob with its own step rises by that step, at most to twice its value
    ("own step up", STEP_UP, 400.0, 700.0, "allow"),
    ("over its own step", STEP_UP, 400.0, 701.0, "refuse step"),
    ("to the double", STEP_UP, 200.0, 400.0, "allow"),
    ("over the double", STEP_UP, 200.0, 401.0, "refuse step"),
    ("own step down, 25 %", STEP_UP, 400.0, 300.0, "allow"),
    ("own step down over 25 %", STEP_UP, 400.0, 299.0, "refuse step"),
    ("own step smaller than 25 %, down", replace(SPEED, step=50.0), 400.0, 350.0, "allow"),
    ("over its own step, down", replace(SPEED, step=50.0), 400.0, 349.0, "refuse step"),
    ("irreversible: 25 %", STEP_FIXED, 400.0, 500.0, "approve irreversible"),
    ("irreversible: over 25 %", STEP_FIXED, 400.0, 501.0, "refuse step"),
    # its own step is allowed even within the dead band, otherwise the knob could never change
    ("own step within the dead band", replace(SPEED, step=10.0), 400.0, 410.0, "allow"),
    ("less than its own step", replace(SPEED, step=10.0), 400.0, 409.0, "refuse dead band"),
    # an integer changes by at least 1
    ("one more replica", WORKERS, 2, 3, "allow"),
    ("two more", WORKERS, 2, 4, "refuse step"),
    ("25 % of 8", WORKERS, 8, 10, "allow"),
    ("over 25 % of 8", WORKERS, 8, 11, "refuse step"),
    ("25 % of 8 down", WORKERS, 8, 6, "allow"),
    ("over 25 % of 8 down", WORKERS, 8, 5, "refuse step"),
    ("below its lowest", WORKERS, 1, 0, "refuse bounds"),
    ("a float has no minimum step of 1", SPEED, 2.0, 3.0, "refuse step"),
    # a relative step from 0 or from an unset value is undefined
    ("from 0", SPEED, 0.0, 1.0, "approve step"),
    ("from 0 by its own step", STEP_UP, 0.0, 300.0, "approve step"),
    ("from 0 over its own step", STEP_UP, 0.0, 301.0, "refuse step"),
    ("from unset", SPEED, None, 5.0, "approve step"),
    # min and max are required
    ("no highest", replace(SPEED, high=None), 400.0, 500.0, "approve bounds"),
    ("no lowest", replace(SPEED, low=None), 400.0, 500.0, "approve bounds"),
    # at least 2 replicas remain
    ("2 instances remain", replace(WORKERS, name="instances"), 3, 2, "allow"),
    ("1 instance would remain", replace(WORKERS, name="instances"), 2, 1, "refuse replicas"),
    ("from 1 up", replace(WORKERS, name="instances"), 1, 2, "allow"),
    ("counted by its unit", replace(WORKERS, unit="replicas"), 2, 1, "refuse replicas"),
    ("workers are not replicas", WORKERS, 2, 1, "allow"),
    # values that are never applied
    ("denied by the knob", replace(WORKERS, denied=(5,)), 4, 5, "refuse denied"),
    ("fsync", replace(POLICY, name="fsync", choices=("on", "off")), "on", "off", "refuse denied"),
    ("fsync as a switch", replace(POLICY, name="fsync", type=KnobType.BOOL), True, False, "refuse denied"),
    ("fsync as a word", replace(POLICY, name="fsync", choices=("False",)), "true", "False", "refuse denied"),
    ("fsync as no", replace(POLICY, name="fsync", choices=("no",)), "yes", "no", "refuse denied"),
    ("another switch may be off", replace(POLICY, name="jit", choices=("off",)), "on", "off", "allow"),
    ("synchronous_commit", replace(POLICY, name="synchronous_commit"), "on", "off", "refuse denied"),
    ("fsync back on", replace(POLICY, name="fsync", choices=("on", "off")), "off", "on", "allow"),
    ("never evict", POLICY, "volatile-lru", "noeviction", "refuse denied"),
    # choices and switches
    ("unknown choice", POLICY, "volatile-lru", "fastest", "refuse bounds"),
    ("a switch", replace(POLICY, name="lazyfree", type=KnobType.BOOL), False, True, "allow"),
    ("a number for a switch", replace(POLICY, name="lazy", type=KnobType.BOOL), False, 1, "refuse bounds"),
    ("the current choice", POLICY, "volatile-lru", "volatile-lru", "refuse dead band"),
    # a policy
    ("leaving noeviction", POLICY, "noeviction", "volatile-lru", "refuse Redis policy"),
    ("between allkeys", POLICY, "allkeys-lru", "allkeys-lfu", "allow"),
    ("to keys that never expire", POLICY, "volatile-lru", "allkeys-lru", "refuse Redis policy"),
    ("to fewer keys", POLICY, "allkeys-lru", "volatile-lru", "allow"),
]  # fmt: skip


@pytest.mark.parametrize(("knob", "before", "after", "word"), named_cases(CHANGES))
def test_size_and_value_of_a_change(knob, before, after, word):
    """Step, bounds, replicas and denied values limit each change of a knob."""
    assert verdict_of(*make_change(knob, before, after)) == word


@pytest.mark.parametrize(
    ("share", "word"), [(None, "refuse"), (0.0, "refuse"), (0.99, "refuse"), (1.0, "allow")]
)
def test_allkeys_where_every_key_expires(share, word):
    """An allkeys policy is allowed only where every key has a TTL."""
    assert verdict_of(*make_change(POLICY, "volatile-lru", "allkeys-lru", ttl_share=share)).split()[0] == word


def test_setting_a_first_memory_limit_needs_an_operator():
    """Setting maxmemory where it was unlimited (0) evicts keys and needs an operator."""
    assert verdict_of(*make_change(MAXMEMORY, 0, GIB)) == "approve step"
    person = decide(*make_change(MAXMEMORY, 0, GIB), LIMITS, person=True)
    assert person.verdict is GuardVerdict.ALLOW
    assert "setting reversible, data not" in person.reason


def test_lowering_memory_ignores_the_memory_rule():
    """A change that lowers memory is never refused by the memory rule."""
    short = MemoryOutlook(None, ())
    assert verdict_of(make_proposal(after=900 * MIB), make_situation(memory=short)) == "approve irreversible"


def test_memory_rule_applies_by_name_or_outlook():
    """The memory rule applies to known memory knobs and to any knob with a memory outlook."""
    work_mem = replace(SPEED, name="work_mem")
    assert verdict_of(*make_change(work_mem, 400.0, 500.0)) == "refuse memory"
    assert verdict_of(*make_change(work_mem, 400.0, 500.0, memory=ENOUGH_MEMORY)) == "allow"
    full = MemoryOutlook(1.0, (("pools", 2.0),))
    assert verdict_of(*make_change(SPEED, 400.0, 500.0, memory=full)) == "refuse memory"


def test_memory_refusal_lists_each_part():
    """The reason of a memory refusal lists each part, the sum and the limit."""
    parts = (("data", 8.0 * GIB), ("copied on write while it saves", 8.0 * GIB), ("others", 1.0 * GIB))
    reason = decide(make_proposal(), make_situation(memory=MemoryOutlook(16.0 * GIB, parts)), LIMITS).reason
    assert reason == (
        "8.0 GiB data + 8.0 GiB copied on write while it saves + 1.0 GiB others = 17.0 GiB, "
        "over 85% of 16.0 GiB (13.6 GiB); raise maxmemory of cache-1 by less, or raise the limit"
    )


HELD = replace(STABLE, max_value=300.0)
REDUCTIONS = [
    ("to the maximum of the hold", 300.0, {"stability": HELD}, "allow"),
    ("below that maximum", 300.0, {"stability": replace(HELD, max_value=301.0)}, "refuse reducing"),
    ("maximum unknown", 300.0, {"stability": replace(HELD, max_value=None)}, "refuse reducing"),
    ("stable for less than the hold", 300.0, {"stability": replace(HELD, since_s=299.0)}, "refuse reducing"),
    ("no hold for an increase", 500.0, {"stability": replace(HELD, since_s=200.0, max_value=900.0)}, "allow"),
    ("an input is missing", 300.0, {"inputs": replace(GOOD_INPUTS, missing=1)}, "refuse reducing"),
    ("inputs unknown", 300.0, {"inputs": None}, "refuse freshness"),
]  # fmt: skip


@pytest.mark.parametrize(("after", "changed", "word"), named_cases(REDUCTIONS))
def test_reduction(after, changed, word):
    """A reduction needs every metric and stays above the highest value proposed within the hold."""
    assert verdict_of(*make_change(SPEED, 400.0, after, **{"stability": HELD, **changed})) == word


def restart(**changed):
    """Return a proposal to restart cache-1 and its situation."""
    action = replace(RESTART, **changed.pop("action", {}))
    proposal = make_proposal(subject=action.name, is_action=True, before=None, after=None)
    return proposal, make_situation(knob=None, action=action, reading=None, **changed)


def test_a_tool_action_passes_the_rules_without_values():
    """Mode, freshness and subject rules apply to a tool action; rules on values do not."""
    assert verdict_of(*restart()) == "allow"
    assert verdict_of(*restart(mode=Mode.RECOMMEND)) == "approve mode"
    assert verdict_of(*restart(inputs=replace(GOOD_INPUTS, source_up=False))) == "refuse freshness"
    proposal, situation = restart()
    assert verdict_of(proposal, replace(situation, action=None)) == "refuse subject"


def test_a_reducing_action_is_held_like_a_reduction():
    """A tool action that reduces capacity needs the hold and every metric."""
    reduces = {"reduces": True}
    assert verdict_of(*restart(action=reduces)) == "allow"
    assert verdict_of(*restart(action=reduces, stability=replace(STABLE, since_s=299.0))) == "refuse reducing"
    assert verdict_of(*restart(action=reduces, inputs=replace(GOOD_INPUTS, missing=1))) == "refuse reducing"


WARMINGS = [
    ("within both limits", WarmingLoad(10.0, 200.0, 0.0), "allow"),
    ("over 10 a second", WarmingLoad(10.1, 1000.0, 0.0), "refuse cache warming"),
    ("5 % of its origin", WarmingLoad(5.0, 100.0, 0.0), "allow"),
    ("over 5 % of its origin", WarmingLoad(5.1, 100.0, 0.0), "refuse cache warming"),
    ("errors", WarmingLoad(1.0, 100.0, 0.01), "refuse cache warming"),
    ("fewer errors", WarmingLoad(1.0, 100.0, 0.009), "allow"),
    ("load unknown", None, "refuse cache warming"),
    ("request rate unknown", WarmingLoad(None, 100.0, 0.0), "refuse cache warming"),
    ("origin unknown", WarmingLoad(1.0, None, 0.0), "refuse cache warming"),
    ("errors unknown", WarmingLoad(1.0, 100.0, None), "refuse cache warming"),
]  # fmt: skip


@pytest.mark.parametrize(("load", "word"), named_cases(WARMINGS))
def test_warming(load, word):
    """Cache warming is limited by request rate, share of the origin's load and error rate."""
    assert verdict_of(*restart(action={"name": "warm_keys"}, warming=load)) == word
