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
    """Scores that a test can predict."""
    monkeypatch.setattr(source_scoring, "Scorer", PlainScorer)


def test_series_keep_their_slots():
    """Each series keeps its slot, whatever the order of keys."""
    w = DetectorHarness(A, B)
    w.feed(ClosedTick(w.now, (A, B), np.array([1.0, 2.0]), complete=True))
    w.feed(ClosedTick(w.now, (C, B, A), np.array([3.0, 4.0, 5.0]), complete=True))
    assert w.last.keys == (A, B, C)
    assert w.last.scores.values.tolist() == [5.0, 4.0, 3.0]
    assert w.last.new_slots.tolist() == [2]


def test_keys_stay_the_same_tuple_while_nothing_comes_or_goes():
    """The tuple of keys is identical while no series comes or goes."""
    w = DetectorHarness(A, B)
    assert w.run(1).keys is w.run(1).keys


def test_learning_counts_down_to_a_score():
    """A new series reports how many samples it needs until it is scored."""
    w = DetectorHarness(A)
    first = w.run(1)
    assert first.learning_ticks[0] > 0
    assert np.isnan(first.scores.anomaly_score[0])
    assert w.run(60).learning_ticks[0] == 0
    assert np.isfinite(w.last.scores.anomaly_score[0])


def test_more_series_than_slots_fit():
    """Slots grow and keep the learned state."""
    few = tuple(pod_series("m", f"p{i}") for i in range(10))
    w = DetectorHarness(*few)
    w.run(60)
    w.keys = tuple(pod_series("m", f"p{i}") for i in range(200))
    after = w.run(1)
    assert len(after.keys) == 200
    assert np.isfinite(after.scores.anomaly_score[:10]).all()
    assert np.isnan(after.scores.anomaly_score[10:]).all()


def test_nothing_is_learnt_from_a_partial_answer(plain_scores):  # noqa: ARG001 - a fixture
    """An incomplete scrape changes no learned state."""
    w = DetectorHarness(A, B)
    w.run(60)
    before, _ = w.detector.state()
    w.run(5, complete=False)
    after, _ = w.detector.state()
    learnt = [name for name in before if name.startswith("scorer/")]
    assert all(
        np.array_equal(before[n], after[n], equal_nan=True) for n in learnt if "/mean" in n or "/var" in n
    )


def test_an_unknown_tick_has_no_scores():
    """All scores and values of an unknown tick are NaN."""
    w = DetectorHarness(A, B)
    w.run(60)
    unknown = w.fail(1)
    assert np.isnan(unknown.scores.values).all()
    assert np.isnan(unknown.scores.anomaly_score).all()
    assert not unknown.complete
    assert unknown.visible.all()


def test_a_replacement_inherits_what_was_learnt():
    """A replacement pod is scored at once, and no absence is reported."""
    w = DetectorHarness(A, B)
    w.run(100)
    w.keys = (B,)
    w.run(1)
    w.keys = (B, pod_series("requests", "d"))
    after = w.run(2)
    heir = after.keys.index(pod_series("requests", "d"))
    assert after.learning_ticks[heir] == 0
    assert w.anomalies() == []
    assert after.visible.sum() == 2


def test_a_newcomer_that_overlaps_inherits_too():
    """In a rolling update the new pod may appear before the old one leaves."""
    w = DetectorHarness(A)
    w.run(100)
    w.keys = (A, C)
    w.run(5)
    w.keys = (C,)
    after = w.run(3)
    assert after.learning_ticks[after.keys.index(C)] == 0
    assert w.anomalies() == []


def test_siblings_do_not_inherit_from_each_other():
    """Pods that were there together from the start are not each other's replacement."""
    w = DetectorHarness(A, B, C)
    w.run(60)
    w.keys = (B, C)
    w.run(3)
    assert [a.series_id for a in w.anomalies("absent")] == [A.id]


def test_a_freed_slot_is_as_new():
    """The slot of a series absent for more than a day is reused without its learned state."""
    w = DetectorHarness(A, B)
    w.run(20)
    w.keys = (B,)
    w.run(3)
    w.ticks += int(86_400 / INTERVAL_S) + 10
    w.run(5)
    new = pod_series("other", "z")
    w.keys = (B, new)
    after = w.run(1)
    assert after.keys == (new, B)
    assert after.learning_ticks[0] > 0
    assert w.anomalies() == []


