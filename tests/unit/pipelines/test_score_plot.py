"""Plots of scored series."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from trimtab.pipelines.errors import InputError
from trimtab.pipelines.reports.score_plot import MAX_SERIES, plot, series_plots
from trimtab.pipelines.scoring.score import score

mpl.use("agg")
N = 200


def long_table(count: int) -> pd.DataFrame:
    """Return scored series; the last has the highest peak."""
    ds = pd.date_range("2026-01-01", periods=N, freq="min", tz="UTC")
    rng = np.random.default_rng(2)
    parts = [pd.DataFrame({"unique_id": f"s{k}", "ds": ds, "y": rng.normal(9, 1, N)}) for k in range(count)]
    parts[-1].loc[150:153, "y"] = 99.0
    return score(pd.concat(parts, ignore_index=True))


@pytest.fixture(scope="module")
def scored() -> pd.DataFrame:
    """Nine scored series."""
    return long_table(9)


def test_value_band_and_score(scored):
    """A series is drawn with value, band and anomalies, and its score below with the threshold at 1."""
    figure = plot(scored, "s8")
    above, below = figure.axes
    assert above.get_title(loc="left") == "s8"
    labels = [text.get_text() for text in above.get_legend().get_texts()]
    assert labels == ["expected band", "expected", "value", "anomaly"]
    threshold = [line for line in below.lines if list(line.get_ydata()) == [1.0, 1.0]]
    assert len(threshold) == 1
    figure.draw_without_rendering()


def test_no_more_than_six(scored):
    """Of many series the six with the highest scores are drawn, in the order of the table."""
    figure = plot(scored)
    assert len(figure.axes) == 2 * MAX_SERIES
    assert figure.axes[-2].get_title(loc="left") == "s8"
    assert figure.get_suptitle() == "6 of 9 series, those with the highest scores"
    assert len(plot(scored, [f"s{k}" for k in range(9)]).axes) == 18


def test_figure_is_closed(scored):
    """The returned figure is closed in pyplot, so a notebook shows it once."""
    plot(scored, "s1")
    assert plt.get_fignums() == []


def test_wide():
    """Each column of each entity of a wide table is a series; row numbers stay on the axis."""
    parts = [
        pd.DataFrame({"entity": e, "t": range(N), "cpu": np.random.default_rng(k).normal(size=N), "mem": 1.0})
        for k, e in enumerate(["web", "db"])
    ]
    scored = score(pd.concat(parts, ignore_index=True))
    assert [panel.title for panel in series_plots(scored)] == ["web/cpu", "web/mem", "db/cpu", "db/mem"]
    assert series_plots(scored)[0].x.tolist() == list(range(N))
    assert len(plot(scored, "cpu").axes) == 4
    assert len(plot(scored, ["db/mem"]).axes) == 2


def test_invalid_input_is_refused(scored):
    """A table without scores and an unknown series raise an error."""
    with pytest.raises(InputError, match="has no column 'anomaly_score'"):
        plot(scored.drop(columns="anomaly_score"))
    with pytest.raises(InputError, match="there is no series 's99' among 9: s0, s1"):
        plot(scored, "s99")


def test_rows_without_sample_or_score():
    """Rows without a sample or score are drawn as gaps."""
    frame = pd.DataFrame({"t": range(30), "y": [1.0, np.nan, 2.0] * 10})
    plot(score(frame)).draw_without_rendering()
