"""Detection for one source: slots, learning, inheritance, history, state."""

import numpy as np
import pytest

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
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.types import History, SeriesInfo
from trimtab.models.errors import StateError

A, B, C = (pod_series("requests", name) for name in "abc")


@pytest.fixture
def plain_scores(monkeypatch):
    """Replace the scorer by one with predictable scores."""
    monkeypatch.setattr(source_scoring, "Scorer", PlainScorer)


def test_series_keep_their_slots():
    """Each series keeps its slot when the order of keys changes."""
    harness = DetectorHarness(A, B)
    harness.feed(ClosedTick(harness.now, (A, B), np.array([1.0, 2.0]), complete=True))
    harness.feed(ClosedTick(harness.now, (C, B, A), np.array([3.0, 4.0, 5.0]), complete=True))
    assert harness.last.keys == (A, B, C)
    assert harness.last.scores.values.tolist() == [5.0, 4.0, 3.0]
    assert harness.last.new_slots.tolist() == [2]


def test_unchanged_keys_are_the_identical_tuple():
    """The tuple of keys is identical while no series is added or removed."""
    harness = DetectorHarness(A, B)
    assert harness.run(1).keys is harness.run(1).keys


def test_new_series_report_their_remaining_warm_up():
    """A new series reports how many samples it needs until it is scored."""
    harness = DetectorHarness(A)
    first = harness.run(1)
    assert first.learning_ticks[0] > 0
    assert np.isnan(first.scores.anomaly_score[0])
    assert harness.run(60).learning_ticks[0] == 0
    assert np.isfinite(harness.last.scores.anomaly_score[0])


def test_slots_grow_with_the_series():
    """The number of slots grows, and existing slots keep their learned state."""
    initial = tuple(pod_series("m", f"p{i}") for i in range(10))
    harness = DetectorHarness(*initial)
    harness.run(60)
    harness.keys = tuple(pod_series("m", f"p{i}") for i in range(200))
    after = harness.run(1)
    assert len(after.keys) == 200
    assert np.isfinite(after.scores.anomaly_score[:10]).all()
    assert np.isnan(after.scores.anomaly_score[10:]).all()


def test_incomplete_scrape_is_not_learned(plain_scores):  # noqa: ARG001 - a fixture
    """An incomplete scrape changes no learned state."""
    harness = DetectorHarness(A, B)
    harness.run(60)
    before, _ = harness.detector.state()
    harness.run(5, complete=False)
    after, _ = harness.detector.state()
    learned = [name for name in before if name.startswith("scorer/")]
    assert all(
        np.array_equal(before[n], after[n], equal_nan=True) for n in learned if "/mean" in n or "/var" in n
    )


def test_an_unknown_tick_has_no_scores():
    """All scores and values of an unknown tick are NaN."""
    harness = DetectorHarness(A, B)
    harness.run(60)
    unknown = harness.fail(1)
    assert np.isnan(unknown.scores.values).all()
    assert np.isnan(unknown.scores.anomaly_score).all()
    assert not unknown.complete
    assert unknown.visible.all()


def test_replacement_inherits_the_learned_state():
    """A replacement pod is scored at once, and no absence is reported."""
    harness = DetectorHarness(A, B)
    harness.run(100)
    harness.keys = (B,)
    harness.run(1)
    harness.keys = (B, pod_series("requests", "d"))
    after = harness.run(2)
    slot = after.keys.index(pod_series("requests", "d"))
    assert after.learning_ticks[slot] == 0
    assert harness.anomalies() == []
    assert after.visible.sum() == 2


def test_overlapping_replacement_inherits_the_learned_state():
    """In a rolling update, a new pod that starts before the old one ends inherits its learned state."""
    harness = DetectorHarness(A)
    harness.run(100)
    harness.keys = (A, C)
    harness.run(5)
    harness.keys = (C,)
    after = harness.run(3)
    assert after.learning_ticks[after.keys.index(C)] == 0
    assert harness.anomalies() == []


def test_siblings_do_not_inherit_from_each_other():
    """Pods that existed together from the start do not replace each other."""
    harness = DetectorHarness(A, B, C)
    harness.run(60)
    harness.keys = (B, C)
    harness.run(3)
    assert [a.series_id for a in harness.anomalies("absent")] == [A.id]


