"""What a tick of the policy costs that scales ahead of load, beside the reactive rule alone."""

import time

import numpy as np
import pandas as pd
import pytest

from tests.builders.scaled_service import TICK_S, bursts
from trimtab.engine.capacity.policy import Reactive, Sizing, policy

LOAD = bursts(seed=5, days=6)
START = 5 * 5760
SIZING = Sizing(12.0, 180.0, max_replicas=400)


def run_thousand_ticks(one):
    """A thousand ticks of a day."""
    for t, load in enumerate(LOAD[START : START + 1000].tolist()):
        one.want(t, load, 20, 20)


@pytest.mark.benchmark(timer=time.process_time)
def test_a_thousand_ticks_of_the_reactive_rule(benchmark):
    """The rule alone takes less than 20 us a tick."""
    benchmark.pedantic(run_thousand_ticks, setup=lambda: ((Reactive(SIZING, TICK_S),), {}), rounds=10)
    assert benchmark.stats.stats.median < 0.02


@pytest.mark.benchmark(timer=time.process_time)
def test_a_thousand_ticks_ahead_of_load(benchmark):
    """With the forecast of three horizons a tick takes less than 0.4 ms, so four days take less than 10 s."""
    history = pd.DataFrame({"y": LOAD[:START:4]})

    def made():
        one = policy(
            history, 60.0, SIZING.capacity, SIZING.startup_s, target_utilisation=0.7, min_replicas=2,
            max_replicas=400, tick_s=TICK_S,
        )  # fmt: skip
        assert np.isfinite(one.load.upper()).all()
        return (one,), {}

    benchmark.pedantic(run_thousand_ticks, setup=made, rounds=5)
    assert benchmark.stats.stats.median < 0.4
