"""Load forecasters, one a file; `trimtab.models.catalogue` lists them by name."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trimtab.models.contracts import Panel

_DAY_NS = 86_400 * 10**9


def forecast_panel(
    history: pd.DataFrame, horizon: int, quantiles: Sequence[float], season: int
) -> pd.DataFrame:
    """Fit the load forecaster to a table of series and forecast them.

    history   : unique_id, ds, y; each series on a regular grid, NaN = no sample
    horizon   : steps to forecast
    quantiles : increasing, within 0.05 .. 0.99
    season    : steps per day

    Returns unique_id, ds and one column per quantile, q0.5 ...: `horizon` rows per series in time order,
    NaN if a series is too short. Raises ModelError for quantiles out of range.
    """
    from trimtab.models.catalogue import forecaster

    parts = [(uid, part) for uid, part in history.groupby("unique_id", sort=False, observed=True)]
    y = np.full((max(len(part) for _, part in parts), len(parts)), np.nan)
    for k, (_, part) in enumerate(parts):
        y[len(y) - len(part) :, k] = part["y"].to_numpy(np.float64)
    last = pd.to_datetime(pd.Series([part["ds"].iloc[-1] for _, part in parts]))
    end = last.to_numpy("datetime64[ns]").astype(np.int64)
    lowest = np.nanmin(np.where(np.isnan(y), np.inf, y), axis=0)
    panel = Panel(y, end, _DAY_NS / season / 1e9, lowest >= 0)
    model = forecaster("load", longest_s=max(horizon * panel.step_s, 3600.0))
    model.fit(panel)
    values = model.predict(panel, horizon, quantiles)
    step = np.arange(1, horizon + 1) * (_DAY_NS // season)
    ds = (end[:, None] + step).ravel().astype("datetime64[ns]")
    ids = np.repeat(np.array([uid for uid, _ in parts], dtype=object), horizon)
    columns = {f"q{q:g}": value.T.ravel() for q, value in zip(quantiles, values, strict=True)}
    return pd.DataFrame({"unique_id": ids, "ds": ds, **columns})
