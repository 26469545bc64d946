"""How far a change goes, and what it does to memory and data: the guard on either side of each limit."""

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
    # a knob with a step of its own goes up by it, to the double at most, where it can go down again
    ("own step up", STEP_UP, 400.0, 700.0, "allow"),
    ("over its own step", STEP_UP, 400.0, 701.0, "refuse step"),
    ("to the double", STEP_UP, 200.0, 400.0, "allow"),
    ("over the double", STEP_UP, 200.0, 401.0, "refuse step"),
    ("own step down is 25 %", STEP_UP, 400.0, 300.0, "allow"),
    ("own step down over 25 %", STEP_UP, 400.0, 299.0, "refuse step"),
    ("own step smaller than 25 %, down", replace(SPEED, step=50.0), 400.0, 350.0, "allow"),
    ("over it", replace(SPEED, step=50.0), 400.0, 349.0, "refuse step"),
    ("no way back: 25 %", STEP_FIXED, 400.0, 500.0, "approve irreversible"),
    ("no way back: over 25 %", STEP_FIXED, 400.0, 501.0, "refuse step"),
    # a step below the dead band would make a knob immovable
    ("own step within the dead band", replace(SPEED, step=10.0), 400.0, 410.0, "allow"),
    ("less than it", replace(SPEED, step=10.0), 400.0, 409.0, "refuse dead band"),
    # a whole number moves by 1 at least
    ("one more replica", WORKERS, 2, 3, "allow"),
    ("two more", WORKERS, 2, 4, "refuse step"),
    ("25 % of 8", WORKERS, 8, 10, "allow"),
    ("over 25 % of 8", WORKERS, 8, 11, "refuse step"),
    ("25 % of 8 down", WORKERS, 8, 6, "allow"),
    ("over 25 % of 8 down", WORKERS, 8, 5, "refuse step"),
    ("below its lowest", WORKERS, 1, 0, "refuse bounds"),
    ("what is no whole number has no such least", SPEED, 2.0, 3.0, "refuse step"),
    # from nothing there is no measure
    ("from 0", SPEED, 0.0, 1.0, "approve step"),
    ("from 0 by its own step", STEP_UP, 0.0, 300.0, "approve step"),
    ("from 0 over its own step", STEP_UP, 0.0, 301.0, "refuse step"),
    ("from unset", SPEED, None, 5.0, "approve step"),
    # min and max are required
    ("no highest", replace(SPEED, high=None), 400.0, 500.0, "approve bounds"),
    ("no lowest", replace(SPEED, low=None), 400.0, 500.0, "approve bounds"),
    # 2 replicas stay
    ("2 instances stay", replace(WORKERS, name="instances"), 3, 2, "allow"),
    ("1 would be left", replace(WORKERS, name="instances"), 2, 1, "refuse replicas"),
    ("from 1 up", replace(WORKERS, name="instances"), 1, 2, "allow"),
    ("counted by its unit", replace(WORKERS, unit="replicas"), 2, 1, "refuse replicas"),
    ("workers are no replicas", WORKERS, 2, 1, "allow"),
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
    ("no such choice", POLICY, "volatile-lru", "fastest", "refuse bounds"),
    ("a switch", replace(POLICY, name="lazyfree", type=KnobType.BOOL), False, True, "allow"),
    ("a number for a switch", replace(POLICY, name="lazy", type=KnobType.BOOL), False, 1, "refuse bounds"),
    ("a choice that holds already", POLICY, "volatile-lru", "volatile-lru", "refuse dead band"),
    # a policy
    ("leaving noeviction", POLICY, "noeviction", "volatile-lru", "refuse Redis policy"),
    ("between allkeys", POLICY, "allkeys-lru", "allkeys-lfu", "allow"),
    ("to keys that never expire", POLICY, "volatile-lru", "allkeys-lru", "refuse Redis policy"),
    ("to fewer keys", POLICY, "allkeys-lru", "volatile-lru", "allow"),
]  # fmt: skip


@pytest.mark.parametrize(("knob", "before", "after", "word"), named_cases(CHANGES))
def test_change(knob, before, after, word):
    """How far, and to what, a knob goes."""
    assert verdict_of(*make_change(knob, before, after)) == word


@pytest.mark.parametrize(
    ("share", "word"), [(None, "refuse"), (0.0, "refuse"), (0.99, "refuse"), (1.0, "allow")]
)
def test_allkeys_where_every_key_expires(share, word):
    """Evicting any key is only let where every key has a TTL."""
    assert verdict_of(*make_change(POLICY, "volatile-lru", "allkeys-lru", ttl_share=share)).split()[0] == word


def test_a_limit_where_there_was_none_needs_a_person():
    """Setting maxmemory from 0, which means none, evicts keys; lifting it would pass every host."""
    assert verdict_of(*make_change(MAXMEMORY, 0, GIB)) == "approve step"
    person = decide(*make_change(MAXMEMORY, 0, GIB), LIMITS, person=True)
    assert person.verdict is GuardVerdict.ALLOW
    assert "setting reversible, data not" in person.reason


