"""Persistence of ticks, scores and anomalies, with failing stores."""

import numpy as np

from tests.builders.series import anomaly_of, tick_scores
from tests.fakes.ports import FakeScoreLog, FakeSnapshots, FakeStore
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.errors import StoreError
from trimtab.engine.runtime.persistence import MAX_PENDING_SCORES, Persistence
from trimtab.engine.types import SeriesKey

KEYS = (SeriesKey("x", "a"), SeriesKey("x", "b"))


def make_persistence():
    """Return a persistence over fake stores."""
    return Persistence("x", FakeStore(), FakeScoreLog(), FakeSnapshots())


def test_logged_ticks_are_read_back_unchanged():
    """Complete, partial and unknown ticks are read back unchanged, with the same tuple of keys."""
    persistence = make_persistence()
    ticks = [
        ClosedTick(1, KEYS, np.array([1.0, np.nan]), complete=True),
        ClosedTick(2, KEYS, np.array([2.0, 3.0]), complete=False),
        ClosedTick(3, (), np.empty(0), complete=False),
        ClosedTick(4, KEYS, np.array([4.0, 5.0]), complete=False),
    ]
    for tick in ticks:
        persistence.log_tick(tick, 2.0)
    restored, budgets = zip(*persistence.ticks_since_snapshot(), strict=True)
    assert budgets == (2.0, 2.0, None, 2.0)
    for actual, expected in zip(restored, ticks, strict=True):
        assert (actual.time, actual.keys, actual.complete, actual.is_unknown) == (
            expected.time, expected.keys, expected.complete, expected.is_unknown,
        )  # fmt: skip
        np.testing.assert_array_equal(actual.values, expected.values)
    assert restored[1].keys is restored[3].keys


def test_pending_anomalies_are_saved_in_their_newest_form():
    """While the store fails, the newest form of each anomaly is pending; then each is saved once."""
    persistence = make_persistence()
    persistence.store.broken = "no space left"
    persistence.save(KEYS, None, [anomaly_of(KEYS[0], "01A"), anomaly_of(KEYS[1], "01B")])
    persistence.save(KEYS, None, [anomaly_of(KEYS[0], "01A", end=9)])
    assert persistence.problem == "no space left"
    assert persistence.pending_count == 2
    persistence.store.broken = None
    persistence.problem = None
    persistence.save(KEYS, None, [])
    assert persistence.pending_count == 0
    assert persistence.store.by_id["01A"].end == 9


def test_pending_scores_are_bounded_and_drops_are_counted(monkeypatch):
    """A score log that fails for long loses the oldest ticks; the losses are counted."""
    persistence = make_persistence()
    append = persistence.score_log.append

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(persistence.score_log, "append", full)
    for time in range(MAX_PENDING_SCORES + 10):
        persistence.save(KEYS, tick_scores("x", time, [1.0, 2.0]), [])
    assert persistence.dropped_count == 10
    monkeypatch.setattr(persistence.score_log, "append", append)
    persistence.save(KEYS, None, [])
    assert [row[0] for row in persistence.score_log.rows[KEYS[0].id]] == list(
        range(10, MAX_PENDING_SCORES + 10)
    )


def test_a_tick_that_was_not_logged_requires_a_snapshot(monkeypatch):
    """A gap in the log is closed by the next snapshot."""
    persistence = make_persistence()

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(persistence.snapshots, "log_tick", full)
    persistence.log_tick(ClosedTick(1, KEYS, np.zeros(2), complete=True), 1.0)
    assert persistence.has_gap
    persistence.save_snapshot(1, {}, {})
    assert not persistence.has_gap


def test_no_snapshot_is_saved_while_anomalies_are_pending():
    """While an anomaly is pending no snapshot is saved, so its ticks stay in the log for a restart."""
    persistence = make_persistence()
    persistence.log_tick(ClosedTick(1, KEYS, np.zeros(2), complete=True), 1.0)
    persistence.store.broken = "no space left"
    persistence.save(KEYS, None, [anomaly_of(KEYS[0], "01A")])
    persistence.save_snapshot(1, {}, {})
    assert persistence.latest_snapshot() is None
    persistence.store.broken = None
    persistence.save_snapshot(1, {}, {})
    assert persistence.latest_snapshot() is not None
    assert "01A" in persistence.store.by_id
