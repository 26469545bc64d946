"""Load forecast: the compiled walk against its plain-Python twin."""

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
    """Return the mean of the values first..last that exist."""
    values = x[max(0, first) : max(0, last + 1)]
    return mean(values) if values else math.nan


def plain_usual(x, tick, width, days):
    """Return the median over earlier days of the mean around the same time."""
    means = [
        plain_window_mean(x, tick - d * TICKS_PER_DAY - width, tick - d * TICKS_PER_DAY + width)
        for d in range(1, days + 1)
    ]
    known = [value for value in means if not math.isnan(value)]
    return median(known) if known else math.nan


def to_ticks(seconds):
    """Convert seconds to ticks like the class."""
    return [max(1, round(value / TICK_S)) for value in seconds]


def plain_shape_features(x, moves, means, widths):
    """Return the shape features at the newest value of x."""
    i = len(x) - 1
    features = [x[i] - x[max(0, i - back)] for back in moves]
    features += [x[i] - plain_window_mean(x, i - back, i) for back in means]
    features += [
        plain_usual(x, i + HORIZON_TICKS, widths[0], 7) - plain_usual(x, i, widths[0], 7),
        plain_usual(x, i + HORIZON_TICKS, widths[1], 7) - plain_usual(x, i, widths[1], 7),
        plain_usual(x, i + HORIZON_TICKS, widths[1], 1) - plain_usual(x, i, widths[1], 1),
        plain_usual(x, i + HORIZON_TICKS, widths[0], 7) - x[i],
    ]
    return [0.0 if math.isnan(feature) else feature for feature in features]


def plain_forecast(x, weights, spread_weights):
    """Return (expected, upper) at the last value of x."""
    moves, means, widths = to_ticks(CHANGE_LAGS_S), to_ticks(MEAN_WINDOWS_S), to_ticks(DAY_HALF_WIDTHS_S)
    rates = [1.0 - math.exp(-TICK_S / value) for value in ERROR_MEMORIES_S]
    regression, expected, errors, recent = [], [], [], [0.0] * 6
    for i in range(len(x)):
        known = x[: i + 1]
        regression.append(
            x[i]
            + sum(
                a * b for a, b in zip(plain_shape_features(known, moves, means, widths), weights, strict=True)
            )
        )
        errors.append(0.0)
        if i >= HORIZON_TICKS:
            errors[i] = abs(x[i] - expected[i - HORIZON_TICKS])
            recent[0] += rates[0] * (abs(x[i] - regression[i - HORIZON_TICKS]) - recent[0])
            recent[1] += rates[0] * (abs(x[i] - x[i - HORIZON_TICKS]) - recent[1])
            for j in range(4):
                recent[2 + j] += rates[1 + j] * (errors[i] - recent[2 + j])
        a, b = recent[0] ** 4, recent[1] ** 4
        trust = b / (a + b) if a + b > 0.0 else 0.5
        expected.append(trust * regression[i] + (1.0 - trust) * x[i])
    i, now = len(x) - 1, expected[-1]
    days = [
        plain_window_mean(
            errors,
            i + HORIZON_TICKS - d * TICKS_PER_DAY - widths[0],
            i + HORIZON_TICKS - d * TICKS_PER_DAY + widths[0],
        )
        for d in range(1, 8)
    ]
    days = [value for value in days if not math.isnan(value)]
    spreads = [
        *recent[2:], mean(days) if days else 0.0, 0.05 * abs(now), 0.05 * math.sqrt(abs(now) * abs(mean(x))),
        abs(x[i] - now), abs(x[i] - plain_window_mean(x, i - 2 * means[0], i)),
    ]  # fmt: skip
    return now, now + sum(a * b for a, b in zip(spreads, spread_weights, strict=True))


@pytest.mark.parametrize("level", [0.0, 7.0, 1e9])
def test_constant_load_is_forecast_to_stay(level):
    """A constant load of any size is forecast to stay constant."""
    ahead = LoadAhead(TICK_S, (HORIZON_TICKS * TICK_S,), 0.95)
    ahead.fit(np.full(3 * TICKS_PER_DAY, level))
    assert ahead.step(level)[0] == pytest.approx(level, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("days", [1, 3, 9])
def test_walk_forward_equals_its_plain_twin(days):
    """Expected load and upper quantile equal those of the plain twin, also after live ticks."""
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
