"""A picture of scored series: value and expected band, anomalies shaded, the score against its threshold."""

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
"""Series that are drawn where none is asked for: those with the highest scores."""
_VALUE, _BAND, _HOT, _QUIET = "#24425f", "#8fb8de", "#c8381f", "#9aa3ab"
_HIGHEST = 4.0
"""Scores are drawn up to here."""


@dataclass(frozen=True, slots=True)
class SeriesPlot:
    """What is drawn of one series; x is datetime64 or row numbers. band: (yhat, lower, upper) or None."""

    title: str
    x: npt.NDArray[Any]
    value: Floats
    score: Floats
    band: tuple[Floats, Floats, Floats] | None = None

    @property
    def peak(self) -> float:
        """Highest score, -1 where there is none."""
        return float(np.max(self.score, where=np.isfinite(self.score), initial=-1.0))


def plot(scored: pd.DataFrame, series: str | Sequence[str] | None = None) -> "Figure":
    """Draw what `trimtab.score` gave.

    scored : long or wide, with the columns that score added
    series : the name of one or several: of a long table its unique_id; of a wide one a column, or
             "entity/column"; None = the six with the highest scores

    Gives a matplotlib Figure: for each series the value with its expected band (long tables) and shaded
    anomalies, below it the score with the threshold at 1. Raises InputError for a table without scores
    and for a series that is not there.
    """
    panels = series_plots(scored)
    chosen = _chosen(panels, series)
    return _draw(chosen, left_out=len(panels) - len(chosen) if series is None else 0)


def series_plots(scored: pd.DataFrame) -> list[SeriesPlot]:
    """A panel for each series, in the order of the table."""
    added = [c for c in scored.columns if c in RESULT_COLUMNS or str(c).startswith("anomaly_score:")]
    if RESULT_COLUMNS[0] not in added:
        raise InputError("the table has no column 'anomaly_score'; give what trimtab.score returned")
    recording = read_frame(scored.drop(columns=added))
    counts = _counts_rows(scored, recording.layout)
    return [
        _panel(scored, recording.layout, block, k, counts=counts)
        for block in recording.blocks
        for k in range(len(block.names))
    ]


def _counts_rows(scored: pd.DataFrame, layout: Layout) -> bool:
    column = None if layout.time is None else scored[layout.time]
    if column is None or not pd.api.types.is_numeric_dtype(column):
        return False
    return bool(abs(column.iloc[0]) < MAX_ROW_NUMBER)


def _panel(scored: pd.DataFrame, layout: Layout, block: Block, k: int, *, counts: bool) -> SeriesPlot:
    def column(name: str) -> Floats:
        return scored[name].to_numpy(np.float64)[block.rows]

    x = scored[layout.time].to_numpy()[block.rows] if counts else block.times.astype("datetime64[ns]")
    name, value = block.names[k], block.values[:, k]
    if layout.form == "wide":
        return SeriesPlot(
            f"{block.entity}/{name}" if block.entity else name, x, value, column(f"anomaly_score:{name}")
        )
    band = (column("yhat"), column("yhat_lower"), column("yhat_upper")) if "yhat" in scored else None
    return SeriesPlot(name, x, value, column(RESULT_COLUMNS[0]), band)


def _chosen(panels: list[SeriesPlot], series: str | Sequence[str] | None) -> list[SeriesPlot]:
    if series is None:
        highest = sorted(panels, key=lambda panel: -panel.peak)[:MAX_SERIES]
        return [panel for panel in panels if any(panel is one for one in highest)]
    wanted = [series] if isinstance(series, str) else list(series)
    for name in wanted:
        if not any(_is(panel, name) for panel in panels):
            there = ", ".join(panel.title for panel in panels[:8])
            raise InputError(f"there is no series {name!r}; there are {len(panels)}: {there} ...")
    return [panel for panel in panels if any(_is(panel, name) for name in wanted)]


def _is(panel: SeriesPlot, name: str) -> bool:
    return name in {panel.title, panel.title.rpartition("/")[2]}


def _draw(panels: list[SeriesPlot], left_out: int) -> "Figure":
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
    if left_out:
        total = len(panels) + left_out
        figure.suptitle(f"{len(panels)} of {total} series, those with the highest scores", fontsize="medium")
    return figure


def _draw_value(axes: "Axes", panel: SeriesPlot) -> None:
    hot = panel.score > 1
    if panel.band is not None and np.isfinite(panel.band[0]).any():
        yhat, lower, upper = panel.band
        axes.fill_between(panel.x, lower, upper, color=_BAND, alpha=0.35, linewidth=0, label="expected band")
        axes.plot(panel.x, yhat, color=_BAND, linewidth=1.0, label="expected")
    axes.plot(panel.x, panel.value, color=_VALUE, linewidth=1.0, label="value")
    axes.plot(panel.x[hot], panel.value[hot], "o", color=_HOT, markersize=3.5, label="anomaly")
    _shade(axes, panel.x, hot)
    axes.set_title(panel.title, loc="left", fontsize="medium")
    _limits(axes, panel)
    _quiet_frame(axes)


def _limits(axes: "Axes", panel: SeriesPlot) -> None:
    """The values decide: a band that is still wide open does not squeeze them."""
    seen = panel.value[np.isfinite(panel.value)]
    if len(seen):
        low, high = float(seen.min()), float(seen.max())
        room = 0.15 * (high - low) or max(abs(high) * 0.1, 1.0)
        axes.set_ylim(low - room, high + room)


def _draw_score(axes: "Axes", panel: SeriesPlot) -> None:
    shown = np.minimum(panel.score, _HIGHEST)
    axes.fill_between(panel.x, 0, shown, color=_QUIET, alpha=0.5, linewidth=0)
    axes.fill_between(panel.x, 1, np.maximum(shown, 1.0), color=_HOT, alpha=0.7, linewidth=0)
    axes.plot(panel.x, shown, color=_QUIET, linewidth=0.6)
    axes.axhline(1.0, color=_HOT, linewidth=0.8, linestyle="--")
    axes.set_ylim(0, max(1.5, min(panel.peak, _HIGHEST) * 1.05))
    axes.set_ylabel("score", fontsize="small")
    _shade(axes, panel.x, panel.score > 1)
    _quiet_frame(axes)


def _shade(axes: "Axes", x: npt.NDArray[Any], hot: npt.NDArray[np.bool_]) -> None:
    """Anomalous stretches, from the row before to the row after, so that a single one can be seen."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hot, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2):
        axes.axvspan(x[max(begin - 1, 0)], x[min(end, len(x) - 1)], color=_HOT, alpha=0.12, linewidth=0)


def _quiet_frame(axes: "Axes") -> None:
    axes.set_facecolor("white")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.margins(x=0.01)
