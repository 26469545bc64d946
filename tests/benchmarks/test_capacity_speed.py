"""CPU time of a tick of the predictive scaling policy and of the reactive rule."""

import time

import numpy as np
import pandas as pd
import pytest

from tests.builders.scaled_service import TICK_S, bursty_load
from trimtab.engine.capacity.policy import ReactivePolicy, Sizing, policy

LOAD = bursty_load(seed=5, days=6)
START = 5 * 5760
SIZING = Sizing(12.0, 180.0, max_replicas=400)


def run_thousand_ticks(scaling_policy):
    """Run 1,000 ticks of a day."""
    for t, load in enumerate(LOAD[START : START + 1000].tolist()):
        scaling_policy.want(t, load, 20, 20)


@pytest.mark.benchmark(timer=time.process_time)
def test_reactive_rule_takes_20_us_a_tick(benchmark):
    """The reactive rule takes less than 20 us per tick."""
    benchmark.pedantic(run_thousand_ticks, setup=lambda: ((ReactivePolicy(SIZING, TICK_S),), {}), rounds=10)
    assert benchmark.stats.stats.median < 0.02


@pytest.mark.benchmark(timer=time.process_time)
def test_predictive_policy_takes_400_us_a_tick(benchmark):
    """With forecasts of three horizons a tick takes less than 0.4 ms, and four days less than 10 s."""
    history = pd.DataFrame({"y": LOAD[:START:4]})

    def make_policy():
        predictive_policy = policy(
            history, 60.0, SIZING.capacity, SIZING.startup_s, target_utilisation=0.7, min_replicas=2,
            max_replicas=400, tick_s=TICK_S,
        )  # fmt: skip
        assert np.isfinite(predictive_policy.load.upper()).all()
        return (predictive_policy,), {}

    benchmark.pedantic(run_thousand_ticks, setup=make_policy, rounds=5)
    assert benchmark.stats.stats.median < 0.4
