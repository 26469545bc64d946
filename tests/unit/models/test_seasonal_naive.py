"""Window medians of the seasonal naive forecast against their plain twin."""

import numpy as np
import pytest

from tests.plain_twins import window_median
from trimtab.models.forecasters.seasonal_naive import window_medians


@pytest.mark.parametrize(
    ("rows", "season", "half"),
    [
        (4032, 288, 6),  # two weeks of five minutes
        (288, 288, 6),  # one day: windows reach over both edges
        (30, 24, 1),  # hours
        (5, 5, 0),  # no window at all
    ],
)
def test_window_medians_equal_their_plain_twin(rows, season, half):
    """Gaps are ignored, a window without samples is NaN, and windows at the ends are shorter."""
    rng = np.random.default_rng(rows + season)
    y = rng.normal(5, 2, rows)
    y[rng.random(rows) < 0.3] = np.nan
    y[rows - season // 2 :][: 2 * half + 2] = np.nan
    at = rows - season + np.arange(season)
    plain = [window_median(y.tolist(), row, half) for row in at.tolist()]
    assert window_medians(y, at, half) == pytest.approx(plain, nan_ok=True)
    assert np.isnan(plain).any()