def test_less_memory_is_no_matter_of_memory():
    """A lowering is never refused for the memory that is short."""
    short = MemoryOutlook(None, ())
    assert verdict_of(make_proposal(after=900 * MIB), make_situation(memory=short)) == "approve irreversible"


def test_memory_knobs_are_known_by_name_or_by_their_outlook():
    """work_mem needs an outlook; another knob only where one is given."""
    work_mem = replace(SPEED, name="work_mem")
    assert verdict_of(*make_change(work_mem, 400.0, 500.0)) == "refuse memory"
    assert verdict_of(*make_change(work_mem, 400.0, 500.0, memory=ENOUGH_MEMORY)) == "allow"
    full = MemoryOutlook(1.0, (("pools", 2.0),))
    assert verdict_of(*make_change(SPEED, 400.0, 500.0, memory=full)) == "refuse memory"


def test_a_refusal_for_memory_shows_its_sum():
    """The reason holds each part, the sum, and what is allowed."""
    parts = (("data", 8.0 * GIB), ("copied on write while it saves", 8.0 * GIB), ("others", 1.0 * GIB))
    reason = decide(make_proposal(), make_situation(memory=MemoryOutlook(16.0 * GIB, parts)), LIMITS).reason
    assert reason == (
        "8.0 GiB data + 8.0 GiB copied on write while it saves + 1.0 GiB others = 17.0 GiB, "
        "over 85% of 16.0 GiB (13.6 GiB); raise maxmemory of cache-1 by less, or raise the limit"
    )


HELD = replace(STABLE, max_value=300.0)
REDUCTIONS = [
    ("stood for the hold, to the most asked for", 300.0, {"stability": HELD}, "allow"),
    ("below the most asked for", 300.0, {"stability": replace(HELD, max_value=301.0)}, "refuse reducing"),
    ("most unknown", 300.0, {"stability": replace(HELD, max_value=None)}, "refuse reducing"),
    ("not for the whole hold", 300.0, {"stability": replace(HELD, since_s=299.0)}, "refuse reducing"),
    ("growing needs no hold", 500.0, {"stability": replace(HELD, since_s=200.0, max_value=900.0)}, "allow"),
    ("a figure is missing", 300.0, {"inputs": replace(GOOD_INPUTS, missing=1)}, "refuse reducing"),
    ("figures of a person's own", 300.0, {"inputs": None}, "refuse freshness"),
]  # fmt: skip


@pytest.mark.parametrize(("after", "changed", "word"), named_cases(REDUCTIONS))
def test_reduction(after, changed, word):
    """Taking away needs every figure, and goes no lower than the most of five minutes."""
    assert verdict_of(*make_change(SPEED, 400.0, after, **{"stability": HELD, **changed})) == word


def restart(**changed):
    """A restart of cache-1 in that situation."""
    action = replace(RESTART, **changed.pop("action", {}))
    proposal = make_proposal(subject=action.name, is_action=True, before=None, after=None)
    return proposal, make_situation(knob=None, action=action, reading=None, **changed)


def test_an_action_has_no_value_but_keeps_every_other_row():
    """What a tool is told to do passes the rows that do not ask for values."""
    assert verdict_of(*restart()) == "allow"
    assert verdict_of(*restart(mode=Mode.RECOMMEND)) == "approve mode"
    assert verdict_of(*restart(inputs=replace(GOOD_INPUTS, source_up=False))) == "refuse freshness"
    proposal, situation = restart()
    assert verdict_of(proposal, replace(situation, action=None)) == "refuse subject"


def test_an_action_that_takes_away_is_held_like_a_reduction():
    """It was proposed for the hold, and has all its figures."""
    reduces = {"reduces": True}
    assert verdict_of(*restart(action=reduces)) == "allow"
    assert verdict_of(*restart(action=reduces, stability=replace(STABLE, since_s=299.0))) == "refuse reducing"
    assert verdict_of(*restart(action=reduces, inputs=replace(GOOD_INPUTS, missing=1))) == "refuse reducing"


WARMINGS = [
    ("gentle", WarmingLoad(10.0, 200.0, 0.0), "allow"),
    ("over 10 a second", WarmingLoad(10.1, 1000.0, 0.0), "refuse cache warming"),
    ("5 % of its origin", WarmingLoad(5.0, 100.0, 0.0), "allow"),
    ("over 5 % of its origin", WarmingLoad(5.1, 100.0, 0.0), "refuse cache warming"),
    ("errors", WarmingLoad(1.0, 100.0, 0.01), "refuse cache warming"),
    ("fewer errors", WarmingLoad(1.0, 100.0, 0.009), "allow"),
    ("nothing known", None, "refuse cache warming"),
    ("pace unknown", WarmingLoad(None, 100.0, 0.0), "refuse cache warming"),
    ("origin unknown", WarmingLoad(1.0, None, 0.0), "refuse cache warming"),
    ("errors unknown", WarmingLoad(1.0, 100.0, None), "refuse cache warming"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "word"), named_cases(WARMINGS))
def test_warming(facts, word):
    """A cache is warmed so that its origin does not feel it."""
    assert verdict_of(*restart(action={"name": "warm_keys"}, warming=facts)) == word