def test_reused_slot_has_no_learned_state():
    """The slot of a series absent for more than a day is reused without its learned state."""
    harness = DetectorHarness(A, B)
    harness.run(20)
    harness.keys = (B,)
    harness.run(3)
    harness.ticks += int(86_400 / INTERVAL_S) + 10
    harness.run(5)
    new = pod_series("other", "z")
    harness.keys = (B, new)
    after = harness.run(1)
    assert after.keys == (new, B)
    assert after.learning_ticks[0] > 0
    assert harness.anomalies() == []


def history(keys, n, step_s, *, coarse, seed=3):
    """Return recorded noise around 10 that ends at START."""
    times = START - np.arange(n, 0, -1, dtype=np.int64) * round(step_s * SECOND)
    values = np.random.default_rng(seed).normal(10, 1, (n, len(keys)))
    return History(step_s, keys, times, values, coarse)


def test_history_warms_the_detectors():
    """After learning from history, the first live tick is scored."""
    harness = DetectorHarness(A, B)
    harness.detector.warm_up(history((A, B), 14 * 288, 300.0, coarse=True))
    harness.detector.warm_up(history((A,), 2000, INTERVAL_S, coarse=False))
    first = harness.run(1)
    assert first.learning_ticks[0] == 0
    assert np.isfinite(first.scores.anomaly_score[0])


def test_history_in_parts_equals_history_at_once():
    """Warming up series in parts gives the same scores as warming up all at once."""
    both = history((A, B), 500, INTERVAL_S, coarse=False)
    at_once, parts = DetectorHarness(A, B), DetectorHarness(A, B)
    at_once.detector.warm_up(both)
    for i, key in enumerate((A, B)):
        part = History(INTERVAL_S, (key,), both.times, both.values[:, [i]].copy())
        parts.detector.warm_up(part)
    a, b = at_once.run(20), parts.run(20)
    np.testing.assert_allclose(a.scores.anomaly_score, b.scores.anomaly_score, rtol=1e-12)


def test_deviation_from_history_at_start_is_no_anomaly():
    """A series that differs from its history is relearned without an anomaly."""
    harness = DetectorHarness(A, B)
    harness.detector.warm_up(history((A, B), 2000, INTERVAL_S, coarse=False))
    first = harness.run(1, a=40.0)
    assert first.scores.anomaly_score[0] > 1
    harness.run(40, a=40.0)
    assert harness.anomalies() == []
    assert harness.run(30, a=40.0).scores.anomaly_score[0] < 1
    harness.run(6, a=80.0)
    assert [a.series_id for a in harness.anomalies()] == [A.id]


@pytest.mark.parametrize("ticks", [1, 10])
def test_deviation_after_a_normal_sample_is_an_anomaly(ticks):
    """A series that was normal once after its history opens anomalies as usual, however early."""
    harness = DetectorHarness(A, B)
    harness.detector.warm_up(history((A, B), 2000, INTERVAL_S, coarse=False))
    harness.run(ticks)
    harness.run(1, a=40.0)
    assert [a.series_id for a in harness.anomalies()] == [A.id]


def test_shift_at_the_end_of_history_is_no_anomaly():
    """A series that deviates from the last samples of its history on opens no anomaly."""
    past = history((A, B), 2000, INTERVAL_S, coarse=False)
    past.values[-3:, 0] += 30.0
    harness = DetectorHarness(A, B)
    harness.detector.warm_up(past)
    harness.run(20, a=40.0)
    assert harness.last.scores.anomaly_score[0] > 1
    assert harness.anomalies() == []


def test_deviation_at_start_is_not_learned():
    """A deviation during the first minute is not learned."""
    harness = DetectorHarness(A, B)
    harness.detector.warm_up(history((A, B), 2000, INTERVAL_S, coarse=False))
    harness.run(14, a=40.0)
    harness.run(5)
    for _ in range(20):
        assert harness.run(1).scores.anomaly_score[0] < 1
    assert harness.anomalies() == []
    harness.run(1, a=40.0)
    assert [a.series_id for a in harness.anomalies()] == [A.id]


def test_history_doubt_survives_a_restart():
    """A state saved right after warm-up still tolerates deviations from the history."""
    harness = DetectorHarness(A)
    harness.detector.warm_up(history((A,), 2000, INTERVAL_S, coarse=False))
    detector = SourceDetector("k", INTERVAL_S, differs_only_in_pod)
    detector.restore(*harness.detector.state())
    again = DetectorHarness(A, detector=detector)
    again.run(20, a=40.0)
    assert again.anomalies() == []


