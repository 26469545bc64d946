"""A ridge regression of each series on its own lags, day and week, drawn towards what all series share."""

from collections.abc import Sequence

import numpy as np

from trimtab.models.contracts import Floats, Panel, State
from trimtab.models.forecasting.linear_pool import PAIRS
from trimtab.models.forecasting.linear_stage import LinearStage, bucket_rows, known_quantiles, pool_of
from trimtab.models.forecasting.panel_features import history_of
from trimtab.models.forecasting.quantile_levels import check_quantiles

LEAST_DAYS = 3


class Ridge:
    """Hierarchical ridge regression; see `trimtab.models.forecasting.linear_pool`.

    longest_s : horizon that the buckets reach, in seconds; what lies beyond uses the last of them

    Its quantiles are those of the errors of fits that left a quarter of the history out.
    """

    def __init__(self, longest_s: float = 86_400.0) -> None:
        self.longest_s = longest_s
        self.stage = LinearStage(longest_s)

    @property
    def features(self) -> tuple[str, ...]:
        """Differences of levels and lags."""
        return tuple(f"{a}-{b}" for a, b in PAIRS)

    def fit(self, panel: Panel) -> None:
        """Learn the shared coefficients."""
        self.stage.fit(pool_of(panel))

    def predict(self, panel: Panel, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(n_quantiles, horizon, n_series); NaN below three days of history.

        Raises ModelError before `fit`.
        """
        wanted = check_quantiles(quantiles)
        history = history_of(panel.y, panel.end, panel.step_s)
        out = np.full((len(wanted), horizon, panel.y.shape[1]), np.nan)
        for begin, part in self.stage.chunks(history):
            for bucket in self.stage.buckets(horizon, panel.step_s):
                fitted = self.stage.own(part, bucket)
                if fitted is None:
                    continue
                errors = known_quantiles(fitted.errors, wanted).T
                steps = bucket_rows(bucket)
                middle = fitted.forecast(part, steps)
                spread = errors * fitted.unit
                out[:, steps - 1, begin : begin + len(part.y)] = middle.T + spread[:, None, :]
        out[:, :, history.length < LEAST_DAYS * history.day] = np.nan
        return out + history.middle

    def state(self) -> State:
        """The shared coefficients."""
        return self.stage.state()

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        self.stage.restore(state)
