"""A picture of forecasts: the past, and the fan of what may come."""

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
"""So many horizons of the past are drawn."""
_VALUE, _FAN = "#24425f", "#3a86c8"


def plot_forecast(
    history: pd.DataFrame, forecast: pd.DataFrame, series: str | Sequence[str] | None = None
) -> "Figure":
    """Draw what `trimtab.forecast` gave behind what it was given.

    history  : long or wide, with times (not row numbers)
    forecast : unique_id, ds and columns q0.05 ...
    series   : the names of one or several; None = the first six

    Gives a matplotlib Figure: for each series the past and a band for each pair of quantiles, the middle
    one as a line. Raises InputError where columns or a series are not there.
    """
    named = [c for c in map(str, forecast.columns) if c.startswith("q") and _number(c[1:])]
    levels = sorted((float(c[1:]), c) for c in named)
    if not levels or not {"unique_id", "ds"} <= set(forecast.columns):
        raise InputError(f"columns {list(forecast.columns)}; give what trimtab.forecast returned")
    names = list(dict.fromkeys(forecast["unique_id"]))
    wanted = names[:MAX_SERIES] if series is None else [series] if isinstance(series, str) else list(series)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(f"there is no series {missing[0]!r}; there are {', '.join(names[:8])} ...")
    past = _past(history)
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(11, 0.5 + 2.3 * len(wanted)), layout="constrained")
    plt.close(figure)  # a notebook shows the returned figure; left open, it would show it twice
    figure.patch.set_facecolor("white")
    all_axes = figure.subplots(len(wanted), 1, squeeze=False)[:, 0]
    for axes, name in zip(all_axes, wanted, strict=True):
        _draw(axes, name, past.get(name), forecast[forecast["unique_id"] == name], levels)
    all_axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize="small")
    return figure


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _past(history: pd.DataFrame) -> dict[str, "pd.Series[float]"]:
    found = {}
    for block in read_frame(history).blocks:
        for k, name in enumerate(block.names):
            full = f"{block.entity}/{name}" if block.entity else name
            times = pd.DatetimeIndex(block.times.astype("datetime64[ns]"))
            found[full] = pd.Series(block.values[:, k], times)
    return found


def _draw(
    axes: "Axes",
    name: str,
    past: "pd.Series[float] | None",
    fan: pd.DataFrame,
    levels: list[tuple[float, str]],
) -> None:
    ds = fan["ds"].to_numpy()
    if past is not None and len(ds):
        near = past[past.index >= ds[0] - PAST_HORIZONS * (ds[-1] - ds[0])]
        axes.plot(near.index.to_numpy(), near.to_numpy(), color=_VALUE, linewidth=1.0, label="value")
    columns = [column for _, column in levels]
    for k in range(len(columns) // 2):
        low, high = (fan[column].to_numpy(np.float64) for column in (columns[k], columns[-1 - k]))
        label = f"{columns[k]} to {columns[-1 - k]}"
        axes.fill_between(ds, low, high, color=_FAN, alpha=0.18 + 0.12 * k, linewidth=0, label=label)
    middle = min(levels, key=lambda level: abs(level[0] - 0.5))[1]
    axes.plot(ds, fan[middle].to_numpy(np.float64), color=_FAN, linewidth=1.4, label=middle)
    axes.set_title(name, loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.margins(x=0.01)
