"""Anomalies by score and by absence: opening, content and closing."""

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
    """Replace the scorer by one with predictable scores."""
    monkeypatch.setattr(source_scoring, "Scorer", PlainScorer)


def test_a_spike_is_one_anomaly_with_its_band():
    """A spike opens one anomaly with its expected range; the anomaly closes after the spike."""
    harness = DetectorHarness(A, B)
    harness.run(300)
    start = harness.now
    harness.run(4, a=60.0)
    (anomaly,) = harness.anomalies()
    assert anomaly.series_id == A.id
    assert anomaly.start == start
    assert anomaly.end is None
    assert anomaly.direction is Direction.ABOVE
    assert anomaly.lower <= anomaly.expected <= anomaly.upper < anomaly.value
    assert anomaly.score > 1
    assert anomaly.detectors
    assert harness.last.open_ids == {0: anomaly.id}
    harness.run(60)
    (closed,) = harness.anomalies()
    assert closed.id == anomaly.id
    assert closed.reason == "recovered"
    assert closed.end is not None
    assert closed.start <= closed.peak_time <= closed.end
    assert harness.last.open_ids == {}


def test_anomalies_before_1970_have_ids():
    """Anomalies before 1970 have their own ids and correct times."""
    harness = DetectorHarness(A, B)
    harness.ticks = -round(START / SECOND / INTERVAL_S) - 400
    harness.run(300)
    start = harness.now
    harness.run(4, a=60.0, b=60.0)
    harness.run(60)
    first, second = harness.anomalies()
    assert first.start == second.start == start < 0
    assert first.reason == second.reason == "recovered"
    assert first.id != second.id
    assert ULID.from_str(first.id).milliseconds == 0


def test_a_drop_is_below():
    """A value below its expected range is an anomaly with direction below."""
    harness = DetectorHarness(A)
    harness.run(300)
    harness.run(3, a=-60.0)
    assert harness.anomalies()[0].direction is Direction.BELOW


def test_lasting_shift_is_accepted():
    """A lasting level shift is learned and closes its anomaly."""
    harness = DetectorHarness(A)
    harness.run(300)
    harness.run(1000, a=60.0)
    (shift,) = harness.anomalies()
    assert shift.reason == "level shift accepted"
    assert shift.end - shift.start == 143 * INTERVAL_S * SECOND
    assert harness.last.open_ids == {}


def test_ids_are_ulids_in_order_of_start():
    """Ids sort by start and are reproducible."""
    harnesses = [DetectorHarness(A, B), DetectorHarness(A, B)]
    for harness in harnesses:
        harness.run(300)
        harness.run(2, a=60.0)
        harness.run(2, a=60.0, b=60.0)
        harness.run(60)
    first, second = harnesses[0].anomalies()
    assert first.start < second.start
    assert first.id < second.id
    assert ULID.from_str(first.id).milliseconds == first.start // 1_000_000
    assert [a.id for a in harnesses[1].anomalies()] == [first.id, second.id]


def test_established_series_is_absent_and_returns():
    """An established series is absent within 3 intervals; its return closes the anomaly."""
    harness = DetectorHarness(A, B)
    harness.run(100)
    last_time = harness.now
    harness.keys = (B,)
    harness.run(1)
    assert harness.anomalies() == []
    harness.run(1)
    (absence,) = harness.anomalies()
    assert absence.start == last_time
    assert (absence.series_id, absence.direction, absence.end) == (A.id, Direction.ABSENT, None)
    assert absence.score >= 1
    assert np.isnan(absence.value)
    assert abs(absence.expected - 10) < 2
    assert harness.last.visible.tolist() == [True, True]
    harness.run(20)
    harness.keys = (A, B)
    harness.run(1)
    (returned,) = harness.anomalies()
    assert returned.reason == "returned"
    assert returned.end is not None


def test_open_anomaly_ends_when_its_series_disappears():
    """An open anomaly ends where the absence of its series begins."""
    harness = DetectorHarness(A, B)
    harness.run(300)
    harness.run(3, a=60.0)
    harness.keys = (B,)
    harness.run(3)
    high, absent = harness.anomalies()
    assert high.reason == "vanished"
    assert absent.direction is Direction.ABSENT
    assert absent.end is None


def test_a_late_replacement_ends_an_absence():
    """A replacement closes the absence and inherits the learned state."""
    harness = DetectorHarness(A, B)
    harness.run(100)
    harness.keys = (B,)
    harness.run(30)
    harness.keys = (B, pod_series("requests", "d"))
    after = harness.run(1)
    (absence,) = harness.anomalies()
    assert absence.reason == "replaced"
    assert after.learning_ticks[after.keys.index(pod_series("requests", "d"))] == 0


