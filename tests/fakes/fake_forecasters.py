"""Fake forecasters: seasonal naive, a more accurate one, and faulty ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trimtab.models.contracts import Floats, Panel, State


class FakeSeasonalNaive:
    """Seasonal naive over a day, or the last value below a day of history.

    spread_factor : spread as a multiple of the mean absolute error in the history
    bias          : offset of every forecast, in the series' unit
    pad           : number of extra values in the state, to change its size
    """

    def __init__(self, spread_factor: float = 1.0, bias: float = 0.0, pad: int = 0) -> None:
        self.spread_factor, self.bias, self.pad = spread_factor, bias, pad
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
        spread = self.spread_factor * np.nan_to_num(np.nanmean(errors, axis=0)) if len(errors) else 0.0
        offsets = (np.asarray(quantiles) - 0.5)[:, None, None] * 4.4
        ahead: Floats = middle[None] + offsets * np.broadcast_to(spread, middle.shape)[None]
        return ahead

    def state(self) -> State:
        return {"fitted": self.fitted.copy()}

    def restore(self, state: State) -> None:
        self.fitted = np.asarray(state["fitted"], np.float64)


class FakeUnknownForecaster(FakeSeasonalNaive):
    """A forecaster that returns NaN for every series."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        return np.full((len(quantiles), horizon, panel.y.shape[1]), np.nan)


class FakeFailingForecaster(FakeSeasonalNaive):
    """A forecaster that can be fitted and restored, but raises in `predict`."""

    def predict(self, *_: object) -> Floats:
        raise RuntimeError("the fake forecaster fails")


class FakeShortForecaster(FakeSeasonalNaive):
    """A forecaster that returns one row for any horizon."""

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        assert horizon > 1
        return super().predict(panel, 1, quantiles)


class FakeDailyMeanForecaster(FakeSeasonalNaive):
    """Mean of the previous days; more accurate than seasonal naive on noisy series."""

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
    "worse": lambda **parameters: FakeSeasonalNaive(bias=50.0, **parameters),
}


def make_forecaster(name: str, **parameters):
    """Create a fake by name, like `models.catalogue.forecaster`."""
    return FAKE_FORECASTERS[name](**parameters)
