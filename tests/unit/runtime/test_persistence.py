"""What a tick leaves behind, and what happens when a store fails."""

import numpy as np

from tests.builders.series import anomaly_of, tick_scores
from tests.fakes.ports import FakeScoreLog, FakeSnapshots, FakeStore
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.errors import StoreError
from trimtab.engine.runtime.persistence import SCORES_KEPT, Keeper
from trimtab.engine.types import SeriesKey

KEYS = (SeriesKey("x", "a"), SeriesKey("x", "b"))


def keeper():
    """A keeper over fakes."""
    return Keeper("x", FakeStore(), FakeScoreLog(), FakeSnapshots())


def test_logged_ticks_come_back_as_they_were():
    """Whole, partial and unknown ticks are read back the same, with the very same tuple of keys."""
    k = keeper()
    ticks = [
        ClosedTick(1, KEYS, np.array([1.0, np.nan]), complete=True),
        ClosedTick(2, KEYS, np.array([2.0, 3.0]), complete=False),
        ClosedTick(3, (), np.empty(0), complete=False),
        ClosedTick(4, KEYS, np.array([4.0, 5.0]), complete=False),
    ]
    for tick in ticks:
        k.log_tick(tick, 2.0)
    back, budgets = zip(*k.logged_ticks(), strict=True)
    assert budgets == (2.0, 2.0, None, 2.0)
    for mine, wanted in zip(back, ticks, strict=True):
        assert (mine.time, mine.keys, mine.complete, mine.unknown) == (
            wanted.time, wanted.keys, wanted.complete, wanted.unknown,
        )  # fmt: skip
        np.testing.assert_array_equal(mine.values, wanted.values)
    assert back[1].keys is back[3].keys


def test_anomalies_wait_for_the_store_in_their_newest_form():
    """While the store fails the newest form of each anomaly waits; then each is saved once."""
    k = keeper()
    k.store.broken = "no space left"
    k.keep(KEYS, None, [anomaly_of(KEYS[0], "01A"), anomaly_of(KEYS[1], "01B")])
    k.keep(KEYS, None, [anomaly_of(KEYS[0], "01A", end=9)])
    assert k.problem == "no space left"
    assert k.waiting == 2
    k.store.broken = None
    k.problem = None
    k.keep(KEYS, None, [])
    assert k.waiting == 0
    assert k.store.by_id["01A"].end == 9


def test_scores_wait_up_to_a_bound_and_what_goes_is_counted(monkeypatch):
    """A score log that fails for long loses the oldest ticks, and says how many."""
    k = keeper()
    append = k.score_log.append

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(k.score_log, "append", full)
    for time in range(SCORES_KEPT + 10):
        k.keep(KEYS, tick_scores("x", time, [1.0, 2.0]), [])
    assert k.dropped == 10
    monkeypatch.setattr(k.score_log, "append", append)
    k.keep(KEYS, None, [])
    assert [row[0] for row in k.score_log.rows[KEYS[0].id]] == list(range(10, SCORES_KEPT + 10))


def test_a_tick_that_could_not_be_logged_asks_for_a_snapshot(monkeypatch):
    """After a hole in the log only a snapshot makes a restart exact."""
    k = keeper()

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(k.snapshots, "log_tick", full)
    k.log_tick(ClosedTick(1, KEYS, np.zeros(2), complete=True), 1.0)
    assert k.hole
    k.snapshot(1, {}, {})
    assert not k.hole


def test_no_snapshot_lets_ticks_go_whose_anomalies_wait():
    """While an anomaly waits for the store the ticks that made it stay in the log, for after a crash."""
    k = keeper()
    k.log_tick(ClosedTick(1, KEYS, np.zeros(2), complete=True), 1.0)
    k.store.broken = "no space left"
    k.keep(KEYS, None, [anomaly_of(KEYS[0], "01A")])
    k.snapshot(1, {}, {})
    assert k.newest_state() is None
    k.store.broken = None
    k.snapshot(1, {}, {})
    assert k.newest_state() is not None
    assert "01A" in k.store.by_id
