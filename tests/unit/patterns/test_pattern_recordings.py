"""Recordings of real processes, in trouble and healthy, through the engine's own sensing: the short form.

`make trials` runs all of them (tests/acceptance/test_patterns.py).
"""

import numpy as np
import pytest

from tests.recordings.faults import HEALTHY, healthy
from tests.recordings.judge import first_matches
from tests.recordings.library import DATA, load, recorded, save, varied

TROUBLED = (
    "thrash_less_memory",
    "leak_under_teeth",
    "saturated_by_rate",
    "surge_double",
    "dependency_dies",
    "pool_postgresql",
    "backlog_slow_workers",
    "deploy_more_calls",
)
"""One of each pattern."""


@pytest.mark.parametrize("name", TROUBLED)
def test_trouble_is_recognised(name):
    """What really happened is told after it began, by its name, and nothing untrue beside it."""
    recording = load(DATA / f"{name}.parquet")
    early, found = first_matches(recording)
    assert early == {}
    assert set(recording.shows) <= set(found) <= {*recording.shows, *recording.may}


@pytest.mark.parametrize("name", ["quiet_full_cache", "quiet_batches", "quiet_waves_and_deploy"])
def test_quiet_times_show_nothing(name):
    """Real processes that do well, with a full cache, batches, waves and a deploy, show no pattern."""
    assert first_matches(load(DATA / f"{name}.parquet")) == ({}, {})


def test_habits_of_healthy_services_show_nothing():
    """Seasons, saw teeth, batches, deploys, full caches, warming up and spikes are no patterns."""
    told = {recording.name: first_matches(recording)[0] for recording in healthy(range(len(HEALTHY)))}
    assert all(matches == {} for matches in told.values())


def test_recordings_are_kept_whole(tmp_path):
    """What is saved is read back the same, to the precision of float32."""
    (recording,) = [r for r in recorded("development") if r.name == "deploy_errors"]
    save(recording, tmp_path)
    again = load(tmp_path / "deploy_errors.parquet")
    assert (again.infos, again.shows, again.onset, again.changes) == (
        recording.infos, recording.shows, recording.onset, recording.changes,
    )  # fmt: skip
    np.testing.assert_array_equal(again.values, recording.values)


def test_a_variation_is_the_same_trouble():
    """Noise, gaps, another pace and missing series change the values, not what happens in them."""
    recording = load(DATA / "surge.parquet")
    other = varied(recording, 1, noise=0.05, gaps=0.1, stretch=1.5, without=("python_gc",))
    assert other.onset == int(recording.onset * 1.5)
    assert other.shows == recording.shows
    assert len(other.values) == int(len(recording.values) * 1.5)
    assert len(other.infos) < len(recording.infos)