def history(keys, n, step_s, *, coarse, seed=3):
    """Return recorded noise around 10 that ends at START."""
    times = START - np.arange(n, 0, -1, dtype=np.int64) * round(step_s * SECOND)
    values = np.random.default_rng(seed).normal(10, 1, (n, len(keys)))
    return History(step_s, keys, times, values, coarse)


def test_history_warms_the_detectors():
    """After learning from history the first live tick is scored."""
    w = DetectorHarness(A, B)
    w.detector.warm_up(history((A, B), 14 * 288, 300.0, coarse=True))
    w.detector.warm_up(history((A,), 2000, INTERVAL_S, coarse=False))
    first = w.run(1)
    assert first.learning_ticks[0] == 0
    assert np.isfinite(first.scores.anomaly_score[0])


def test_history_in_parts_equals_history_at_once():
    """Warming series in parts gives the same scores as all at once."""
    both = history((A, B), 500, INTERVAL_S, coarse=False)
    whole, parts = DetectorHarness(A, B), DetectorHarness(A, B)
    whole.detector.warm_up(both)
    for i, key in enumerate((A, B)):
        part = History(INTERVAL_S, (key,), both.times, both.values[:, [i]].copy())
        parts.detector.warm_up(part)
    a, b = whole.run(20), parts.run(20)
    np.testing.assert_allclose(a.scores.anomaly_score, b.scores.anomaly_score, rtol=1e-12)


def test_a_history_that_does_not_fit_is_no_event():
    """A series that differs from its history is relearned without an anomaly."""
    w = DetectorHarness(A, B)
    w.detector.warm_up(history((A, B), 2000, INTERVAL_S, coarse=False))
    first = w.run(1, a=40.0)
    assert first.scores.anomaly_score[0] > 1
    w.run(40, a=40.0)
    assert w.anomalies() == []
    assert w.run(30, a=40.0).scores.anomaly_score[0] < 1
    w.run(6, a=80.0)
    assert [a.series_id for a in w.anomalies()] == [A.id]


@pytest.mark.parametrize("ticks", [1, 10])
def test_what_begins_after_a_usual_sample_is_an_event(ticks):
    """A series that was usual once after its history opens an anomaly like any other, however soon."""
    w = DetectorHarness(A, B)
    w.detector.warm_up(history((A, B), 2000, INTERVAL_S, coarse=False))
    w.run(ticks)
    w.run(1, a=40.0)
    assert [a.series_id for a in w.anomalies()] == [A.id]


def test_a_history_that_ends_elsewhere_is_no_event():
    """A series that is unusual from the last samples of its history on opens no anomaly."""
    past = history((A, B), 2000, INTERVAL_S, coarse=False)
    past.values[-3:, 0] += 30.0
    w = DetectorHarness(A, B)
    w.detector.warm_up(past)
    w.run(20, a=40.0)
    assert w.last.scores.anomaly_score[0] > 1
    assert w.anomalies() == []


def test_deviation_at_start_is_not_learned():
    """A deviation during the first minute is not learned."""
    w = DetectorHarness(A, B)
    w.detector.warm_up(history((A, B), 2000, INTERVAL_S, coarse=False))
    w.run(14, a=40.0)
    w.run(5)
    for _ in range(20):
        assert w.run(1).scores.anomaly_score[0] < 1
    assert w.anomalies() == []
    w.run(1, a=40.0)
    assert [a.series_id for a in w.anomalies()] == [A.id]


def test_history_doubt_survives_a_restart():
    """A state saved right after the history still doubts it."""
    w = DetectorHarness(A)
    w.detector.warm_up(history((A,), 2000, INTERVAL_S, coarse=False))
    detector = SourceDetector("k", INTERVAL_S, differs_only_in_pod)
    detector.restore(*w.detector.state())
    again = DetectorHarness(A, detector=detector)
    again.run(20, a=40.0)
    assert again.anomalies() == []


