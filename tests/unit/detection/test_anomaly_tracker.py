"""Anomalies by score and by absence: when they open, what they contain, when they close."""

import numpy as np
import pytest
from ulid import ULID

from tests.builders.detected_series import (
    INTERVAL_S,
    SECOND,
    START,
    DetectorHarness,
    PlainScorer,
    differs_only_in_pod,
    pod_series,
)
from trimtab.engine.detection import source_scoring
from trimtab.engine.detection.source_detector import SourceDetector
from trimtab.engine.types import Direction, SeriesInfo

pytestmark = pytest.mark.usefixtures("plain_scores")
A, B, C = (pod_series("requests", name) for name in "abc")


@pytest.fixture
def plain_scores(monkeypatch):
    """Scores that a test can predict."""
    monkeypatch.setattr(source_scoring, "Scorer", PlainScorer)


def test_a_spike_is_one_anomaly_with_its_band():
    """A spike opens one anomaly with its expected band, which closes after it."""
    w = DetectorHarness(A, B)
    w.run(300)
    begin = w.now
    w.run(4, a=60.0)
    (anomaly,) = w.anomalies()
    assert anomaly.series_id == A.id
    assert anomaly.start == begin
    assert anomaly.end is None
    assert anomaly.direction is Direction.ABOVE
    assert anomaly.lower <= anomaly.expected <= anomaly.upper < anomaly.value
    assert anomaly.score > 1
    assert anomaly.detectors
    assert w.last.open_ids == {0: anomaly.id}
    w.run(60)
    (closed,) = w.anomalies()
    assert closed.id == anomaly.id
    assert closed.reason == "recovered"
    assert closed.end is not None
    assert closed.start <= closed.peak_time <= closed.end
    assert w.last.open_ids == {}


def test_a_recording_from_before_1970_has_anomalies_too():
    """Anomalies before 1970 have their own ids and correct times."""
    w = DetectorHarness(A, B)
    w.ticks = -round(START / SECOND / INTERVAL_S) - 400
    w.run(300)
    begin = w.now
    w.run(4, a=60.0, b=60.0)
    w.run(60)
    first, second = w.anomalies()
    assert first.start == second.start == begin < 0
    assert first.reason == second.reason == "recovered"
    assert first.id != second.id
    assert ULID.from_str(first.id).milliseconds == 0


def test_a_drop_is_below():
    """A value under its band is an anomaly below."""
    w = DetectorHarness(A)
    w.run(300)
    w.run(3, a=-60.0)
    assert w.anomalies()[0].direction is Direction.BELOW


def test_a_lasting_shift_ends_as_accepted():
    """A lasting level is learned and closes its anomaly."""
    w = DetectorHarness(A)
    w.run(300)
    w.run(1000, a=60.0)
    (shift,) = w.anomalies()
    assert shift.reason == "level shift accepted"
    assert shift.end - shift.start == 143 * INTERVAL_S * SECOND
    assert w.last.open_ids == {}


def test_ids_are_ulids_in_order_of_start():
    """Ids sort by start and are reproducible."""
    worlds = [DetectorHarness(A, B), DetectorHarness(A, B)]
    for w in worlds:
        w.run(300)
        w.run(2, a=60.0)
        w.run(2, a=60.0, b=60.0)
        w.run(60)
    first, second = worlds[0].anomalies()
    assert first.start < second.start
    assert first.id < second.id
    assert ULID.from_str(first.id).milliseconds == first.start // 1_000_000
    assert [a.id for a in worlds[1].anomalies()] == [first.id, second.id]


def test_established_series_is_absent_and_returns():
    """An established series that disappears is absent within 3 intervals; its return closes the anomaly."""
    w = DetectorHarness(A, B)
    w.run(100)
    gone = w.now
    w.keys = (B,)
    w.run(1)
    assert w.anomalies() == []
    w.run(1)
    (missed,) = w.anomalies()
    assert missed.start == gone
    assert (missed.series_id, missed.direction, missed.end) == (A.id, Direction.ABSENT, None)
    assert missed.score >= 1
    assert np.isnan(missed.value)
    assert abs(missed.expected - 10) < 2
    assert w.last.visible.tolist() == [True, True]
    w.run(20)
    w.keys = (A, B)
    w.run(1)
    (back,) = w.anomalies()
    assert back.reason == "returned"
    assert back.end is not None


def test_an_anomaly_of_a_series_that_vanishes_ends():
    """An open anomaly ends where the absence of its series begins."""
    w = DetectorHarness(A, B)
    w.run(300)
    w.run(3, a=60.0)
    w.keys = (B,)
    w.run(3)
    high, absent = w.anomalies()
    assert high.reason == "vanished"
    assert absent.direction is Direction.ABSENT
    assert absent.end is None


