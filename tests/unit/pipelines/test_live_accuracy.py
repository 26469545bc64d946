"""How forecasts turned out, what serves, and when a shadow ends."""

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


def named_until(hours_back=0):
    """The recorded past, up to some hours before its end."""
    whole = panel_from_history(load_history(), 3600.0, window_s=864_000.0)
    return whole.first_rows(whole.panel.y.shape[0] - hours_back)


def stored(models, version, forecaster="load", **parameters):
    """A version on the shelf."""
    folder = models.folder / f"made-{version.replace('/', '-')}"
    state = {ARRAYS_FILE: pack_arrays({"fitted": np.ones(1)})}
    digest = write_model(
        folder, Manifest("load", "arrays", forecaster, SMALL_JOB.schema(), parameters), state
    )
    models.store.add(version, folder, digest, models.now, "train")


def test_the_champion_serves_else_the_one_before_else_seasonal_naive(models):
    """A changed champion is refused, once; then the previous one serves, at last seasonal naive."""
    named = named_until()
    assert forecast_load(named, 24, models.workspace).model == "seasonal_naive"
    for version in ("1", "2"):
        stored(models, version)
        models.store.promote(version)
    assert forecast_load(named, 24, models.workspace).version == "2"
    (models.store.folder / "2" / ARRAYS_FILE).write_bytes(b"x")
    ahead = forecast_load(named, 24, models.workspace)
    assert (ahead.version, list(ahead.refused)) == ("1", ["2"])
    assert forecast_load(named, 24, models.workspace).refused == {}
    (models.store.folder / "1" / "manifest.json").unlink()
    assert forecast_load(named, 24, models.workspace).version == ""
    assert np.isfinite(ahead.values).all()


@pytest.mark.parametrize(
    ("kind", "words"), [("failing", "RuntimeError: out of luck"), ("short", "(5, 1, 3)")]
)
def test_a_champion_that_fails_at_its_work_is_refused(models, kind, words):
    """It can be read, but its forecasts are none: the one before serves, and it is said why, once."""
    stored(models, "1")
    stored(models, "2", kind)
    for version in ("1", "2"):
        models.store.promote(version)
    ahead = forecast_load(named_until(), 24, models.workspace)
    assert ahead.version == "1"
    assert words in ahead.refused["2"]
    assert forecast_load(named_until(), 24, models.workspace).refused == {}


def test_a_version_whose_name_leads_elsewhere_is_refused(models):
    """What a registry calls a version becomes a folder: it stays among the others."""
    other = models.folder / "other"
    other.mkdir()
    for name in ("../other", "..", ".lock", "", "a/b"):
        with pytest.raises(ModelRefusedError, match="no name of a version"):
            stored(models, name)
    assert other.is_dir()


def test_forecasts_are_kept_whole(models, tmp_path):
    """What is written is read back; a broken file is none."""
    stored(models, "1")
    models.store.challenge("1")
    ahead = forecast_load(named_until(), 24, models.workspace)
    write_forecasts(tmp_path / FORECASTS_FILE, ahead)
    back = read_forecasts(tmp_path / FORECASTS_FILE)
    assert (back.names, back.version, back.challenger_version) == (ahead.names, "", "1")
    np.testing.assert_allclose(back.values, ahead.values, rtol=1e-6)
    np.testing.assert_array_equal(back.end, ahead.end)
    (tmp_path / FORECASTS_FILE).write_bytes(b"broken")
    assert read_forecasts(tmp_path / FORECASTS_FILE) is None


def test_a_forecast_is_held_against_what_came(models, tmp_path):
    """The reference is compared with the rows since, and is over once it was watched for long enough."""
    then, now = named_until(6), named_until()
    ahead = forecast_load(then, 24, models.workspace)
    assert update_live_accuracy(tmp_path, then, ahead, 6 * 3600.0) == (None, [])
    seen, over = update_live_accuracy(tmp_path, now, forecast_load(now, 24, models.workspace), 6 * 3600.0)
    assert (seen.rows, seen.version, over) == (6, "", [seen])
    assert 0.05 < seen.error < 1.0
    assert past_accuracies(tmp_path) == [seen]
    perfect = np.broadcast_to(now.panel.y[-6:], (len(QUANTILES), 6, 3))
    ideal = measure_accuracy(replace(ahead, values=perfect.copy()), now)
    assert ideal.error == pytest.approx(0.0)


def test_forecasts_of_another_step_are_not_held_against_what_came(models, tmp_path):
    """After a change of the step the reference begins anew: its rows are of other times."""
    then = panel_from_history(load_history(), 7200.0, window_s=864_000.0).first_rows(114)
    update_live_accuracy(tmp_path, then, forecast_load(then, 12, models.workspace), 6 * 3600.0)
    now = named_until(1)
    assert update_live_accuracy(tmp_path, now, forecast_load(now, 24, models.workspace), 6 * 3600.0) == (
        None,
        [],
    )
    seen, _ = update_live_accuracy(
        tmp_path, named_until(), forecast_load(named_until(), 24, models.workspace), 6 * 3600.0
    )
    assert seen.rows == 1


def test_a_series_that_left_is_not_compared(models):
    """Where no series of a forecast is recorded any more nothing is said of it."""
    ahead = forecast_load(named_until(6), 24, models.workspace)
    assert measure_accuracy(replace(ahead, names=("x", "y", "z")), named_until()) is None
    other = NamedPanel(("a",), Panel(np.ones((5, 1)), np.array([HOUR]), 3600.0, np.ones(1, np.bool_)))
    assert measure_accuracy(ahead, other) is None


@pytest.mark.parametrize(
    ("champion", "challenger", "rows", "why"),
    [
        (0.5, 0.4, 6, ""),  # better
        (0.5, 0.505, 6, ""),  # as good, but for chance
        (0.5, 0.6, 6, "its loss was 0.6"),  # worse
        (0.5, None, 6, "nothing that it forecast"),  # it said nothing
        (0.5, 0.4, 5, None),  # too early
    ],
)
def test_a_shadow_ends_after_its_time(champion, challenger, rows, why):
    """A challenger may take the place of a champion that it was no worse than, for long enough."""
    told = shadow_result(
        [LiveAccuracy(0, rows, "1", champion, "2", challenger)], "1", "2", 6 * 3600.0, 3600.0
    )
    assert told == why if why in {"", None} else why in told
    assert shadow_result([LiveAccuracy(0, 99, "1", 0.5, "3", 0.1)], "1", "2", 3600.0, 3600.0) is None


def test_drift_is_told_after_two_bad_references_of_what_serves():
    """One bad stretch, or bad ones of another version, are no drift; without a figure nothing is known."""
    bad, good = LiveAccuracy(0, 6, "1", 0.9, "", None), LiveAccuracy(0, 6, "1", 0.4, "", None)
    assert has_drifted([bad, bad], "1", 0.5)
    assert not has_drifted([bad, good], "1", 0.5)
    assert not has_drifted([bad, bad], "2", 0.5)
    assert not has_drifted([bad, bad], "1", None)
