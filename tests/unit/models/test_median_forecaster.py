"""The median of forecasters."""

import numpy as np

from trimtab.models.contracts import Panel
from trimtab.models.forecasters.median import Median


class FakeConstantForecaster:
    """Says one number, or nothing."""

    def __init__(self, value):
        self.value = value

    def fit(self, panel):
        """Nothing to learn."""

    def predict(self, panel, horizon, quantiles):
        """The number everywhere."""
        return np.full((len(quantiles), horizon, panel.y.shape[1]), self.value)


PANEL = Panel(np.ones((48, 1)), np.zeros(1, np.int64), 3600.0, np.zeros(1, bool))


def median_of(values, votes=None):
    """What the median of members that say these values says."""
    members = {f"m{k}": FakeConstantForecaster(value) for k, value in enumerate(values)}
    return float(Median(members, votes).predict(PANEL, 2, (0.5,))[0, 0, 0])


def test_the_middle_of_what_is_said():
    """It is the middle one, the mean of two, and who says nothing is left out."""
    assert median_of([1.0, 9.0, 2.0]) == 2.0
    assert median_of([1.0, np.nan, 2.0]) == 1.5
    assert np.isnan(median_of([np.nan, np.nan]))


def test_votes_count():
    """A member with most of the votes decides where it speaks, and leaves the rest to the others."""
    assert median_of([1.0, 2.0, 9.0], {"m2": 3}) == 9.0
    assert median_of([1.0, 2.0, np.nan], {"m2": 3}) == 1.5


def test_zero_is_the_floor_where_the_unit_says_so():
    """A series that cannot be negative is never forecast to be."""
    floor = Panel(PANEL.y, PANEL.end, PANEL.step_s, np.ones(1, bool))
    assert Median({"a": FakeConstantForecaster(-3.0)}).predict(floor, 2, (0.5,)).max() == 0.0
    assert median_of([-3.0]) == -3.0


class FakeCountingForecaster(FakeConstantForecaster):
    """Says its number, and counts the series that it was asked for."""

    series_asked = 0

    def predict(self, panel, horizon, quantiles):
        """The number everywhere."""
        self.series_asked += panel.y.shape[1]
        return super().predict(panel, horizon, quantiles)


class FakePartialForecaster(FakeCountingForecaster):
    """Speaks of no series that ends at 0."""

    def predict(self, panel, horizon, quantiles):
        """The number, or nothing."""
        return np.where(panel.y[-1] == 0, np.nan, super().predict(panel, horizon, quantiles))


def test_others_are_asked_only_where_the_one_with_most_votes_is_silent():
    """It is the same median, series by series, and less work."""
    values = np.ones((48, 3))
    values[-1, 1] = 0.0
    panel = Panel(values, np.zeros(3, np.int64), 3600.0, np.zeros(3, bool))
    most, few = FakePartialForecaster(9.0), FakeCountingForecaster(2.0)
    said = Median({"few": few, "other": FakeConstantForecaster(1.0), "most": most}, {"most": 3}).predict(
        panel, 2, (0.5,)
    )
    assert said[0, 0].tolist() == [9.0, 1.5, 9.0]
    assert (most.series_asked, few.series_asked) == (3, 1)
