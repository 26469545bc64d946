"""Stored one-hour-ahead forecasts."""

import numpy as np
import pytest

from trimtab.pipelines.io.stored_forecasts import QUANTILES, StoredForecasts
from trimtab.pipelines.serving.past_forecasts import (
    MIN_ROWS,
    SHOWN_QUANTILES,
    read_past_forecasts,
    record_forecasts,
)

MINUTE = 60_000_000_000
T0 = 1_767_225_600_000_000_000


def make_forecasts(minute, names=("a", "b"), step_s=300.0, rows=24, level=0.0):
    """Return a forecast made at that minute: quantile q of row i of series k is 1000 k + 10 i + q + level."""
    k, i, q = np.arange(len(names)), np.arange(rows), np.array(QUANTILES)
    values = 1000.0 * k[None, None, :] + 10.0 * i[None, :, None] + q[:, None, None] + level
    end = np.full(len(names), T0 + minute * MINUTE)
    return StoredForecasts(names, end, step_s, values, np.full(len(names), 9e5), "load", "1")


@pytest.mark.parametrize(
    ("step_s", "rows", "row", "lead_s"),
    [
        (300.0, 24, 11, 3600.0),  # an hour is the 12th row
        (300.0, 6, 5, 1800.0),  # a shorter horizon: its last row
        (7200.0, 3, 0, 7200.0),  # a longer step: its first row
    ],
)
def test_row_one_hour_ahead_is_stored(tmp_path, step_s, rows, row, lead_s):
    """Of each forecast the row one hour ahead is stored with the time it is for."""
    record_forecasts(tmp_path / "b", make_forecasts(0, step_s=step_s, rows=rows))
    past = read_past_forecasts(tmp_path / "b", "b")
    assert past.lead_s == lead_s
    assert past.time.tolist() == [T0 + int(lead_s * 1e9)]
    np.testing.assert_allclose(past.values[:, 0], [1000.0 + 10 * row + q for q in SHOWN_QUANTILES], rtol=1e-6)


def test_repeated_forecast_replaces_the_previous_one(tmp_path):
    """Forecasts within one step replace each other; a newer sample adds a row."""
    for minute, level in ((0, 0.0), (0, 5.0), (5, 0.0)):
        record_forecasts(tmp_path / "b", make_forecasts(minute, level=level))
    past = read_past_forecasts(tmp_path / "b", "a")
    assert np.diff(past.time).tolist() == [5 * MINUTE]
    np.testing.assert_allclose(past.values[1], [115.5, 110.5])


def test_series_are_added_and_removed(tmp_path):
    """A new series has no earlier rows, a remaining one keeps its rows, and an unknown one has none."""
    record_forecasts(tmp_path / "b", make_forecasts(0))
    record_forecasts(tmp_path / "b", make_forecasts(5, names=("c", "b")))
    assert len(read_past_forecasts(tmp_path / "b", "c").time) == 1
    np.testing.assert_allclose(read_past_forecasts(tmp_path / "b", "b").values[1], [1110.5, 1110.5])
    assert read_past_forecasts(tmp_path / "b", "a") is None
    assert read_past_forecasts(tmp_path / "none", "a") is None


def test_retention_is_a_day_or_less_with_many_series(tmp_path, monkeypatch):
    """Rows older than a day are removed, and more rows with many series."""
    for minute in range(0, 40 * 60, 60):
        record_forecasts(tmp_path / "b", make_forecasts(minute, step_s=3600.0))
    assert len(read_past_forecasts(tmp_path / "b", "a").time) == 24
    monkeypatch.setattr("trimtab.pipelines.serving.past_forecasts.MAX_CELLS", 10)
    record_forecasts(tmp_path / "b", make_forecasts(40 * 60, step_s=3600.0))
    assert len(read_past_forecasts(tmp_path / "b", "a").time) == MIN_ROWS


def test_unreadable_file_is_replaced(tmp_path):
    """A truncated file reads as None, and the next forecast replaces it."""
    record_forecasts(tmp_path / "b", make_forecasts(0))
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[:40])
    assert read_past_forecasts(tmp_path / "b", "a") is None
    record_forecasts(tmp_path / "b", make_forecasts(5))
    assert len(read_past_forecasts(tmp_path / "b", "a").time) == 1
