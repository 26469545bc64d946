"""Accuracy of served forecasts, choice of the serving model, and the end of a shadow phase."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.model_store import SMALL_JOB, ModelFolder, load_history
from trimtab.models.contracts import Panel
from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.io.panel import NamedPanel, panel_from_history
from trimtab.pipelines.io.stored_forecasts import FORECASTS_FILE, QUANTILES, read_forecasts, write_forecasts
from trimtab.pipelines.model_registry.artifact import ARRAYS_FILE, Manifest, pack_arrays, write_model
from trimtab.pipelines.serving.forecast_load import forecast_load
from trimtab.pipelines.serving.live_accuracy import (
    LiveAccuracy,
    has_drifted,
    measure_accuracy,
    past_accuracies,
    shadow_result,
    update_live_accuracy,
)

HOUR = 3_600_000_000_000


@pytest.fixture
def models(tmp_path):
    """A data folder without a model."""
    return ModelFolder(tmp_path)


def panel_until(hours_back=0):
    """Return the recorded history up to some hours before its end."""
    full_panel = panel_from_history(load_history(), 3600.0, window_s=864_000.0)
    return full_panel.first_rows(full_panel.panel.y.shape[0] - hours_back)


def write_version(models, version, forecaster="load", **parameters):
    """Write a version to the model store."""
    folder = models.folder / f"made-{version.replace('/', '-')}"
    state = {ARRAYS_FILE: pack_arrays({"fitted": np.ones(1)})}
    digest = write_model(
        folder, Manifest("load", "arrays", forecaster, SMALL_JOB.schema(), parameters), state
    )
    models.store.add(version, folder, digest, models.now, "train")


def test_champion_serves_else_previous_else_seasonal_naive(models):
    """A modified champion is refused once, the previous one then serves, and finally seasonal naive."""
    named = panel_until()
    assert forecast_load(named, 24, models.workspace).model == "seasonal_naive"
    for version in ("1", "2"):
        write_version(models, version)
        models.store.promote(version)
    assert forecast_load(named, 24, models.workspace).version == "2"
    (models.store.folder / "2" / ARRAYS_FILE).write_bytes(b"x")
    forecasts = forecast_load(named, 24, models.workspace)
    assert (forecasts.version, list(forecasts.refused)) == ("1", ["2"])
    assert forecast_load(named, 24, models.workspace).refused == {}
    (models.store.folder / "1" / "manifest.json").unlink()
    assert forecast_load(named, 24, models.workspace).version == ""
    assert np.isfinite(forecasts.values).all()


@pytest.mark.parametrize(
    ("kind", "message"), [("failing", "RuntimeError: the fake forecaster fails"), ("short", "(5, 1, 3)")]
)
def test_champion_that_fails_to_forecast_is_refused(models, kind, message):
    """A champion whose forecast fails is refused once with its reason, and the previous one serves."""
    write_version(models, "1")
    write_version(models, "2", kind)
    for version in ("1", "2"):
        models.store.promote(version)
    forecasts = forecast_load(panel_until(), 24, models.workspace)
    assert forecasts.version == "1"
    assert message in forecasts.refused["2"]
    assert forecast_load(panel_until(), 24, models.workspace).refused == {}


def test_version_that_is_a_path_is_refused(models):
    """A version name that is a path is refused, because it becomes a folder name."""
    other = models.folder / "other"
    other.mkdir()
    for name in ("../other", "..", ".lock", "", "a/b"):
        with pytest.raises(ModelRefusedError, match="is not a valid version"):
            write_version(models, name)
    assert other.is_dir()


def test_forecasts_are_written_and_read(models, tmp_path):
    """Written forecasts are read back; a broken file reads as None."""
    write_version(models, "1")
    models.store.set_challenger("1")
    forecasts = forecast_load(panel_until(), 24, models.workspace)
    write_forecasts(tmp_path / FORECASTS_FILE, forecasts)
    back = read_forecasts(tmp_path / FORECASTS_FILE)
    assert (back.names, back.version, back.challenger_version) == (forecasts.names, "", "1")
    np.testing.assert_allclose(back.values, forecasts.values, rtol=1e-6)
    np.testing.assert_array_equal(back.end, forecasts.end)
    (tmp_path / FORECASTS_FILE).write_bytes(b"broken")
    assert read_forecasts(tmp_path / FORECASTS_FILE) is None


def test_reference_is_compared_with_actual_values(models, tmp_path):
    """The reference is compared with the rows recorded since, and ends after the watch period."""
    then, now = panel_until(6), panel_until()
    forecasts = forecast_load(then, 24, models.workspace)
    assert update_live_accuracy(tmp_path, then, forecasts, 6 * 3600.0) == (None, [])
    accuracy, finished = update_live_accuracy(
        tmp_path, now, forecast_load(now, 24, models.workspace), 6 * 3600.0
    )
    assert (accuracy.rows, accuracy.version, finished) == (6, "", [accuracy])
    assert 0.05 < accuracy.error < 1.0
    assert past_accuracies(tmp_path) == [accuracy]
    perfect = np.broadcast_to(now.panel.y[-6:], (len(QUANTILES), 6, 3))
    ideal = measure_accuracy(replace(forecasts, values=perfect.copy()), now)
    assert ideal.error == pytest.approx(0.0)


def test_reference_of_another_step_is_replaced(models, tmp_path):
    """After a change of the step a new reference begins."""
    then = panel_from_history(load_history(), 7200.0, window_s=864_000.0).first_rows(114)
    update_live_accuracy(tmp_path, then, forecast_load(then, 12, models.workspace), 6 * 3600.0)
    now = panel_until(1)
    assert update_live_accuracy(tmp_path, now, forecast_load(now, 24, models.workspace), 6 * 3600.0) == (
        None,
        [],
    )
    accuracy, _ = update_live_accuracy(
        tmp_path, panel_until(), forecast_load(panel_until(), 24, models.workspace), 6 * 3600.0
    )
    assert accuracy.rows == 1


def test_missing_series_are_not_compared(models):
    """A forecast whose series are no longer recorded has no accuracy."""
    forecasts = forecast_load(panel_until(6), 24, models.workspace)
    assert measure_accuracy(replace(forecasts, names=("x", "y", "z")), panel_until()) is None
    other = NamedPanel(("a",), Panel(np.ones((5, 1)), np.array([HOUR]), 3600.0, np.ones(1, np.bool_)))
    assert measure_accuracy(forecasts, other) is None


@pytest.mark.parametrize(
    ("champion", "challenger", "rows", "reason"),
    [
        (0.5, 0.4, 6, ""),  # better
        (0.5, 0.505, 6, ""),  # equal within tolerance
        (0.5, 0.6, 6, "its loss in the shadow phase was 0.6"),  # worse
        (0.5, None, 6, "none of its forecasts"),  # no forecasts
        (0.5, 0.4, 5, None),  # too early
    ],
)
def test_shadow_phase_ends_with_a_decision(champion, challenger, rows, reason):
    """After the shadow phase a challenger that is no worse may replace the champion; a worse one may not."""
    result = shadow_result(
        [LiveAccuracy(0, rows, "1", champion, "2", challenger)], "1", "2", 6 * 3600.0, 3600.0
    )
    assert result == reason if reason in {"", None} else reason in result
    assert shadow_result([LiveAccuracy(0, 99, "1", 0.5, "3", 0.1)], "1", "2", 3600.0, 3600.0) is None


def test_drift_needs_two_bad_references():
    """Only two bad references of the serving version are drift."""
    bad, good = LiveAccuracy(0, 6, "1", 0.9, "", None), LiveAccuracy(0, 6, "1", 0.4, "", None)
    assert has_drifted([bad, bad], "1", 0.5)
    assert not has_drifted([bad, good], "1", 0.5)
    assert not has_drifted([bad, bad], "2", 0.5)
    assert not has_drifted([bad, bad], "1", None)
