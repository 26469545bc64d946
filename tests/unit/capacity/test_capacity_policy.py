"""The policy that scales ahead of load: its reactive rules, what it does not believe, what it gains."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.builders.scaled_service import TICK_S, bursty_load, replay
from trimtab.engine.capacity.policy import PredictivePolicy, ReactivePolicy, Sizing, as_observed, policy

DAY = 5760
SIZING = Sizing(10.0, 180.0, min_replicas=2, max_replicas=50)


def day_wave(days=3.0, noise=1.0, seed=3):
    """A load by tick that rises and falls once a day, between 60 and 180."""
    t = np.arange(round(days * DAY))
    wave = 120.0 - 60.0 * np.cos(2 * np.pi * t / DAY)
    return wave + np.random.default_rng(seed).normal(0.0, noise, len(t))


@pytest.fixture(scope="module")
def past():
    """Three days, ended at midnight, where the load is lowest."""
    return day_wave()


@pytest.mark.parametrize(
    ("load", "total", "wanted"),
    [
        (28.0, 4, 4),  # on target
        (30.7, 4, 4),  # just under 10 % over: within the tolerance
        (31.0, 4, 5),  # over it
        (25.3, 4, 4),  # 10 % under
        (24.0, 4, 4),  # a way down waits for the window
        (500.0, 3, 7),  # at most 4 more at once ...
        (500.0, 10, 20),  # ... or twice as many
        (900.0, 40, 50),  # no more than there may be
        (math.nan, 4, 4),  # unknown changes nothing
    ],
)
def test_the_reactive_rule(load, total, wanted):
    """Tolerance, largest step and bounds are those of a HorizontalPodAutoscaler."""
    rule = ReactivePolicy(SIZING, TICK_S)
    rule.want(0, total * 7.0, total, total)
    assert rule.want(1, load, total, total) == wanted


def test_the_reactive_rule_goes_down_after_its_window():
    """A lower load counts once nothing higher was proposed within five minutes."""
    rule = ReactivePolicy(SIZING, TICK_S)
    wanted = [rule.want(t, 70.0 if t == 0 else 28.0, 10, 10) for t in range(25)]
    assert wanted[:20] == [10] * 20
    assert wanted[20:] == [4] * 5


def test_what_starts_damps_a_step_up():
    """Replicas on their way are not ordered again, and never make an overload look idle."""
    rule = ReactivePolicy(SIZING, TICK_S)
    assert rule.want(0, 40.0, 4, 8) == 8


def test_without_a_past_it_is_the_reactive_rule(past):
    """Tick by tick the same answers as the rule alone, for as long as there is no forecast."""
    alone, ahead = ReactivePolicy(SIZING, TICK_S), PredictivePolicy(SIZING, np.empty(0), TICK_S)
    total = 10
    for t, load in enumerate(past[:400]):
        wanted = ahead.want(t, load, total, total)
        assert wanted == alone.want(t, load, total, total)
        assert ahead.last.ahead is None
        total = wanted


def test_never_fewer_than_the_reactive_rule_is_content_with(past):
    """Whatever is forecast, utilisation of all that is ordered stays within the rule's tolerance."""
    made = PredictivePolicy(SIZING, past, TICK_S)
    total = 9
    for t, load in enumerate(np.concatenate([past[:600], np.full(60, 130.0), past[600:700]])):
        total = made.want(t, load, total, total)
        assert total * 10.0 * 0.7 * 1.1 >= load - 1e-9


def test_it_orders_before_the_load_comes():
    """A load that doubles at six each day finds replicas ordered; the rule alone waits until it came."""
    t = np.arange(5 * DAY)
    jumps = np.interp(t % DAY, [0, 1430, 1450, 1680, 1700, DAY], [60.0, 60.0, 140.0, 140.0, 60.0, 60.0])
    jumps = jumps + np.random.default_rng(2).normal(0.0, 1.0, len(t))
    made, alone = PredictivePolicy(SIZING, jumps[: 4 * DAY], TICK_S), ReactivePolicy(SIZING, TICK_S)
    before = {}
    for name, one in (("made", made), ("alone", alone)):
        total = 9
        for t, load in enumerate(jumps[4 * DAY : 4 * DAY + 1428]):
            total = one.want(t, load, total, total)
        before[name] = total
    assert before["alone"] <= 9
    assert before["made"] >= 12
    assert made.last.why == "forecast"


def test_a_sudden_zero_is_not_no_load(past):
    """A load that never is zero and reads zero changes nothing, however long."""
    made = PredictivePolicy(SIZING, past, TICK_S)
    total = made.want(0, 70.0, 9, 9)
    assert [made.want(t, 0.0, total, total) for t in range(1, 60)] == [total] * 59
    assert made.last.why == "hold"


def test_a_zero_of_a_load_that_rests_is_believed(past):
    """Where nights are zero, a zero is a low load, and the count goes down to its least."""
    resting = np.where(np.arange(len(past)) % DAY < DAY // 3, 0.0, past)
    made = PredictivePolicy(SIZING, resting, TICK_S)
    total = 9
    for t in range(60):
        total = made.want(t, 0.0, total, total)
    assert total == SIZING.min_replicas


def test_an_unknown_load_changes_nothing(past):
    """NaN keeps the count, and the ticks go on afterwards as if the last value had stood."""
    made = PredictivePolicy(SIZING, past, TICK_S)
    made.want(0, 70.0, 9, 9)
    assert [made.want(t, math.nan, 9, 9) for t in (1, 2, 3)] == [9, 9, 9]
    assert made.want(9, 65.0, 9, 9) > 0
    assert made.last.why != "hold"


def test_it_looks_at_nothing_that_comes_later(past):
    """What it wants at a tick is the same whatever follows."""
    later = {}
    for name, tail in (("calm", past[:50]), ("storm", past[:50] * 9.0)):
        made = PredictivePolicy(SIZING, past, TICK_S)
        loads = [*past[:200], *tail]
        later[name] = [made.want(t, load, 9, 9) for t, load in enumerate(loads)]
    assert later["calm"][:200] == later["storm"][:200]
    assert later["calm"] != later["storm"]


def test_it_beats_the_reactive_rule_at_no_higher_cost():
    """On a seeded load with bursts: less is left unserved than by the rule, set to cost as much."""
    load = bursty_load(seed=11, days=8)
    start = 6 * DAY
    history = pd.DataFrame({"y": load[:start:4]})
    sizing = Sizing(float(np.quantile(load, 0.999)) / 28.0, 180.0, min_replicas=2, max_replicas=400)
    made = policy(
        history, 60.0, sizing.capacity, 180.0, target_utilisation=0.7, min_replicas=2, max_replicas=400,
        tick_s=TICK_S,
    )  # fmt: skip
    ours = replay(load[start:], sizing, made)
    dear = replace(sizing, target_utilisation=0.76)
    rule = replay(load[start:], dear, ReactivePolicy(dear, TICK_S))
    assert ours.unserved < 0.7 * rule.unserved
    assert ours.replica_minutes <= rule.replica_minutes


def test_as_seen_holds_no_later_value():
    """A recorded value shows up no earlier than at its own tick."""
    values = np.array([1.0, 1.0, 1.0, 9.0, 9.0])
    assert as_observed(values, 60.0, 15.0)[:9].tolist() == [1.0] * 9
