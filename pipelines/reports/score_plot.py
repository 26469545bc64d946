"""Plot of scored series: values with the expected band, shaded anomalies, and scores with the threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trimtab.models.contracts import Floats
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.columns import MAX_ROW_NUMBER
from trimtab.pipelines.io.recording import RESULT_COLUMNS, Block, Layout, read_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_SERIES = 6
"""Number of series drawn by default: those with the highest scores."""
_VALUE, _BAND, _ANOMALY, _SCORE = "#24425f", "#8fb8de", "#c8381f", "#9aa3ab"
_MAX_SCORE = 4.0
"""Scores are clipped here in the plot."""


@dataclass(frozen=True, slots=True)
class SeriesPlot:
    """The data drawn for one series.

    title : name of the series
    x     : datetime64 or row numbers
    value : values, NaN = no sample
    score : anomaly scores
    band  : (yhat, lower, upper); None = no band
    """

    title: str
    x: npt.NDArray[Any]
    value: Floats
    score: Floats
    band: tuple[Floats, Floats, Floats] | None = None

    @property
    def peak(self) -> float:
        """Highest score; -1 if there is none."""
        return float(np.max(self.score, where=np.isfinite(self.score), initial=-1.0))


def plot(scored: pd.DataFrame, series: str | Sequence[str] | None = None) -> "Figure":
    """Plot a table that `trimtab.score` returned.

    scored : long or wide, with the columns that score added
    series : one or several names: a unique_id of a long table; a column or "entity/column" of a wide one;
             None = the six series with the highest scores

    Returns a matplotlib Figure: for each series the values with the expected band (long tables only) and
    shaded anomalies, and below them the score with the threshold at 1. Raises InputError for a table without
    scores and for an unknown series.
    """
    panels = series_plots(scored)
    chosen = _select(panels, series)
    return _draw(chosen, hidden=len(panels) - len(chosen) if series is None else 0)


def series_plots(scored: pd.DataFrame) -> list[SeriesPlot]:
    """Return the data of one plot per series, in the order of the table."""
    added = [c for c in scored.columns if c in RESULT_COLUMNS or str(c).startswith("anomaly_score:")]
    if RESULT_COLUMNS[0] not in added:
        raise InputError("the table has no column 'anomaly_score'; pass the result of trimtab.score")
    recording = read_frame(scored.drop(columns=added))
    counts = _has_row_numbers(scored, recording.layout)
    return [
        _series_plot(scored, recording.layout, block, k, counts=counts)
        for block in recording.blocks
        for k in range(len(block.names))
    ]


def _has_row_numbers(scored: pd.DataFrame, layout: Layout) -> bool:
    column = None if layout.time is None else scored[layout.time]
    if column is None or not pd.api.types.is_numeric_dtype(column):
        return False
    return bool(abs(column.iloc[0]) < MAX_ROW_NUMBER)


def _series_plot(scored: pd.DataFrame, layout: Layout, block: Block, k: int, *, counts: bool) -> SeriesPlot:
    def column(name: str) -> Floats:
        return scored[name].to_numpy(np.float64)[block.rows]

    x = scored[layout.time].to_numpy()[block.rows] if counts else block.times.astype("datetime64[ns]")
    name, value = block.names[k], block.values[:, k]
    if layout.form == "wide":
        return SeriesPlot(block.full_names[k], x, value, column(f"anomaly_score:{name}"))
    band = (column("yhat"), column("yhat_lower"), column("yhat_upper")) if "yhat" in scored else None
    return SeriesPlot(name, x, value, column(RESULT_COLUMNS[0]), band)


def _select(panels: list[SeriesPlot], series: str | Sequence[str] | None) -> list[SeriesPlot]:
    if series is None:
        highest = sorted(panels, key=lambda panel: -panel.peak)[:MAX_SERIES]
        return [panel for panel in panels if any(panel is one for one in highest)]
    wanted = [series] if isinstance(series, str) else list(series)
    for name in wanted:
        if not any(_has_name(panel, name) for panel in panels):
            there = ", ".join(panel.title for panel in panels[:8])
            raise InputError(f"there is no series {name!r} among {len(panels)}: {there} ...")
    return [panel for panel in panels if any(_has_name(panel, name) for name in wanted)]


def _has_name(panel: SeriesPlot, name: str) -> bool:
    return name in {panel.title, panel.title.rpartition("/")[2]}


def _draw(panels: list[SeriesPlot], hidden: int) -> "Figure":
    import matplotlib.pyplot as plt
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure = plt.figure(figsize=(11, 0.5 + 2.7 * len(panels)), layout="constrained")
    plt.close(figure)  # a notebook shows the returned figure; left open, it would show it twice
    figure.patch.set_facecolor("white")
    ratios = [3.0, 1.0] * len(panels)
    axes = figure.subplots(2 * len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    for k, panel in enumerate(panels):
        above, below = axes[2 * k], axes[2 * k + 1]
        _draw_value(above, panel)
        _draw_score(below, panel)
        below.sharex(above)
        above.tick_params(labelbottom=False)
        if np.issubdtype(panel.x.dtype, np.datetime64):
            locator = AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib's
            below.xaxis.set_major_locator(locator)
            concise = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]  # matplotlib's
            below.xaxis.set_major_formatter(concise)
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize="small")
    if hidden:
        total = len(panels) + hidden
        figure.suptitle(f"{len(panels)} of {total} series, those with the highest scores", fontsize="medium")
    return figure


def _draw_value(axes: "Axes", panel: SeriesPlot) -> None:
    anomalous = panel.score > 1
    if panel.band is not None and np.isfinite(panel.band[0]).any():
        yhat, lower, upper = panel.band
        axes.fill_between(panel.x, lower, upper, color=_BAND, alpha=0.35, linewidth=0, label="expected band")
        axes.plot(panel.x, yhat, color=_BAND, linewidth=1.0, label="expected")
    axes.plot(panel.x, panel.value, color=_VALUE, linewidth=1.0, label="value")
    axes.plot(
        panel.x[anomalous], panel.value[anomalous], "o", color=_ANOMALY, markersize=3.5, label="anomaly"
    )
    _shade(axes, panel.x, anomalous)
    axes.set_title(panel.title, loc="left", fontsize="medium")
    _limits(axes, panel)
    _style_axes(axes)


def _limits(axes: "Axes", panel: SeriesPlot) -> None:
    """Scale the axis by the values, so that a wide band does not flatten them."""
    known = panel.value[np.isfinite(panel.value)]
    if len(known):
        low, high = float(known.min()), float(known.max())
        margin = 0.15 * (high - low) or max(abs(high) * 0.1, 1.0)
        axes.set_ylim(low - margin, high + margin)


def _draw_score(axes: "Axes", panel: SeriesPlot) -> None:
    shown = np.minimum(panel.score, _MAX_SCORE)
    axes.fill_between(panel.x, 0, shown, color=_SCORE, alpha=0.5, linewidth=0)
    axes.fill_between(panel.x, 1, np.maximum(shown, 1.0), color=_ANOMALY, alpha=0.7, linewidth=0)
    axes.plot(panel.x, shown, color=_SCORE, linewidth=0.6)
    axes.axhline(1.0, color=_ANOMALY, linewidth=0.8, linestyle="--")
    axes.set_ylim(0, max(1.5, min(panel.peak, _MAX_SCORE) * 1.05))
    axes.set_ylabel("score", fontsize="small")
    _shade(axes, panel.x, panel.score > 1)
    _style_axes(axes)


def _shade(axes: "Axes", x: npt.NDArray[Any], anomalous: npt.NDArray[np.bool_]) -> None:
    """Shade anomalous intervals from the row before to the row after, so that a single row is visible."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], anomalous, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2):
        axes.axvspan(x[max(begin - 1, 0)], x[min(end, len(x) - 1)], color=_ANOMALY, alpha=0.12, linewidth=0)


def _style_axes(axes: "Axes") -> None:
    axes.set_facecolor("white")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.margins(x=0.01)
