"""Compare forecasters on the history of recorded series."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from trimtab.models.catalogue import forecaster
from trimtab.models.contracts import Forecaster
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.forecasting.backtest_load import backtest_load, forecast_origins
from trimtab.pipelines.forecasting.forecast import MAX_HISTORY_S
from trimtab.pipelines.io.durations import positive_duration_s
from trimtab.pipelines.io.panel import panel_from_history
from trimtab.pipelines.model_registry.submitted_models import recipe_for

_WITH_LONGEST_HORIZON = ("boosted", "load", "ridge")
"""Forecasters that take the longest horizon as a parameter."""


def backtest_forecast(
    frame: pd.DataFrame,
    forecasters: Sequence[str] | Mapping[str, Any] = ("load", "seasonal_naive"),
    *,
    horizon: str | float = "24h",
    step: str | float = "5m",
    windows: int = 3,
) -> pd.DataFrame:
    """Forecast the last windows of recorded series and compare with the actual values.

    frame       : unique_id, ds (UTC), y
    forecasters : names from the catalogue; or name -> a forecaster, a scikit-learn regressor, or a river
                  forecaster, as `registry.submit` accepts them
    horizon     : length of a window: "24h", or seconds
    step        : time between rows of the forecast: "5m", or seconds
    windows     : number of windows, the last ones; models are fitted once, before the first window

    Returns one row per forecaster: mase and pinball in units of the error of a seasonal naive forecast, cov90
    (target 0.9), miss99 (target 0.01), silent, points; see
    `trimtab.pipelines.forecasting.backtest_load.ForecastMetrics`.
    Raises InputError if the history is too short or the horizon shorter than a step, UnknownModelError for an
    unknown name.
    """
    step_s, horizon_s = positive_duration_s(step, "step"), positive_duration_s(horizon, "horizon")
    rows = round(horizon_s / step_s)
    if rows < 1 or windows < 1:
        raise InputError(
            f"horizon {horizon}, step {step}, windows {windows}: at least one step and one window are needed"
        )
    named_panel = panel_from_history(frame, step_s, window_s=MAX_HISTORY_S)
    origins = forecast_origins(len(named_panel.panel.y), rows, windows, 2 * rows)
    if len(origins) < windows:
        raise InputError(
            f"the history has {len(named_panel.panel.y)} steps of {step_s:g} s; {windows} windows of {rows} "
            f"need {(windows + 2) * rows}: use more history, a shorter horizon or fewer windows"
        )
    models = forecasters if isinstance(forecasters, Mapping) else {name: name for name in forecasters}
    contenders = {name: _forecaster(model, rows, horizon_s) for name, model in models.items()}
    past = named_panel.first_rows(origins[0]).panel
    for contender in contenders.values():
        contender.fit(past)
    results = backtest_load(named_panel, contenders, rows, origins)
    return pd.DataFrame({name: metrics.as_dict() for name, metrics in results.items()}).T


def _forecaster(model: Any, rows: int, horizon_s: float) -> Forecaster:  # noqa: ANN401 - any model
    if isinstance(model, str):
        parameters = {"longest_s": max(horizon_s, 3600.0)} if model in _WITH_LONGEST_HORIZON else {}
        return forecaster(model, **parameters)
    return model if isinstance(model, Forecaster) else recipe_for(model, rows).make_forecaster()