def test_removed_target_is_absent_two_scrapes_later():
    """Series of a target without any remaining series become absent two scrapes later."""
    up, depth, other = (
        pod_series(name, "a", job="x", instance=i) for name, i in (("up", "1"), ("q", "1"), ("up", "2"))
    )
    harness = DetectorHarness(up, depth, other)
    harness.run(100)
    harness.keys = (up, other)
    harness.run(2)
    assert [a.series_id for a in harness.anomalies()] == [depth.id]
    harness.keys = (other,)
    harness.run(3)
    assert len(harness.anomalies()) == 1
    harness.run(1)
    assert [a.series_id for a in harness.anomalies()] == [depth.id, up.id]


def test_new_series_are_not_absent():
    """A series with few ticks may disappear without an anomaly."""
    harness = DetectorHarness(A, B)
    harness.run(20)
    harness.keys = (B,)
    harness.run(20)
    assert harness.anomalies() == []


def test_sparse_series_are_never_absent():
    """A sparse series is never absent."""
    harness = DetectorHarness(A, B)
    for _ in range(30):
        harness.keys = (A, B)
        harness.run(4)
        harness.keys = (B,)
        harness.run(4)
    assert harness.anomalies("absent") == []


def test_only_long_lived_series_of_a_changing_metric_are_absent():
    """Of a metric whose series often disappear, only long-lived series are reported absent."""
    harness = DetectorHarness(A)
    for i in range(6):
        harness.keys = (A, pod_series("requests", f"job{i}", job=str(i)))
        harness.run(10)
    harness.keys = (A, pod_series("requests", "job", job="longer"))
    harness.run(100)
    harness.keys = (A,)
    harness.run(720)
    assert harness.anomalies() == []
    harness.keys = (pod_series("requests", "job", job="last"),)
    harness.run(4)
    assert [a.series_id for a in harness.anomalies()] == [A.id]


def test_source_outage_changes_no_anomaly():
    """P5: neither the outage nor the return of a source opens or closes an anomaly."""
    harness = DetectorHarness(A, B, C)
    harness.run(300)
    harness.run(3, a=60.0)
    before = harness.anomalies()
    harness.fail(20)
    assert harness.anomalies() == before
    harness.keys = (A, B)
    harness.run(5, a=60.0, b=40.0)
    harness.keys = (A, B, C)
    harness.run(5, a=60.0, b=40.0, c=-40.0)
    assert harness.anomalies() == before


def test_deviation_after_a_gap_is_no_anomaly():
    """After a gap, a series opens anomalies only after it was normal once."""
    harness = DetectorHarness(A, B)
    harness.run(300)
    harness.fail(5)
    after = harness.run(3, a=60.0)
    assert after.scores.anomaly_score[0] > 1
    assert harness.anomalies() == []
    harness.run(10)
    harness.run(3, a=60.0)
    assert len(harness.anomalies()) == 1


def test_series_missing_after_an_outage_is_absent():
    """A series that does not return with its source is reported absent later than usual."""
    harness = DetectorHarness(A, B)
    harness.run(100)
    harness.fail(5)
    harness.keys = (B,)
    harness.run(9)
    assert harness.anomalies() == []
    harness.run(1)
    assert [a.series_id for a in harness.anomalies("absent")] == [A.id]


def test_long_time_without_ticks_is_a_gap():
    """A long time without ticks counts as an outage of the source."""
    harness = DetectorHarness(A, B)
    harness.run(300)
    harness.ticks += 500
    harness.run(3, a=60.0)
    assert harness.anomalies() == []


def test_incomplete_scrape_changes_no_anomaly():
    """An incomplete scrape opens and closes no anomaly."""
    harness = DetectorHarness(A, B)
    harness.run(300)
    harness.run(2, a=60.0)
    before = harness.anomalies()
    harness.keys = (A,)
    harness.run(30, complete=False)
    assert harness.anomalies() == before


def test_removed_source_closes_its_anomalies():
    """Removing a source closes its anomalies."""
    harness = DetectorHarness(A, B)
    harness.run(300)
    harness.run(2, a=60.0)
    assert len(harness.anomalies()) == 1
    (ended,) = harness.detector.anomalies.close_all(harness.now, "source removed")
    assert (ended.end, ended.reason) == (harness.now, "source removed")


def test_transient_series_are_never_absent():
    """A transient series is never reported absent."""
    transient = pod_series("process_memory", "a")

    def info(key):
        return SeriesInfo(key, is_transient=key.metric.startswith("process_"))

    harness = DetectorHarness(
        transient,
        pod_series("requests", "b"),
        detector=SourceDetector("k", INTERVAL_S, differs_only_in_pod, info=info),
    )
    harness.run(300)
    harness.keys = harness.keys[1:]
    harness.run(20)
    assert harness.anomalies("absent") == []
