"""Plot of forecasts: the history and the bands between quantiles."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.recording import read_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_SERIES = 6
PAST_HORIZONS = 3
"""Length of the drawn history, in horizons."""
_VALUE, _BAND = "#24425f", "#3a86c8"


def plot_forecast(
    history: pd.DataFrame, forecast: pd.DataFrame, series: str | Sequence[str] | None = None
) -> "Figure":
    """Plot a forecast of `trimtab.forecast` together with its history.

    history  : long or wide, with times (not row numbers)
    forecast : unique_id, ds and columns q0.05 ...
    series   : one or several names; None = the first six

    Returns a matplotlib Figure with one panel per series: the history, a band for each pair of quantiles,
    and the middle quantile as a line. Raises InputError if a column or a series is missing.
    """
    named = [c for c in map(str, forecast.columns) if c.startswith("q") and _is_number(c[1:])]
    levels = sorted((float(c[1:]), c) for c in named)
    if not levels or not {"unique_id", "ds"} <= set(forecast.columns):
        raise InputError(
            f"columns {list(forecast.columns)} are not of a forecast; pass that of trimtab.forecast"
        )
    names = list(dict.fromkeys(forecast["unique_id"]))
    wanted = names[:MAX_SERIES] if series is None else [series] if isinstance(series, str) else list(series)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(f"there is no series {missing[0]!r}; known are {', '.join(names[:8])} ...")
    past = _history_by_series(history)
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(11, 0.5 + 2.3 * len(wanted)), layout="constrained")
    plt.close(figure)  # a notebook shows the returned figure; left open, it would show it twice
    figure.patch.set_facecolor("white")
    all_axes = figure.subplots(len(wanted), 1, squeeze=False)[:, 0]
    for axes, name in zip(all_axes, wanted, strict=True):
        _draw(axes, name, past.get(name), forecast[forecast["unique_id"] == name], levels)
    all_axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize="small")
    return figure


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _history_by_series(history: pd.DataFrame) -> dict[str, "pd.Series[float]"]:
    found = {}
    for block in read_frame(history).blocks:
        for k, name in enumerate(block.full_names):
            times = pd.DatetimeIndex(block.times.astype("datetime64[ns]"))
            found[name] = pd.Series(block.values[:, k], times)
    return found


def _draw(
    axes: "Axes",
    name: str,
    past: "pd.Series[float] | None",
    bands: pd.DataFrame,
    levels: list[tuple[float, str]],
) -> None:
    ds = bands["ds"].to_numpy()
    if past is not None and len(ds):
        near = past[past.index >= ds[0] - PAST_HORIZONS * (ds[-1] - ds[0])]
        axes.plot(near.index.to_numpy(), near.to_numpy(), color=_VALUE, linewidth=1.0, label="value")
    columns = [column for _, column in levels]
    for k in range(len(columns) // 2):
        low, high = (bands[column].to_numpy(np.float64) for column in (columns[k], columns[-1 - k]))
        label = f"{columns[k]} to {columns[-1 - k]}"
        axes.fill_between(ds, low, high, color=_BAND, alpha=0.18 + 0.12 * k, linewidth=0, label=label)
    middle = min(levels, key=lambda level: abs(level[0] - 0.5))[1]
    axes.plot(ds, bands[middle].to_numpy(np.float64), color=_BAND, linewidth=1.4, label=middle)
    axes.set_title(name, loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.margins(x=0.01)
