"""What a tick leaves behind, and what happens when a store fails."""

import numpy as np

from tests.builders.series import anomaly_of, tick_scores
from tests.fakes.ports import FakeScoreLog, FakeSnapshots, FakeStore
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.errors import StoreError
from trimtab.engine.runtime.persistence import MAX_PENDING_SCORES, Persistence
from trimtab.engine.types import SeriesKey

KEYS = (SeriesKey("x", "a"), SeriesKey("x", "b"))


def make_persistence():
    """A keeper over fakes."""
    return Persistence("x", FakeStore(), FakeScoreLog(), FakeSnapshots())


def test_logged_ticks_come_back_as_they_were():
    """Whole, partial and unknown ticks are read back the same, with the very same tuple of keys."""
    k = make_persistence()
    ticks = [
        ClosedTick(1, KEYS, np.array([1.0, np.nan]), complete=True),
        ClosedTick(2, KEYS, np.array([2.0, 3.0]), complete=False),
        ClosedTick(3, (), np.empty(0), complete=False),
        ClosedTick(4, KEYS, np.array([4.0, 5.0]), complete=False),
    ]
    for tick in ticks:
        k.log_tick(tick, 2.0)
    back, budgets = zip(*k.ticks_since_snapshot(), strict=True)
    assert budgets == (2.0, 2.0, None, 2.0)
    for mine, wanted in zip(back, ticks, strict=True):
        assert (mine.time, mine.keys, mine.complete, mine.unknown) == (
            wanted.time, wanted.keys, wanted.complete, wanted.unknown,
        )  # fmt: skip
        np.testing.assert_array_equal(mine.values, wanted.values)
    assert back[1].keys is back[3].keys


def test_anomalies_wait_for_the_store_in_their_newest_form():
    """While the store fails the newest form of each anomaly waits; then each is saved once."""
    k = make_persistence()
    k.store.broken = "no space left"
    k.save(KEYS, None, [anomaly_of(KEYS[0], "01A"), anomaly_of(KEYS[1], "01B")])
    k.save(KEYS, None, [anomaly_of(KEYS[0], "01A", end=9)])
    assert k.problem == "no space left"
    assert k.pending_count == 2
    k.store.broken = None
    k.problem = None
    k.save(KEYS, None, [])
    assert k.pending_count == 0
    assert k.store.by_id["01A"].end == 9


def test_scores_wait_up_to_a_bound_and_what_goes_is_counted(monkeypatch):
    """A score log that fails for long loses the oldest ticks, and says how many."""
    k = make_persistence()
    append = k.score_log.append

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(k.score_log, "append", full)
    for time in range(MAX_PENDING_SCORES + 10):
        k.save(KEYS, tick_scores("x", time, [1.0, 2.0]), [])
    assert k.dropped_count == 10
    monkeypatch.setattr(k.score_log, "append", append)
    k.save(KEYS, None, [])
    assert [row[0] for row in k.score_log.rows[KEYS[0].id]] == list(range(10, MAX_PENDING_SCORES + 10))


def test_a_tick_that_could_not_be_logged_asks_for_a_snapshot(monkeypatch):
    """After a hole in the log only a snapshot makes a restart exact."""
    k = make_persistence()

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(k.snapshots, "log_tick", full)
    k.log_tick(ClosedTick(1, KEYS, np.zeros(2), complete=True), 1.0)
    assert k.has_gap
    k.save_snapshot(1, {}, {})
    assert not k.has_gap


def test_no_snapshot_lets_ticks_go_whose_anomalies_wait():
    """While an anomaly waits for the store the ticks that made it stay in the log, for after a crash."""
    k = make_persistence()
    k.log_tick(ClosedTick(1, KEYS, np.zeros(2), complete=True), 1.0)
    k.store.broken = "no space left"
    k.save(KEYS, None, [anomaly_of(KEYS[0], "01A")])
    k.save_snapshot(1, {}, {})
    assert k.latest_snapshot() is None
    k.store.broken = None
    k.save_snapshot(1, {}, {})
    assert k.latest_snapshot() is not None
    assert "01A" in k.store.by_id
