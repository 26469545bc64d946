"""Scaling policies: the reactive rule, the forecast's safeguards, and the gain on a replayed load."""

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
    """Return a load by tick with a daily wave between 60 and 180, and noise."""
    t = np.arange(round(days * DAY))
    wave = 120.0 - 60.0 * np.cos(2 * np.pi * t / DAY)
    return wave + np.random.default_rng(seed).normal(0.0, noise, len(t))


@pytest.fixture(scope="module")
def history():
    """Three days of load that end at midnight, where the load is lowest."""
    return day_wave()


@pytest.mark.parametrize(
    ("load", "total", "wanted"),
    [
        (28.0, 4, 4),  # at the target
        (30.7, 4, 4),  # just under 10 % over: within the tolerance
        (31.0, 4, 5),  # over the tolerance
        (25.3, 4, 4),  # 10 % under
        (24.0, 4, 4),  # a decrease waits for the window
        (500.0, 3, 7),  # at most 4 more at once ...
        (500.0, 10, 20),  # ... or twice as many
        (900.0, 40, 50),  # at most max_replicas
        (math.nan, 4, 4),  # unknown changes nothing
    ],
)
def test_reactive_policy(load, total, wanted):
    """Tolerance, largest step and bounds are those of a HorizontalPodAutoscaler."""
    reactive_result = ReactivePolicy(SIZING, TICK_S)
    reactive_result.want(0, total * 7.0, total, total)
    assert reactive_result.want(1, load, total, total) == wanted


def test_reactive_policy_scales_down_after_its_window():
    """The count decreases once nothing higher was wanted for five minutes."""
    reactive_result = ReactivePolicy(SIZING, TICK_S)
    wanted = [reactive_result.want(t, 70.0 if t == 0 else 28.0, 10, 10) for t in range(25)]
    assert wanted[:20] == [10] * 20
    assert wanted[20:] == [4] * 5


def test_starting_replicas_count_as_ordered():
    """Starting replicas are not ordered again and do not make an overload look idle."""
    reactive_result = ReactivePolicy(SIZING, TICK_S)
    assert reactive_result.want(0, 40.0, 4, 8) == 8


def test_without_history_it_equals_the_reactive_policy(history):
    """Without a forecast the predictive policy gives the reactive policy's count at every tick."""
    reactive, predictive = ReactivePolicy(SIZING, TICK_S), PredictivePolicy(SIZING, np.empty(0), TICK_S)
    total = 10
    for t, load in enumerate(history[:400]):
        wanted = predictive.want(t, load, total, total)
        assert wanted == reactive.want(t, load, total, total)
        assert predictive.last.ahead is None
        total = wanted


def test_utilisation_stays_within_the_tolerance(history):
    """Whatever the forecast, utilisation of all ordered replicas stays within the reactive tolerance."""
    made = PredictivePolicy(SIZING, history, TICK_S)
    total = 9
    for t, load in enumerate(np.concatenate([history[:600], np.full(60, 130.0), history[600:700]])):
        total = made.want(t, load, total, total)
        assert total * 10.0 * 0.7 * 1.1 >= load - 1e-9


def test_it_scales_before_a_daily_load_step():
    """Before a daily load step the predictive policy orders replicas and the reactive one does not."""
    t = np.arange(5 * DAY)
    jumps = np.interp(t % DAY, [0, 1430, 1450, 1680, 1700, DAY], [60.0, 60.0, 140.0, 140.0, 60.0, 60.0])
    jumps = jumps + np.random.default_rng(2).normal(0.0, 1.0, len(t))
    made, reactive = PredictivePolicy(SIZING, jumps[: 4 * DAY], TICK_S), ReactivePolicy(SIZING, TICK_S)
    before = {}
    for name, scaling_policy in (("made", made), ("alone", reactive)):
        total = 9
        for t, load in enumerate(jumps[4 * DAY : 4 * DAY + 1428]):
            total = scaling_policy.want(t, load, total, total)
        before[name] = total
    assert before["alone"] <= 9
    assert before["made"] >= 12
    assert made.last.why == "forecast"


def test_a_sudden_zero_keeps_the_count(history):
    """A load that is never zero and reads zero keeps the count."""
    made = PredictivePolicy(SIZING, history, TICK_S)
    total = made.want(0, 70.0, 9, 9)
    assert [made.want(t, 0.0, total, total) for t in range(1, 60)] == [total] * 59
    assert made.last.why == "hold"


def test_a_usual_zero_scales_down(history):
    """Where zeros are usual, a zero scales down to min_replicas."""
    resting = np.where(np.arange(len(history)) % DAY < DAY // 3, 0.0, history)
    made = PredictivePolicy(SIZING, resting, TICK_S)
    total = 9
    for t in range(60):
        total = made.want(t, 0.0, total, total)
    assert total == SIZING.min_replicas


def test_an_unknown_load_keeps_the_count(history):
    """A NaN load keeps the count, and later ticks continue from the last known value."""
    made = PredictivePolicy(SIZING, history, TICK_S)
    made.want(0, 70.0, 9, 9)
    assert [made.want(t, math.nan, 9, 9) for t in (1, 2, 3)] == [9, 9, 9]
    assert made.want(9, 65.0, 9, 9) > 0
    assert made.last.why != "hold"


def test_it_does_not_use_future_values(history):
    """The count wanted at a tick does not depend on later loads."""
    later = {}
    for name, tail in (("calm", history[:50]), ("storm", history[:50] * 9.0)):
        made = PredictivePolicy(SIZING, history, TICK_S)
        loads = [*history[:200], *tail]
        later[name] = [made.want(t, load, 9, 9) for t, load in enumerate(loads)]
    assert later["calm"][:200] == later["storm"][:200]
    assert later["calm"] != later["storm"]


def test_it_beats_the_reactive_policy_at_no_higher_cost():
    """On a bursty load it leaves less unserved than the reactive policy at no higher cost."""
    load = bursty_load(seed=11, days=8)
    start = 6 * DAY
    history = pd.DataFrame({"y": load[:start:4]})
    sizing = Sizing(float(np.quantile(load, 0.999)) / 28.0, 180.0, min_replicas=2, max_replicas=400)
    made = policy(
        history, 60.0, sizing.capacity, 180.0, target_utilisation=0.7, min_replicas=2, max_replicas=400,
        tick_s=TICK_S,
    )  # fmt: skip
    predictive_result = replay(load[start:], sizing, made)
    costlier_sizing = replace(sizing, target_utilisation=0.76)
    reactive_result = replay(load[start:], costlier_sizing, ReactivePolicy(costlier_sizing, TICK_S))
    assert predictive_result.unserved < 0.7 * reactive_result.unserved
    assert predictive_result.replica_minutes <= reactive_result.replica_minutes


def test_as_observed_holds_no_later_value():
    """A recorded value appears no earlier than at its own tick."""
    values = np.array([1.0, 1.0, 1.0, 9.0, 9.0])
    assert as_observed(values, 60.0, 15.0)[:9].tolist() == [1.0] * 9
