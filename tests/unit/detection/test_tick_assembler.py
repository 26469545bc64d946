"""Assembly of ticks from readings: order, repeated and late samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.engine.detection.tick_assembler import ClosedTick, TickAssembler
from trimtab.engine.types import Reading, SeriesKey

SECOND = 1_000_000_000
A, B, C = (SeriesKey.of("x", name) for name in "abc")


def reading(at_s, samples, complete=True):
    """Return a reading at `at_s` seconds; samples: key -> (time in seconds, value)."""
    keys = tuple(samples)
    times = np.array([round(t * SECOND) for t, _ in samples.values()], np.int64)
    values = np.array([v for _, v in samples.values()], np.float64)
    return Reading(round(at_s * SECOND), keys, times, values, complete)


def content(ticks: list[ClosedTick]):
    """Return (time in seconds, is complete, key -> value without NaN) of each tick."""
    return [
        (
            tick.time // SECOND,
            tick.complete,
            {k: v for k, v in zip(tick.keys, tick.values, strict=True) if v == v},
        )
        for tick in ticks
    ]


def test_a_tick_is_a_multiple_of_the_interval():
    """Samples slightly early or late in their interval belong to the same tick."""
    assembler = TickAssembler(5)
    assert [assembler.tick_time(round(t * SECOND)) // SECOND for t in (8.7, 8.8, 10, 12, 13.7, 13.8)] == [
        5,
        10,
        10,
        10,
        10,
        15,
    ]


def test_tick_of_one_reading_has_the_identical_keys():
    """A tick of a single reading has the identical tuple of keys."""
    assembler = TickAssembler(5)
    single = reading(10.1, {A: (10.1, 1.0), B: (10.1, float("nan"))})
    assembler.add(single)
    (tick,) = assembler.close(10 * SECOND)
    assert tick.keys is single.keys
    assert tick.complete
    assert tick.values[0] == 1.0
    assert np.isnan(tick.values[1])


def test_grace_keeps_a_tick_open():
    """A tick closes when its grace window ends, not before."""
    assembler = TickAssembler(5, grace_s=2)
    assembler.add(reading(10, {A: (10, 1.0)}))
    assert assembler.close(11 * SECOND) == []
    assembler.add(reading(11, {A: (11, 2.0)}))
    assert content(assembler.close(12 * SECOND)) == [(10, True, {A: 2.0})]


def test_late_samples_are_dropped_and_counted():
    """A sample for a closed tick changes nothing and is counted."""
    assembler = TickAssembler(5)
    assembler.add(reading(10, {A: (10, 1.0)}))
    assembler.close(10 * SECOND)
    assembler.add(reading(15, {A: (9, 9.0), B: (15, 2.0)}))
    assert content(assembler.close(15 * SECOND)) == [(15, True, {B: 2.0})]
    assert assembler.late_samples == 1


def test_repeated_sample_counts_once():
    """A sample repeated in several readings counts only in the first."""
    assembler = TickAssembler(5, by_reading=True)
    keys = (A, B)

    def close_reading(at, times, values):
        assembler.add(Reading(at * SECOND, keys, np.array(times) * SECOND, np.array(values)))
        return content(assembler.close(assembler.tick_time(at * SECOND)))

    assert close_reading(10, [6, 10], [1.0, 2.0]) == [(10, True, {A: 1.0, B: 2.0})]
    assert close_reading(15, [6, 15], [1.0, 3.0]) == [(15, True, {B: 3.0})]
    assert assembler.late_samples == 0
    assert close_reading(20, [5, 20], [9.0, 4.0]) == [(20, True, {B: 4.0})]
    assert assembler.late_samples == 1
    assert close_reading(25, [21, 25], [5.0, 6.0]) == [(25, True, {A: 5.0, B: 6.0})]


def test_a_failed_read_is_an_unknown_tick():
    """A failed read gives an unknown tick unless a repeated read succeeds."""
    assembler = TickAssembler(5)
    assembler.fail(10 * SECOND)
    (tick,) = assembler.close(10 * SECOND)
    assert tick.is_unknown
    assembler.fail(15 * SECOND)
    assembler.add(reading(16, {A: (16, 1.0)}))
    (tick,) = assembler.close(15 * SECOND)
    assert not tick.is_unknown


def test_ticks_without_samples_are_absent():
    """Ticks without samples are not created."""
    assembler = TickAssembler(5)
    assembler.add(reading(10, {A: (10, 1.0)}))
    assembler.add(reading(30, {A: (30, 2.0)}))
    assert [tick.time // SECOND for tick in assembler.flush()] == [10, 30]


def test_repeated_key_has_its_latest_value():
    """A key repeated within a reading has its latest value."""
    assembler = TickAssembler(5)
    repeated_key = Reading(10 * SECOND, (A, A), np.array([9 * SECOND, 10 * SECOND]), np.array([7.0, 3.0]))
    assembler.add(repeated_key)
    assert content(assembler.flush()) == [(10, True, {A: 3.0})]


@st.composite
def streams(draw):
    """Draw readings of a minute, and the same readings repeated and delayed by up to 8 s."""
    samples = draw(
        st.lists(
            st.tuples(st.sampled_from([A, B, C]), st.integers(0, 60), st.integers(-3, 3)),
            min_size=1,
            max_size=40,
        )
    )
    first = [reading(at, {key: (at, float(value))}) for key, at, value in sorted(samples, key=lambda s: s[1])]
    repeated = first + draw(st.lists(st.sampled_from(first), max_size=20))
    delays = draw(st.lists(st.integers(0, 8), min_size=len(repeated), max_size=len(repeated)))
    arrivals = sorted(zip(repeated, delays, strict=True), key=lambda r: r[0].time // SECOND + r[1])
    return first, [(r.time + d * SECOND, r) for r, d in arrivals]


@given(streams())
def test_repeats_and_disorder_within_the_window_change_nothing(both):
    """P6: any order and repetition within the grace window gives the same ticks."""
    first, arrivals = both
    orderly, messy = TickAssembler(5, grace_s=15), TickAssembler(5, grace_s=15)
    for r in first:
        orderly.add(r)
    closed = []
    for now, r in arrivals:
        closed += messy.close(now)
        messy.add(r)
    assert messy.late_samples == 0
    assert content(closed + messy.flush()) == content(orderly.flush())


@pytest.mark.parametrize("interval", [0.1, 1, 15, 60])
def test_ticks_close_in_order_of_time(interval):
    """Ticks close in time order, oldest first."""
    assembler = TickAssembler(interval)
    for at in (7, 3, 5):
        assembler.add(reading(at * interval, {A: (at * interval, 1.0)}))
    times = [tick.time for tick in assembler.close(10**18)]
    assert times == sorted(times)
    assert len(times) == 3