def test_state_round_trip():
    """P4: restored state gives the same scores, slots and anomalies."""
    w = DetectorHarness(A, B, C)
    w.run(200)
    w.keys = (A, C)
    w.run(5, c=30.0)
    arrays, meta = w.detector.state()
    detector = SourceDetector("k", INTERVAL_S, differs_only_in_pod)
    detector.restore(arrays, meta)
    other = DetectorHarness(*w.keys, detector=detector)
    other.rng, other.ticks = np.random.default_rng(9), w.ticks
    w.rng = np.random.default_rng(9)
    w.latest.clear()
    for world in (w, other):
        world.run(3, c=30.0)
        world.keys = (A, B, C, pod_series("requests", "new"))
        world.run(30)
    assert w.last.keys == other.last.keys
    np.testing.assert_array_equal(w.last.scores.anomaly_score, other.last.scores.anomaly_score)
    np.testing.assert_array_equal(w.last.visible, other.last.visible)
    assert w.anomalies() == other.anomalies()
    assert len(w.anomalies()) > 0


def test_state_of_other_settings_is_refused():
    """State of another interval or of other detectors is a StateError, not a wrong score."""
    w = DetectorHarness(A)
    w.run(3)
    arrays, meta = w.detector.state()
    with pytest.raises(StateError, match="interval_s"):
        SourceDetector("k", 15.0, differs_only_in_pod).restore(arrays, meta)


def test_a_new_budget_keeps_what_was_learnt(plain_scores):  # noqa: ARG001 - a fixture
    """A smaller false-alarm budget lowers scores at once and forgets nothing."""
    strict, free = DetectorHarness(A), DetectorHarness(A)
    for w in (strict, free):
        w.run(300)
    free.detector.set_budget(100.0)
    a, b = strict.run(1), free.run(1)
    assert b.learning_ticks[0] == 0
    assert b.scores.anomaly_score[0] > a.scores.anomaly_score[0]


@pytest.mark.parametrize(
    ("direction", "least", "level", "unusual"),
    [
        ("both", 0.0, 40.0, True),  # nothing is asked for: either side counts
        ("above_expected", 0.0, 40.0, True),
        ("above_expected", 0.0, -20.0, False),
        ("below_expected", 0.0, -20.0, True),
        ("below_expected", 0.0, 40.0, False),
        ("both", 50.0, 40.0, False),  # nearer to the expected value than anybody wants to hear of
        ("both", 10.0, 40.0, True),
    ],
)
def test_direction_and_minimum_deviation(direction, least, level, unusual):
    """A series' direction and minimum deviation limit its anomalies."""
    key = pod_series("latency", "a")
    info = SeriesInfo(key, direction=direction, min_deviation=least)
    w = DetectorHarness(
        key, detector=SourceDetector("k", INTERVAL_S, differs_only_in_pod, info=lambda _: info)
    )
    w.run(1500)
    w.run(3, a=level)
    assert bool(w.anomalies()) is unusual


def test_tiny_deviations_are_normal():
    """A deviation below a thousandth of the expected value is never anomalous."""
    w = DetectorHarness(A)
    steady = 1000.0 + np.random.default_rng(4).normal(0, 0.001, 400)
    for value in steady:
        w.feed(ClosedTick(w.now, (A,), np.array([value]), complete=True))
    w.feed(ClosedTick(w.now, (A,), np.array([1000.5]), complete=True))
    assert w.last.scores.anomaly_score[0] == 0.0
    w.feed(ClosedTick(w.now, (A,), np.array([1010.0]), complete=True))
    assert w.last.scores.anomaly_score[0] > 0.0


@pytest.mark.parametrize(
    ("metric", "unit", "kind", "floor"),
    [
        ("queue_wait_seconds", "s", "gauge", 0.0),
        ("requests_total", "", "rate", 0.0),
        ("clock_offset_seconds", "s", "gauge", -np.inf),  # tells a direction, too
        ("depth", "", "gauge", -np.inf),  # nobody knows what it counts
    ],
)
def test_no_band_below_what_the_unit_allows(metric, unit, kind, floor):
    """The expected band of a non-negative unit is not below 0."""
    key = pod_series(metric, "a")
    info = SeriesInfo(key, unit, kind)
    w = DetectorHarness(
        key, detector=SourceDetector("k", INTERVAL_S, differs_only_in_pod, info=lambda _: info)
    )
    lowest = [w.run(1, a=1.0).scores for _ in range(200)][-1]
    assert (lowest.yhat_lower[0] == 0.0) == (floor == 0.0)
    assert lowest.yhat_lower[0] <= max(floor, 0.0)
    assert lowest.yhat_lower[0] <= lowest.yhat[0] <= lowest.yhat_upper[0]
