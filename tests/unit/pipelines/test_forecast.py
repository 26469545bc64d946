"""Forecasts of recorded series: the function, the command and the plot."""

import io
from datetime import date

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import trimtab
from trimtab.engine.cli.main import app
from trimtab.models.contracts import Panel
from trimtab.models.errors import ModelError
from trimtab.models.forecasters import forecast_panel
from trimtab.models.forecasting.confidence import confidence
from trimtab.models.forecasting.panel_features import DAY_NS
from trimtab.models.forecasting.quantile_levels import QUANTILE_LEVELS, interpolate_quantiles
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.forecasting.forecast import RecordedSeries, align_series, forecast
from trimtab.pipelines.forecasting.forecast_file import forecast_file, parse_quantiles
from trimtab.pipelines.forecasting.known_days import mark_known_days, parse_days
from trimtab.pipelines.io.tables import sibling_path

DAY = 24


def table(days=6, names=("a", "b"), seed=0):
    """Return a long table of hourly non-negative series with a daily cycle."""
    rng = np.random.default_rng(seed)
    k = np.arange(days * DAY)
    ds = pd.date_range("2026-03-02", periods=k.size, freq="1h")
    parts = [
        pd.DataFrame(
            {"unique_id": name, "ds": ds, "y": 20 + 9 * np.sin(k * np.pi / 12) + rng.normal(0, 1, k.size)}
        )
        for name in names
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def recording_and_forecast():
    """A recording and its forecast of one day."""
    history = table()
    return history, forecast(history, "24h")


def test_forecast_starts_after_the_last_sample(recording_and_forecast):
    """The forecast has a row per hour and series after the last sample, near the daily cycle."""
    history, result = recording_and_forecast
    assert list(result.columns) == ["unique_id", "ds", "q0.05", "q0.5", "q0.9", "q0.95", "q0.99"]
    a = result[result["unique_id"] == "a"]
    assert a["ds"].tolist() == list(pd.date_range(history["ds"].max(), periods=25, freq="1h")[1:])
    course = 20 + 9 * np.sin(np.arange(24) * np.pi / 12)
    assert np.abs(a["q0.5"] - course).mean() < 1.5
    assert (np.diff(a.filter(regex="^q").to_numpy(), axis=1) >= 0).all()
    assert result.attrs["confidence"]["a"].startswith("fair: 6 days of history")


def test_excluded_rows_count_as_missing():
    """Rows excluded by `where` have the same effect as missing samples."""
    history = table(names=("a",))
    damaged = history.copy()
    excluded = np.zeros(len(history), bool)
    excluded[50:60] = True
    damaged.loc[excluded, "y"] = 9000.0
    missing = history.copy()
    missing.loc[excluded, "y"] = np.nan
    pd.testing.assert_frame_equal(forecast(damaged, "6h", where=~excluded), forecast(missing, "6h"))
    with pytest.raises(InputError, match=r"where has the shape \(3,\)"):
        forecast(history, "6h", where=[True] * 3)


def test_non_negative_series_have_no_negative_quantile():
    """A series without negative values has no negative quantile, unless non_negative is False."""
    history = table(names=("a",))
    history["y"] = np.maximum(history["y"] - 22, 0.0)
    assert (forecast(history, "24h").filter(regex="^q").to_numpy() >= 0).all()
    free = forecast(history, "24h", non_negative=False)
    assert (free["q0.05"] < 0).any()


def test_too_little_history_is_unknown():
    """Below half an hour of history the forecast is NaN; above it the confidence is low."""
    k = np.arange(40)
    frame = pd.DataFrame({"ds": pd.date_range("2026-01-01", periods=40, freq="1min"), "y": 5 + k % 2})
    early = forecast(frame[:20], "10m")
    assert early["q0.5"].isna().all()
    assert early.attrs["confidence"]["y"].startswith("none: 20 min of history")
    later = forecast(frame, "10m")
    assert later["q0.5"].between(4.5, 6.5).all()
    assert later.attrs["confidence"]["y"].startswith("low")


def test_long_horizons_take_wider_steps():
    """A horizon of more than 288 rows is forecast in wider steps."""
    frame = pd.DataFrame({"ds": pd.date_range("2026-01-01", periods=300, freq="1min"), "y": 5.0})
    result = forecast(frame, "24h", [0.5])
    assert len(result) == 288
    assert result["ds"].diff().iloc[-1] == pd.Timedelta("5min")


def test_uneven_samples_are_averaged_per_step():
    """Samples of one step are averaged, an empty step is NaN, and the last sample is in the last row."""
    times = np.array([0, 58, 61, 118, 240]) * 10**9
    panel = align_series([RecordedSeries("a", times, np.array([1.0, 2, 4, 6, 9]), 60.0)], 60.0)
    assert panel.y[-1, 0] == 9.0
    assert np.isnan(panel.y[:, 0]).sum() == 1
    assert np.nansum(panel.y[:, 0]) == pytest.approx(1 + 2 + 5 + 9)


@pytest.mark.slow
def test_known_days_change_the_forecast():
    """A forecast for a known day follows the history of earlier known days."""
    history = table(28, names=tuple("abcdefgh"))
    start = pd.Timestamp("2026-03-02")
    known_days = [start + pd.Timedelta(days=k) for k in (4, 9, 11, 16, 19, 23, 28)]
    history.loc[history["ds"].dt.normalize().isin(known_days), "y"] *= 0.5
    with_days, without_days = (
        forecast(history, "24h", [0.5], events=days)["q0.5"].mean()
        for days in ([str(day) for day in known_days], ())
    )
    assert with_days < 0.8 * without_days


def test_days_to_rows():
    """A row belongs to a known day by its UTC time, also beyond the end of the history."""
    past = Panel(np.ones((30, 1)), np.array([DAY_NS - 3600 * 10**9]), 3600.0, np.ones(1, bool))
    events = mark_known_days(past, 26, parse_days([date(1970, 1, 2)])).events
    assert events.shape == (56, 1)
    assert np.flatnonzero(events[:, 0]).tolist() == list(range(30, 54))
    assert mark_known_days(past, 3, frozenset()).events is None
    assert parse_days(["1970-01-02", pd.Timestamp("1970-01-05 08:00")]) == {1, 4}


WRONG = {
    "day": ({"events": ["Xmas"]}, InputError, "events: 'Xmas' is not a date; use a form like 2026-12-25"),
    "horizon": ({"horizon": "soon"}, InputError, "horizon: 'soon' is not a duration"),
    "too near": ({"horizon": "1m"}, InputError, "horizon: 60 s is shorter than the 3600 s between rows"),
    "quantiles": ({"quantiles": [0.9, 0.1]}, ModelError, "must increase"),
}


@pytest.mark.parametrize(("given", "error", "message"), WRONG.values(), ids=WRONG)
def test_invalid_arguments_are_refused(given, error, message):
    """An invalid horizon, quantile or date raises an error with its value."""
    with pytest.raises(error, match=message):
        forecast(table(2), **given)


def test_file_in_file_out(tmp_path):
    """The forecast is written next to the input, and the confidence of each series is printed."""
    table(2).to_csv(tmp_path / "load.csv", index=False)
    output = io.StringIO()
    forecast_file(tmp_path / "load.csv", horizon="3h", console=Console(file=output, width=200))
    result = pd.read_csv(tmp_path / "load.forecast.csv")
    assert list(result.columns) == ["unique_id", "ds", "q0.05", "q0.5", "q0.9", "q0.95", "q0.99"]
    assert len(result) == 6
    assert "a: low confidence, 2 days of history" in output.getvalue()
    assert "6 rows of 2 series forecast" in output.getvalue()
    assert str(sibling_path(tmp_path / "x.parquet.gz", "forecast")).endswith("x.forecast.parquet.gz")


def test_command(tmp_path, monkeypatch):
    """`trimtab forecast INPUT -o OUT` writes OUT; invalid quantiles raise an error."""
    monkeypatch.setenv("HOME", str(tmp_path))
    table(2, names=("a",)).to_csv(tmp_path / "load.csv", index=False)
    out = tmp_path / "out.parquet"
    options = ["--horizon", "2h", "--quantiles", "0.5,0.9", "--events", "2026-12-25", "-o", str(out)]
    done = CliRunner().invoke(app, ["forecast", str(tmp_path / "load.csv"), *options])
    assert done.exit_code == 0, done.output
    assert list(pd.read_parquet(out).columns) == ["unique_id", "ds", "q0.5", "q0.9"]
    with pytest.raises(InputError, match="is not a list of numbers"):
        parse_quantiles("high,low")


def test_plot(recording_and_forecast):
    """The plot has history, bands and median; an unknown series raises an error."""
    history, result = recording_and_forecast
    figure = trimtab.plot_forecast(history, result)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["value", "q0.05 to q0.99", "q0.5 to q0.95", "q0.5"]
    with pytest.raises(InputError, match="no series 'c'"):
        trimtab.plot_forecast(history, result, "c")
    with pytest.raises(InputError, match=r"pass that of trimtab\.forecast"):
        trimtab.plot_forecast(history, history)


def test_quantiles_are_interpolated():
    """Learned quantiles are returned unchanged, others are interpolated, and none cross."""
    known = np.array([1.0, 3, 2, 5, 9])[:, None]
    np.testing.assert_allclose(
        interpolate_quantiles(known, QUANTILE_LEVELS, QUANTILE_LEVELS)[:, 0], [1, 2, 3, 5, 9]
    )
    assert 1 < interpolate_quantiles(known, QUANTILE_LEVELS, [0.25])[0, 0] < 2


@pytest.mark.parametrize(
    ("seconds", "word"),
    [(60, "none"), (3600, "low"), (2e5, "low"), (4e5, "fair"), (7e5, "good")],
)
def test_confidence_grows_with_history(seconds, word):
    """A longer history gives a higher confidence."""
    assert confidence(seconds).word == word


def test_forecast_panel_layout():
    """`forecast_panel` returns horizon rows per series, in time order, one column per quantile."""
    result = forecast_panel(table(4), 12, (0.5, 0.99), DAY)
    assert list(result.columns) == ["unique_id", "ds", "q0.5", "q0.99"]
    assert result.groupby("unique_id").size().tolist() == [12, 12]
    assert np.isfinite(result[["q0.5", "q0.99"]].to_numpy()).all()
