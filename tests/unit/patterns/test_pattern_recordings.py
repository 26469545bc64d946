"""Pattern recognition on recordings of real processes, one per pattern and a few healthy ones.

`make trials` runs all recordings (tests/acceptance/test_patterns.py).
"""

import numpy as np
import pytest

from tests.recordings.faults import HEALTHY, healthy
from tests.recordings.judge import first_matches
from tests.recordings.library import DATA, load, recorded, save, varied

FAULTY = (
    "thrash_less_memory",
    "leak_under_teeth",
    "saturated_by_rate",
    "surge_double",
    "dependency_dies",
    "pool_postgresql",
    "backlog_slow_workers",
    "deploy_more_calls",
)
"""One recording per pattern."""


@pytest.mark.parametrize("name", FAULTY)
def test_recorded_fault_is_recognized(name):
    """A recorded fault is recognized by its pattern after its onset, and no wrong pattern is."""
    recording = load(DATA / f"{name}.parquet")
    early, found = first_matches(recording)
    assert early == {}
    assert set(recording.shows) <= set(found) <= {*recording.shows, *recording.may}


@pytest.mark.parametrize("name", ["quiet_full_cache", "quiet_batches", "quiet_waves_and_deploy"])
def test_healthy_recordings_show_no_pattern(name):
    """Recordings of healthy processes (full cache, batches, waves, a deploy) show no pattern."""
    assert first_matches(load(DATA / f"{name}.parquet")) == ({}, {})


def test_normal_behaviour_shows_no_pattern():
    """Seasons, saw teeth, batches, deploys, full caches, warm-ups and spikes are no patterns."""
    early_matches = {
        recording.name: first_matches(recording)[0] for recording in healthy(range(len(HEALTHY)))
    }
    assert all(matches == {} for matches in early_matches.values())


def test_saved_recording_is_read_back(tmp_path):
    """A saved recording is read back unchanged, to float32 precision."""
    (recording,) = [r for r in recorded("development") if r.name == "deploy_errors"]
    save(recording, tmp_path)
    loaded = load(tmp_path / "deploy_errors.parquet")
    assert (loaded.infos, loaded.shows, loaded.onset, loaded.changes) == (
        recording.infos, recording.shows, recording.onset, recording.changes,
    )  # fmt: skip
    np.testing.assert_array_equal(loaded.values, recording.values)


def test_variation_keeps_the_fault():
    """Noise, gaps, time stretching and missing series change a recording's values, not its pattern."""
    recording = load(DATA / "surge.parquet")
    variation = varied(recording, 1, noise=0.05, gaps=0.1, stretch=1.5, without=("python_gc",))
    assert variation.onset == int(recording.onset * 1.5)
    assert variation.shows == recording.shows
    assert len(variation.values) == int(len(recording.values) * 1.5)
    assert len(variation.infos) < len(recording.infos)
