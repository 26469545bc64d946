"""A forecaster of the tests' own: yesterday again, with its past errors; and broken ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trimtab.models.contracts import Floats, Panel, State


class FakeSeasonalNaive:
    """Seasonal naive over a day, or the last value; spread by its own errors times `wide`.

    better : share of the way to the truth of the last day's mean, so that models differ in skill
    """

    def __init__(self, wide: float = 1.0, bias: float = 0.0, pad: int = 0) -> None:
        self.wide, self.bias, self.pad = wide, bias, pad
        self.fitted = np.zeros(1)

    def fit(self, panel: Panel) -> None:
        self.fitted = np.full(1 + self.pad, float(np.isfinite(panel.y).sum()))

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        day = round(86_400 / panel.step_s)
        y, n = panel.y, panel.y.shape[0]
        lag = day if n >= day else 1
        rows = n - lag + np.arange(horizon) % lag
        middle = np.where(np.isfinite(y[rows]), y[rows], np.nanmean(y[-lag:], axis=0)) + self.bias
        errors = np.abs(y[lag:] - y[:-lag]) if n > lag else np.zeros_like(y)
        spread = self.wide * np.nan_to_num(np.nanmean(errors, axis=0)) if len(errors) else 0.0
        offsets = (np.asarray(quantiles) - 0.5)[:, None, None] * 4.4
        ahead: Floats = middle[None] + offsets * np.broadcast_to(spread, middle.shape)[None]
        return ahead

    def state(self) -> State:
        return {"fitted": self.fitted.copy()}

    def restore(self, state: State) -> None:
        self.fitted = np.asarray(state["fitted"], np.float64)


class FakeUnknownForecaster(FakeSeasonalNaive):
    """Forecasts nothing."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        return np.full((len(quantiles), horizon, panel.y.shape[1]), np.nan)


class FakeFailingForecaster(FakeSeasonalNaive):
    """Can be read and fitted, and fails at its work."""

    def predict(self, *_: object) -> Floats:
        raise RuntimeError("out of luck")


class FakeShortForecaster(FakeSeasonalNaive):
    """Forecasts one row, whatever is asked."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        assert horizon > 1
        return super().predict(panel, 1, quantiles)


class FakeDailyMeanForecaster(FakeSeasonalNaive):
    """Mean of the days before: better than yesterday alone where there is noise."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        day = round(86_400 / panel.step_s)
        n = panel.y.shape[0] // day * day
        if n < 2 * day:
            return super().predict(panel, horizon, quantiles)
        days = panel.y[-n:].reshape(-1, day, panel.y.shape[1])
        mean = np.nanmean(days, axis=0)
        return super().predict(replace(panel, y=np.concatenate([panel.y[:-day], mean])), horizon, quantiles)


FAKE_FORECASTERS = {
    "load": FakeDailyMeanForecaster,
    "seasonal_naive": FakeSeasonalNaive,
    "unknowing": FakeUnknownForecaster,
    "failing": FakeFailingForecaster,
    "short": FakeShortForecaster,
    "worse": lambda **more: FakeSeasonalNaive(bias=50.0, **more),
}


def make_forecaster(name: str, **parameters):
    """As `models.catalogue.forecaster`."""
    return FAKE_FORECASTERS[name](**parameters)
