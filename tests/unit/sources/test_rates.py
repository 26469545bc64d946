"""Counters to rates, and units from metric names."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.engine.sources.rates import (
    NS,
    is_counter,
    rate_between,
    rates_of_rows,
    rates_of_runs,
    resample_to_grid,
    unit_of,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("before", "after", "elapsed_s", "rate"),
    [
        (10.0, 40.0, 15.0, 2.0),  # growth
        (10.0, 10.0, 15.0, 0.0),  # no increase is known to be 0
        (10.0, 3.0, 15.0, NAN),  # restarted
        (1e9, 1e9 - 1, 15.0, NAN),  # a decrease by a rounding error is not an increase of 1e9
        (NAN, 3.0, 15.0, NAN),  # first read
        (3.0, NAN, 15.0, NAN),  # not read now
        (10.0, 40.0, 61.0, NAN),  # the machine was suspended
        (10.0, 40.0, 0.0, NAN),  # no time elapsed
        (10.0, 40.0, -5.0, NAN),  # a clock that was set back
        (10.0, math.inf, 15.0, NAN),  # overflowed
        (math.inf, math.inf, 15.0, NAN),
    ],
)
def test_rate_between_two_readings(before, after, elapsed_s, rate):
    """A rate is increase over time, NaN where the increase is unknown."""
    got = rate_between(np.array([before]), np.array([after]), elapsed_s, max_gap_s=60.0)
    np.testing.assert_array_equal(got, [rate])


def test_rows_before_and_after_a_gap_are_unknown():
    """Neither the row before a gap (it may be repeated) nor the first after it has a rate."""
    counts = np.array([[0.0], [15.0], [30.0], [NAN], [60.0], [90.0]])
    np.testing.assert_array_equal(rates_of_rows(counts, 15.0).ravel(), [NAN, 1.0, NAN, NAN, NAN, 2.0])


def plain_rate(samples, span_s, max_gap_s):
    """The rate at the end of one run, one sample at a time."""
    newest = samples[-1][0]
    grown = elapsed = 0.0
    for (t0, v0), (t1, v1) in pairwise(samples):
        gap_s = (t1 - t0) / NS
        if t1 > newest - span_s * NS and 0 < gap_s <= max_gap_s and v1 >= v0:
            grown, elapsed = grown + v1 - v0, elapsed + gap_s
    return grown / elapsed if elapsed > 0 else NAN


runs = st.lists(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1e6)), min_size=1, max_size=6), min_size=1, max_size=5
)


@given(runs, st.sampled_from([10.0, 25.0, 100.0]), st.sampled_from([20.0, 45.0]))
def test_runs_equal_their_plain_twin(steps, span_s, max_gap_s):
    """All series at once give the same rates as one series after the other."""
    series = []
    for run in steps:
        t, samples = 0, []
        for step, value in run:
            t += step * NS
            samples.append((t, value))
        series.append(samples)
    flat = [pair for samples in series for pair in samples]
    starts = np.cumsum([0, *map(len, series)])[:-1]
    times, values = (np.array(column) for column in zip(*flat, strict=True))
    got = rates_of_runs(values, times, starts, span_s, max_gap_s)
    np.testing.assert_allclose(got, [plain_rate(s, span_s, max_gap_s) for s in series], rtol=1e-9)


@given(st.lists(st.tuples(st.integers(5, 25), st.floats(0, 1e6)), min_size=2, max_size=30))
def test_rates_over_resets_stay_within_the_neighbours(steps):
    """Over resets a rate stays within the rates between increasing neighbours."""
    t = np.cumsum([step for step, _ in steps]).astype(np.int64) * NS
    v = np.array([value for _, value in steps])
    true = [(b - a) / ((q - p) / NS) for a, b, p, q in zip(v, v[1:], t, t[1:], strict=False) if b >= a]
    got = rates_of_runs(v, t, np.array([0]), 1e6, 60.0)[0]
    assert math.isnan(got) == (not true)
    assert not true or min(true) * (1 - 1e-9) <= got <= max(true) * (1 + 1e-9)


def test_no_runs():
    """No series give no rates."""
    assert len(rates_of_runs(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64), 1, 1)) == 0


def test_grid_keeps_the_newest_value_and_the_rate_of_each_cell():
    """A cell has its newest sample and the increase that ends in it; empty cells are NaN."""
    times = np.array([1, 6, 12, 31, 2]) * NS
    level, rate = resample_to_grid(
        np.array([0.0, 10.0, 16.0, 54.0, 5.0]), times, np.array([0, 0, 0, 0, 1]),
        (4, 2), start=0, step_s=10.0, max_gap_s=30.0,
    )  # fmt: skip
    np.testing.assert_array_equal(level, [[10, 5], [16, NAN], [NAN, NAN], [54, NAN]])
    np.testing.assert_array_equal(rate, [[2, NAN], [1, NAN], [NAN, NAN], [2, NAN]])


def test_grid_ignores_samples_outside():
    """Samples outside the grid give no value, but the first rate uses the sample before it."""
    times = np.array([-5, 5, 15]) * NS
    level, rate = resample_to_grid(
        np.array([0.0, 20.0, 99.0]), times, np.zeros(3, int), (1, 1), 0, 10.0, 60.0
    )
    assert (level[0, 0], rate[0, 0]) == (20.0, 2.0)


@pytest.mark.parametrize(
    ("name", "metric_type", "counter"),
    [
        ("http_requests_total", "", True),  # by name
        ("rpc_seconds_count", "unknown", True),
        ("rpc_seconds_bucket", "", True),
        ("rpc_seconds_sum", "", True),
        ("jobs_total", "gauge", False),  # the type takes precedence over the name
        ("ticks", "counter", True),
        ("memory_bytes", "", False),
        ("connection_count", "gauge", False),
    ],
)
def test_counters_are_recognised_by_type_then_by_name(name, metric_type, counter):
    """A known type decides, else the suffix of the name."""
    assert is_counter(name, metric_type) is counter


@pytest.mark.parametrize(
    ("name", "rate", "metadata_unit", "unit"),
    [
        ("process_resident_memory_bytes", False, "", "B"),
        ("node_network_receive_bytes_total", True, "", "B/s"),
        ("node_cpu_seconds_total", True, "", "ratio"),  # seconds of CPU per second
        ("http_requests_total", True, "", "1/s"),
        ("rpc_duration_seconds", False, "", "s"),
        ("rpc_duration_seconds_count", True, "", "1/s"),  # calls, not seconds
        ("cache_hit_ratio", False, "", "ratio"),
        ("node_hwmon_temp_celsius", False, "", "°C"),
        ("energy_joules_total", True, "", "W"),
        ("queue_length", False, "", ""),
        ("latency", False, "seconds", "s"),  # unit from OpenMetrics
        ("speed", False, "furlongs", "furlongs"),
    ],
)
def test_units(name, rate, metadata_unit, unit):
    """The unit is that of the metadata, else of the suffix; a rate is per second."""
    assert unit_of(name, rate=rate, metadata_unit=metadata_unit) == unit