def test_state_round_trip():
    """P4: restored state gives the same scores, slots and anomalies."""
    harness = DetectorHarness(A, B, C)
    harness.run(200)
    harness.keys = (A, C)
    harness.run(5, c=30.0)
    arrays, meta = harness.detector.state()
    detector = SourceDetector("k", INTERVAL_S, differs_only_in_pod)
    detector.restore(arrays, meta)
    other = DetectorHarness(*harness.keys, detector=detector)
    other.rng, other.ticks = np.random.default_rng(9), harness.ticks
    harness.rng = np.random.default_rng(9)
    harness.latest.clear()
    for current in (harness, other):
        current.run(3, c=30.0)
        current.keys = (A, B, C, pod_series("requests", "new"))
        current.run(30)
    assert harness.last.keys == other.last.keys
    np.testing.assert_array_equal(harness.last.scores.anomaly_score, other.last.scores.anomaly_score)
    np.testing.assert_array_equal(harness.last.visible, other.last.visible)
    assert harness.anomalies() == other.anomalies()
    assert len(harness.anomalies()) > 0


def test_state_of_other_settings_is_refused():
    """State of another interval raises StateError."""
    harness = DetectorHarness(A)
    harness.run(3)
    arrays, meta = harness.detector.state()
    with pytest.raises(StateError, match="interval_s"):
        SourceDetector("k", 15.0, differs_only_in_pod).restore(arrays, meta)


def test_new_budget_keeps_the_learned_state(plain_scores):  # noqa: ARG001 - a fixture
    """A new false-alarm budget changes scores at once and keeps the learned state."""
    strict, free = DetectorHarness(A), DetectorHarness(A)
    for harness in (strict, free):
        harness.run(300)
    free.detector.set_budget(100.0)
    a, b = strict.run(1), free.run(1)
    assert b.learning_ticks[0] == 0
    assert b.scores.anomaly_score[0] > a.scores.anomaly_score[0]


@pytest.mark.parametrize(
    ("direction", "min_deviation", "level", "unusual"),
    [
        ("both", 0.0, 40.0, True),  # the default: both directions
        ("above_expected", 0.0, 40.0, True),
        ("above_expected", 0.0, -20.0, False),
        ("below_expected", 0.0, -20.0, True),
        ("below_expected", 0.0, 40.0, False),
        ("both", 50.0, 40.0, False),  # smaller than the minimum deviation
        ("both", 10.0, 40.0, True),
    ],
)
def test_direction_and_minimum_deviation(direction, min_deviation, level, unusual):
    """The configured direction and minimum deviation of a series limit its anomalies."""
    key = pod_series("latency", "a")
    info = SeriesInfo(key, direction=direction, min_deviation=min_deviation)
    harness = DetectorHarness(
        key, detector=SourceDetector("k", INTERVAL_S, differs_only_in_pod, info=lambda _: info)
    )
    harness.run(1500)
    harness.run(3, a=level)
    assert bool(harness.anomalies()) is unusual


def test_tiny_deviations_are_normal():
    """A deviation below a thousandth of the expected value is never anomalous."""
    harness = DetectorHarness(A)
    steady = 1000.0 + np.random.default_rng(4).normal(0, 0.001, 400)
    for value in steady:
        harness.feed(ClosedTick(harness.now, (A,), np.array([value]), complete=True))
    harness.feed(ClosedTick(harness.now, (A,), np.array([1000.5]), complete=True))
    assert harness.last.scores.anomaly_score[0] == 0.0
    harness.feed(ClosedTick(harness.now, (A,), np.array([1010.0]), complete=True))
    assert harness.last.scores.anomaly_score[0] > 0.0


@pytest.mark.parametrize(
    ("metric", "unit", "kind", "floor"),
    [
        ("queue_wait_seconds", "s", "gauge", 0.0),
        ("requests_total", "", "rate", 0.0),
        ("clock_offset_seconds", "s", "gauge", -np.inf),  # can be negative
        ("depth", "", "gauge", -np.inf),  # unknown unit
    ],
)
def test_expected_range_respects_the_unit(metric, unit, kind, floor):
    """The expected range of a non-negative unit is not below 0."""
    key = pod_series(metric, "a")
    info = SeriesInfo(key, unit, kind)
    harness = DetectorHarness(
        key, detector=SourceDetector("k", INTERVAL_S, differs_only_in_pod, info=lambda _: info)
    )
    scores = [harness.run(1, a=1.0).scores for _ in range(200)][-1]
    assert (scores.yhat_lower[0] == 0.0) == (floor == 0.0)
    assert scores.yhat_lower[0] <= max(floor, 0.0)
    assert scores.yhat_lower[0] <= scores.yhat[0] <= scores.yhat_upper[0]