def test_a_late_replacement_ends_an_absence():
    """A replacement closes the absence and inherits the learned state."""
    w = DetectorHarness(A, B)
    w.run(100)
    w.keys = (B,)
    w.run(30)
    w.keys = (B, pod_series("requests", "d"))
    after = w.run(1)
    (absence,) = w.anomalies()
    assert absence.reason == "replaced"
    assert after.learning_ticks[after.keys.index(pod_series("requests", "d"))] == 0


def test_a_target_that_is_gone_altogether_is_given_more_time():
    """Series of a target without any series left are absent two scrapes later."""
    up, depth, other = (
        pod_series(name, "a", job="x", instance=i) for name, i in (("up", "1"), ("q", "1"), ("up", "2"))
    )
    w = DetectorHarness(up, depth, other)
    w.run(100)
    w.keys = (up, other)
    w.run(2)
    assert [a.series_id for a in w.anomalies()] == [depth.id]
    w.keys = (other,)
    w.run(3)
    assert len(w.anomalies()) == 1
    w.run(1)
    assert [a.series_id for a in w.anomalies()] == [depth.id, up.id]


def test_new_series_are_not_absent():
    """A series with few ticks may disappear without an anomaly."""
    w = DetectorHarness(A, B)
    w.run(20)
    w.keys = (B,)
    w.run(20)
    assert w.anomalies() == []


def test_sparse_series_are_not_missed():
    """A sparse series is never absent."""
    w = DetectorHarness(A, B)
    for _ in range(30):
        w.keys = (A, B)
        w.run(4)
        w.keys = (B,)
        w.run(4)
    assert w.anomalies("absent") == []


def test_only_long_lived_series_are_absent_where_many_leave():
    """Of a metric whose series often leave, only a long-lived one is reported absent."""
    w = DetectorHarness(A)
    for i in range(6):
        w.keys = (A, pod_series("requests", f"job{i}", job=str(i)))
        w.run(10)
    w.keys = (A, pod_series("requests", "job", job="longer"))
    w.run(100)
    w.keys = (A,)
    w.run(720)
    assert w.anomalies() == []
    w.keys = (pod_series("requests", "job", job="last"),)
    w.run(4)
    assert [a.series_id for a in w.anomalies()] == [A.id]


def test_an_outage_opens_and_closes_nothing():
    """P5: an unavailable source opens and closes no anomaly, and neither does its return."""
    w = DetectorHarness(A, B, C)
    w.run(300)
    w.run(3, a=60.0)
    before = w.anomalies()
    w.fail(20)
    assert w.anomalies() == before
    w.keys = (A, B)
    w.run(5, a=60.0, b=40.0)
    w.keys = (A, B, C)
    w.run(5, a=60.0, b=40.0, c=-40.0)
    assert w.anomalies() == before


def test_deviation_after_a_gap_is_no_anomaly():
    """After a gap a series opens anomalies again once it was normal."""
    w = DetectorHarness(A, B)
    w.run(300)
    w.fail(5)
    after = w.run(3, a=60.0)
    assert after.scores.anomaly_score[0] > 1
    assert w.anomalies() == []
    w.run(10)
    w.run(3, a=60.0)
    assert len(w.anomalies()) == 1


def test_a_series_that_stays_away_after_an_outage_is_missed():
    """A series that does not return with its source is reported absent later than usual."""
    w = DetectorHarness(A, B)
    w.run(100)
    w.fail(5)
    w.keys = (B,)
    w.run(9)
    assert w.anomalies() == []
    w.run(1)
    assert [a.series_id for a in w.anomalies("absent")] == [A.id]


def test_long_time_without_ticks_is_a_gap():
    """A long time without ticks counts as an unavailable source."""
    w = DetectorHarness(A, B)
    w.run(300)
    w.ticks += 500
    w.run(3, a=60.0)
    assert w.anomalies() == []


def test_a_partial_answer_opens_and_closes_nothing():
    """An incomplete scrape opens and closes no anomaly."""
    w = DetectorHarness(A, B)
    w.run(300)
    w.run(2, a=60.0)
    before = w.anomalies()
    w.keys = (A,)
    w.run(30, complete=False)
    assert w.anomalies() == before


def test_everything_ends_with_its_source():
    """Removing a source closes its anomalies."""
    w = DetectorHarness(A, B)
    w.run(300)
    w.run(2, a=60.0)
    assert len(w.anomalies()) == 1
    (ended,) = w.detector.anomalies.close_all(w.now, "source removed")
    assert (ended.end, ended.reason) == (w.now, "source removed")


def test_transient_series_are_never_absent():
    """A transient series is never reported absent."""
    sometimes = pod_series("process_memory", "a")

    def info(key):
        return SeriesInfo(key, is_transient=key.metric.startswith("process_"))

    w = DetectorHarness(
        sometimes,
        pod_series("requests", "b"),
        detector=SourceDetector("k", INTERVAL_S, differs_only_in_pod, info=info),
    )
    w.run(300)
    w.keys = w.keys[1:]
    w.run(20)
    assert w.anomalies("absent") == []
