"""Weighted median of forecasters."""

import numpy as np

from trimtab.models.contracts import Panel
from trimtab.models.forecasters.median import Median


class FakeConstantForecaster:
    """Forecasts one number, or NaN."""

    def __init__(self, value):
        self.value = value

    def fit(self, panel):
        """Learn nothing."""

    def predict(self, panel, horizon, quantiles):
        """Return the number everywhere."""
        return np.full((len(quantiles), horizon, panel.y.shape[1]), self.value)


PANEL = Panel(np.ones((48, 1)), np.zeros(1, np.int64), 3600.0, np.zeros(1, bool))


def median_of(values, votes=None):
    """Return the median forecast of members with these constant forecasts."""
    members = {f"m{k}": FakeConstantForecaster(value) for k, value in enumerate(values)}
    return float(Median(members, votes).predict(PANEL, 2, (0.5,))[0, 0, 0])


def test_median_ignores_unknown_members():
    """The median is the middle value or the mean of two; NaN members are left out."""
    assert median_of([1.0, 9.0, 2.0]) == 2.0
    assert median_of([1.0, np.nan, 2.0]) == 1.5
    assert np.isnan(median_of([np.nan, np.nan]))


def test_votes_are_weights():
    """A member with a majority decides where it has a forecast, the others elsewhere."""
    assert median_of([1.0, 2.0, 9.0], {"m2": 3}) == 9.0
    assert median_of([1.0, 2.0, np.nan], {"m2": 3}) == 1.5


def test_non_negative_series_have_no_negative_forecast():
    """A non-negative series has no negative forecast."""
    floor = Panel(PANEL.y, PANEL.end, PANEL.step_s, np.ones(1, bool))
    assert Median({"a": FakeConstantForecaster(-3.0)}).predict(floor, 2, (0.5,)).max() == 0.0
    assert median_of([-3.0]) == -3.0


class FakeCountingForecaster(FakeConstantForecaster):
    """Forecasts one number and counts the series that it forecasts."""

    series_asked = 0

    def predict(self, panel, horizon, quantiles):
        """Return the number everywhere."""
        self.series_asked += panel.y.shape[1]
        return super().predict(panel, horizon, quantiles)


class FakePartialForecaster(FakeCountingForecaster):
    """Forecasts no series that ends at 0."""

    def predict(self, panel, horizon, quantiles):
        """Return the number, NaN for series that end at 0."""
        return np.where(panel.y[-1] == 0, np.nan, super().predict(panel, horizon, quantiles))


def test_other_members_run_only_where_the_majority_member_has_no_forecast():
    """The other members forecast only the series that the majority member leaves out."""
    values = np.ones((48, 3))
    values[-1, 1] = 0.0
    panel = Panel(values, np.zeros(3, np.int64), 3600.0, np.zeros(3, bool))
    most, few = FakePartialForecaster(9.0), FakeCountingForecaster(2.0)
    median = Median({"few": few, "other": FakeConstantForecaster(1.0), "most": most}, {"most": 3}).predict(
        panel, 2, (0.5,)
    )
    assert median[0, 0].tolist() == [9.0, 1.5, 9.0]
    assert (most.series_asked, few.series_asked) == (3, 1)
