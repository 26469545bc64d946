"""Plots of a model evaluation: forecasts against actual values, and the losses of all contenders."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trimtab.models.contracts import Forecaster
from trimtab.pipelines.forecasting.backtest_load import ForecastMetrics
from trimtab.pipelines.io.panel import NamedPanel
from trimtab.pipelines.io.stored_forecasts import QUANTILES

_MAX_SERIES = 4


def plot_evaluation(
    named_panel: NamedPanel,
    contenders: Mapping[str, Forecaster],
    horizon: int,
    origin: int,
    metrics: Mapping[str, ForecastMetrics],
    folder: Path,
) -> dict[str, Path]:
    """Write PNG files into the folder and return their paths by name: "forecasts" and "losses".

    "forecasts" shows the last evaluated window of the series with the most samples.

    horizon : rows of the window
    origin  : rows known at the start of the window
    metrics : by contender
    """
    from matplotlib.figure import Figure

    shown = np.argsort(-np.isfinite(named_panel.panel.y).sum(axis=0), kind="stable")[:_MAX_SERIES]
    shown_panel = named_panel.pick(shown)
    forecasts = contenders["challenger"].predict(shown_panel.first_rows(origin).panel, horizon, QUANTILES)
    figure = Figure(figsize=(10, 2.6 * len(shown)), layout="constrained")
    for series, axes in enumerate(figure.subplots(len(shown), 1, squeeze=False)[:, 0]):
        rows = np.arange(max(origin - horizon, 0), origin + horizon)
        hours = (rows - origin) * named_panel.panel.step_s / 3600
        axes.plot(hours, shown_panel.panel.y[rows, series], color="black", linewidth=0.8, label="actual")
        future = hours[rows >= origin]
        axes.fill_between(
            future, forecasts[0, :, series], forecasts[3, :, series], alpha=0.25, label="5 to 95 %"
        )
        axes.plot(future, forecasts[1, :, series], linewidth=1.0, label="median")
        axes.set_title(shown_panel.names[series][:120], fontsize=8)
    axes.set_xlabel("hours")
    axes.legend(fontsize=7)
    window = folder / "forecasts.png"
    figure.savefig(window, dpi=80)
    return {"forecasts": window, "losses": _plot_losses(metrics, folder / "losses.png")}


def _plot_losses(metrics: Mapping[str, ForecastMetrics], path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.bar(list(metrics), [one.pinball for one in metrics.values()])
    axes.set_ylabel("pinball loss, in seasonal naive errors")
    figure.savefig(path, dpi=80)
    return path
