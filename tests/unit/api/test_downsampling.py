"""Downsampling of score rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.series import tick_scores
from tests.fakes.ports import FakeScoreLog
from trimtab.engine.api import downsampling
from trimtab.engine.types import ScoreRows, SeriesKey


def make_rows(values, scores, times=None):
    """Return rows with these values and scores."""
    n = len(values)
    times = np.arange(n, dtype=np.int64) if times is None else np.asarray(times, np.int64)
    rest = (np.full(n, np.nan) for _ in range(3))
    return ScoreRows(times, np.asarray(values, float), np.asarray(scores, float), *rest)


@given(
    st.lists(st.tuples(st.floats(-9, 9) | st.just(float("nan")), st.floats(0, 3)), min_size=1, max_size=300),
    st.integers(10, 100),
)
def test_extremes_stay_and_the_limit_holds(pairs, points):
    """At most `points` rows remain, in order, including the extremes and the last row."""
    before = make_rows(*zip(*pairs, strict=True))
    after = downsampling.downsample(before, points)
    assert len(after.times) <= points
    assert (np.diff(after.times) > 0).all()
    assert after.times[-1] == before.times[-1]
    assert after.anomaly_score.max() == before.anomaly_score.max()
    if not np.isnan(before.value).all():
        assert np.nanmax(after.value) == np.nanmax(before.value)
        assert np.nanmin(after.value) == np.nanmin(before.value)


def test_rows_within_the_limit_are_unchanged():
    """Rows within the limit are returned unchanged."""
    before = make_rows([1.0, np.nan, 3.0], [0.0, 0.0, 0.0])
    assert downsampling.downsample(before, 10) is before


def test_rows_on_both_sides_of_a_gap_remain():
    """Rows before and after a long gap both remain."""
    times = np.concatenate([np.arange(500), np.arange(500) + 10**9])
    after = downsampling.downsample(make_rows(np.sin(times), np.zeros(1000), times), 40)
    assert (after.times < 1000).any()
    assert (after.times > 1000).any()


@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 1000])
def test_reading_in_chunks_keeps_extremes(monkeypatch, n):
    """The extremes and the last row remain, for any number of chunks."""
    monkeypatch.setattr(downsampling, "CHUNK_ROWS", 100)
    log, key = FakeScoreLog(), SeriesKey.of("host", "cpu")
    values = np.random.default_rng(n).normal(size=n)
    for time, value in enumerate(values):
        log.append([key], tick_scores("host", time, [value]))
    rows = downsampling.read_downsampled(log, key.id, 0, 10**9, 50)
    assert len(rows.times) == n if n <= 50 else len(rows.times) <= 50
    if n:
        assert rows.value.max() == values.max()
        assert rows.value.min() == values.min()
        assert rows.times[-1] == n - 1
