"""The compiled walk over a load against the same with one Python float at a time."""

import math
from statistics import mean, median

import numpy as np
import pytest

from trimtab.models.scaling.load_ahead import (
    CHANGE_LAGS_S,
    DAY_HALF_WIDTHS_S,
    ERROR_MEMORIES_S,
    MEAN_WINDOWS_S,
    LoadAhead,
)

TICK_S, HORIZON_TICKS = 600.0, 3
TICKS_PER_DAY = 144


def plain_window_mean(x, first, last):
    """Mean of what is there of first..last."""
    there = x[max(0, first) : max(0, last + 1)]
    return mean(there) if there else math.nan


def plain_usual(x, at, width, days):
    """Median over earlier days of the mean around that time."""
    means = [
        plain_window_mean(x, at - d * TICKS_PER_DAY - width, at - d * TICKS_PER_DAY + width)
        for d in range(1, days + 1)
    ]
    known = [one for one in means if not math.isnan(one)]
    return median(known) if known else math.nan


def to_ticks(seconds):
    """As the class rounds them."""
    return [max(1, round(one / TICK_S)) for one in seconds]


def plain_shape_features(x, moves, means, widths):
    """What the newest of x is seen to do."""
    i = len(x) - 1
    rows = [x[i] - x[max(0, i - back)] for back in moves]
    rows += [x[i] - plain_window_mean(x, i - back, i) for back in means]
    rows += [
        plain_usual(x, i + HORIZON_TICKS, widths[0], 7) - plain_usual(x, i, widths[0], 7),
        plain_usual(x, i + HORIZON_TICKS, widths[1], 7) - plain_usual(x, i, widths[1], 7),
        plain_usual(x, i + HORIZON_TICKS, widths[1], 1) - plain_usual(x, i, widths[1], 1),
        plain_usual(x, i + HORIZON_TICKS, widths[0], 7) - x[i],
    ]
    return [0.0 if math.isnan(one) else one for one in rows]


def plain_forecast(x, weights, spread_weights):
    """(likely, high) at the last value of x."""
    moves, means, widths = to_ticks(CHANGE_LAGS_S), to_ticks(MEAN_WINDOWS_S), to_ticks(DAY_HALF_WIDTHS_S)
    paces = [1.0 - math.exp(-TICK_S / one) for one in ERROR_MEMORIES_S]
    drawn, likely, misses, recent = [], [], [], [0.0] * 6
    for i in range(len(x)):
        known = x[: i + 1]
        drawn.append(
            x[i]
            + sum(
                a * b for a, b in zip(plain_shape_features(known, moves, means, widths), weights, strict=True)
            )
        )
        misses.append(0.0)
        if i >= HORIZON_TICKS:
            misses[i] = abs(x[i] - likely[i - HORIZON_TICKS])
            recent[0] += paces[0] * (abs(x[i] - drawn[i - HORIZON_TICKS]) - recent[0])
            recent[1] += paces[0] * (abs(x[i] - x[i - HORIZON_TICKS]) - recent[1])
            for j in range(4):
                recent[2 + j] += paces[1 + j] * (misses[i] - recent[2 + j])
        a, b = recent[0] ** 4, recent[1] ** 4
        trust = b / (a + b) if a + b > 0.0 else 0.5
        likely.append(trust * drawn[i] + (1.0 - trust) * x[i])
    i, now = len(x) - 1, likely[-1]
    days = [
        plain_window_mean(
            misses,
            i + HORIZON_TICKS - d * TICKS_PER_DAY - widths[0],
            i + HORIZON_TICKS - d * TICKS_PER_DAY + widths[0],
        )
        for d in range(1, 8)
    ]
    days = [one for one in days if not math.isnan(one)]
    spreads = [
        *recent[2:], mean(days) if days else 0.0, 0.05 * abs(now), 0.05 * math.sqrt(abs(now) * abs(mean(x))),
        abs(x[i] - now), abs(x[i] - plain_window_mean(x, i - 2 * means[0], i)),
    ]  # fmt: skip
    return now, now + sum(a * b for a, b in zip(spreads, spread_weights, strict=True))


@pytest.mark.parametrize("level", [0.0, 7.0, 1e9])
def test_a_load_that_never_moves(level):
    """It is expected to stay where it is, at any size, with next to nothing above it."""
    ahead = LoadAhead(TICK_S, (HORIZON_TICKS * TICK_S,), 0.95)
    ahead.fit(np.full(3 * TICKS_PER_DAY, level))
    assert ahead.step(level)[0] == pytest.approx(level, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("days", [1, 3, 9])
def test_the_walk_equals_its_plain_twin(days):
    """What is likely and what the load stays below are the same to the last digits, also after live ticks."""
    rng = np.random.default_rng(days)
    t = np.arange(days * TICKS_PER_DAY + 40)
    load = 50.0 + 20.0 * np.sin(2 * np.pi * t / TICKS_PER_DAY) + rng.gamma(2.0, 3.0, len(t))
    ahead = LoadAhead(TICK_S, (HORIZON_TICKS * TICK_S,), 0.95)
    ahead.fit(load[:-20])
    for x in load[-20:]:
        high = ahead.step(float(x))
    one = ahead._horizons[0]
    likely, above = plain_forecast(load.tolist(), one._weights.tolist(), one._spread_weights.tolist())
    assert ahead.expected()[0] == pytest.approx(likely, rel=1e-9)
    assert high[0] == pytest.approx(above, rel=1e-9)
