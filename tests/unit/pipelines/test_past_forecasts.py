"""What had been forecast an hour before, as it is kept for the page of a series."""

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


def ahead(minute, names=("a", "b"), step_s=300.0, rows=24, level=0.0):
    """A forecast made at that minute: quantile q of row i of series k is 1000 k + 10 i + q + level."""
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
def test_the_row_an_hour_ahead_is_kept(tmp_path, step_s, rows, row, lead_s):
    """Of each forecast the row an hour ahead stays, at the time for which it was made."""
    record_forecasts(tmp_path / "b", ahead(0, step_s=step_s, rows=rows))
    kept = read_past_forecasts(tmp_path / "b", "b")
    assert kept.lead_s == lead_s
    assert kept.time.tolist() == [T0 + int(lead_s * 1e9)]
    np.testing.assert_allclose(kept.values[:, 0], [1000.0 + 10 * row + q for q in SHOWN_QUANTILES], rtol=1e-6)


def test_a_forecast_made_again_takes_the_place_of_the_one_before(tmp_path):
    """Refreshes between two steps keep one row a step, the newest; a newer sample begins another."""
    for minute, level in ((0, 0.0), (0, 5.0), (5, 0.0)):
        record_forecasts(tmp_path / "b", ahead(minute, level=level))
    kept = read_past_forecasts(tmp_path / "b", "a")
    assert np.diff(kept.time).tolist() == [5 * MINUTE]
    np.testing.assert_allclose(kept.values[1], [115.5, 110.5])


def test_series_come_and_go(tmp_path):
    """A series that is new has no rows of before it; one that stays keeps its own; one unknown has none."""
    record_forecasts(tmp_path / "b", ahead(0))
    record_forecasts(tmp_path / "b", ahead(5, names=("c", "b")))
    assert len(read_past_forecasts(tmp_path / "b", "c").time) == 1
    np.testing.assert_allclose(read_past_forecasts(tmp_path / "b", "b").values[1], [1110.5, 1110.5])
    assert read_past_forecasts(tmp_path / "b", "a") is None
    assert read_past_forecasts(tmp_path / "none", "a") is None


def test_a_day_is_kept_and_less_where_series_are_many(tmp_path, monkeypatch):
    """Older rows than a day go; the file stays small with many series."""
    for minute in range(0, 40 * 60, 60):
        record_forecasts(tmp_path / "b", ahead(minute, step_s=3600.0))
    assert len(read_past_forecasts(tmp_path / "b", "a").time) == 24
    monkeypatch.setattr("trimtab.pipelines.serving.past_forecasts.MAX_CELLS", 10)
    record_forecasts(tmp_path / "b", ahead(40 * 60, step_s=3600.0))
    assert len(read_past_forecasts(tmp_path / "b", "a").time) == MIN_ROWS


def test_what_cannot_be_read_is_begun_anew(tmp_path):
    """A file that is cut off is no past, and the next forecast begins one."""
    record_forecasts(tmp_path / "b", ahead(0))
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[:40])
    assert read_past_forecasts(tmp_path / "b", "a") is None
    record_forecasts(tmp_path / "b", ahead(5))
    assert len(read_past_forecasts(tmp_path / "b", "a").time) == 1
