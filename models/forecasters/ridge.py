"""Ridge regression of each series on its lags, days and weeks, shrunk towards coefficients of all series."""

from collections.abc import Sequence

import numpy as np

from trimtab.models.contracts import Floats, Panel, State
from trimtab.models.forecasting.linear_pool import REGRESSOR_PAIRS
from trimtab.models.forecasting.linear_stage import LinearStage, bucket_steps, nan_quantiles, pool_history
from trimtab.models.forecasting.panel_features import build_history
from trimtab.models.forecasting.quantile_levels import check_quantiles

MIN_DAYS = 3


class Ridge:
    """Hierarchical ridge regression; see `trimtab.models.forecasting.linear_pool`.

    longest_s : longest horizon of the horizon buckets in seconds; longer horizons use the last bucket

    The quantiles are those of cross-validated errors: each fit leaves out a quarter of the history.
    """

    def __init__(self, longest_s: float = 86_400.0) -> None:
        self.longest_s = longest_s
        self.linear_stage = LinearStage(longest_s)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the regressors, differences of two levels or lags."""
        return tuple(f"{a}-{b}" for a, b in REGRESSOR_PAIRS)

    def fit(self, panel: Panel) -> None:
        """Learn the shared coefficients."""
        self.linear_stage.fit(pool_history(panel))

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """Return (n_quantiles, horizon, n_series) forecasts; NaN with less than three days of history.

        Raises ModelError before `fit`.
        """
        levels = check_quantiles(quantiles)
        history = build_history(panel.y, panel.end, panel.step_s)
        out = np.full((len(levels), horizon, panel.y.shape[1]), np.nan)
        for begin, part in self.linear_stage.chunks(history):
            for bucket in self.linear_stage.buckets(horizon, panel.step_s):
                fitted = self.linear_stage.fit_bucket(part, bucket)
                if fitted is None:
                    continue
                errors = nan_quantiles(fitted.errors, levels).T
                steps = bucket_steps(bucket)
                middle = fitted.forecast(part, steps)
                spread = errors * fitted.error_scale
                out[:, steps - 1, begin : begin + len(part.y)] = middle.T + spread[:, None, :]
        out[:, :, history.length < MIN_DAYS * history.steps_per_day] = np.nan
        return out + history.mean

    def state(self) -> State:
        """Return a copy of the shared coefficients."""
        return self.linear_stage.state()

    def restore(self, state: State) -> None:
        """Replace the shared coefficients. Raises StateError if they do not fit."""
        self.linear_stage.restore(state)
