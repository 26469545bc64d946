"""Trimtab detects anomalies in metric series, forecasts load, and recommends and applies setting changes.

Public names load on first use, so that importing this package is fast.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trimtab.pipelines.backtest_forecast import backtest_forecast
    from trimtab.pipelines.forecasting.forecast import forecast
    from trimtab.pipelines.io.history import history
    from trimtab.pipelines.reports.forecast_plot import plot_forecast
    from trimtab.pipelines.reports.score_plot import plot
    from trimtab.pipelines.scoring.score import score

    __version__: str

__all__ = ["__version__", "backtest_forecast", "forecast", "history", "plot", "plot_forecast", "score"]

_MODULES = {
    "backtest_forecast": "trimtab.pipelines.backtest_forecast",
    "forecast": "trimtab.pipelines.forecasting.forecast",
    "history": "trimtab.pipelines.io.history",
    "plot": "trimtab.pipelines.reports.score_plot",
    "plot_forecast": "trimtab.pipelines.reports.forecast_plot",
    "score": "trimtab.pipelines.scoring.score",
}


if not Path(__file__).with_name("engine").is_dir():
    # In a checkout the three packages are next to this folder; in a wheel they are inside it.
    __path__.append(str(Path(__file__).resolve().parents[1]))


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("trimtab")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'trimtab' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "engine", "models", "pipelines"])
