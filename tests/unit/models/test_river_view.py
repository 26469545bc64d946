"""Every bank, and the scorer, as a river estimator."""

import math
import random

import numpy as np
import pytest
from river import anomaly, base, checks, compose, preprocessing

from trimtab.models.catalogue import detector, detector_names
from trimtab.models.errors import ShapeError
from trimtab.models.river_view import RiverView, as_river
from trimtab.models.scorer import Scorer

VIEWS = [(name, {}) for name in detector_names()] + [
    ("ew_zscore", {"exact": True}),
    ("half_space_trees", {"exact": True, "limits": (-30.0, 60.0)}),
    ("half_space_trees", {"window_size": 60, "n_trees": 5}),
    ("river", {"model": "LODA", "n_random_cuts": 10}),
    ("scorer", {}),
    ("scorer", {"false_alarms_per_week": 5.0}),
]


def make_labelled_stream(model, scale=1):
    """Stands in for the data set that river's checks would download: ten of every hundred are unusual."""
    if not isinstance(model, base.AnomalyDetector):
        raise TypeError(f"{model} is checked with a stream for anomaly detectors")
    rng = random.Random(4)
    rows = []
    for k in range(1000 * scale):
        unusual = k % 100 >= 90
        rows.append(({"x": rng.gauss(10, 1) + (25.0 if unusual else 0.0)}, unusual))
    yield rows


@pytest.fixture
def own_stream(monkeypatch):
    """River's checks on `stream`."""
    monkeypatch.setattr(checks, "_yield_datasets", make_labelled_stream)


@pytest.mark.parametrize(("name", "given"), VIEWS, ids=[f"{n}-{k}" for k, (n, _) in enumerate(VIEWS)])
@pytest.mark.usefixtures("own_stream")
def test_passes_rivers_own_checks(name, given):
    """River's check_estimator finds no fault in the view."""
    view = as_river(name, **given)
    run = {check.__name__ for check in checks.yield_checks(view)}
    assert {
        "check_roc_auc",
        "check_pickling",
        "check_bounded_memory_growth",
        "check_clone_is_independent",
    } <= run
    assert not view._unit_test_skips()
    checks.check_estimator(view)


def test_scores_as_the_bank_does():
    """The view's scores are the sizes of the bank's statistics, 0 while it warms up."""
    x = np.random.default_rng(0).normal(0, 1, (300, 1))
    t = np.arange(300, dtype=np.int64) * 60 * 10**9
    for name in ("ew_zscore", "half_space_trees", "range_exceedance"):
        want = np.nan_to_num(np.abs(detector(name, 1).run(x, t)[:, 0]))
        view, got = as_river(name), []
        for value in x[:, 0].tolist():
            got.append(view.score_one({"x": value}))
            view.learn_one({"x": value})
        np.testing.assert_array_equal(got, want)


def test_scorer_as_the_scorer_does():
    """Of a scorer the view gives the anomaly_score, at the times that it is told."""
    x = np.random.default_rng(0).normal(0, 1, 200)
    x[150] = 30.0
    scorer, view = Scorer(1, 60.0), as_river(Scorer(1, 60.0))
    for k, value in enumerate(x.tolist()):
        t = (k + 7) * 60 * 10**9
        got = view.score_one({"x": value}, t=t)
        view.learn_one({"x": value}, t=t)
        want = float(scorer.step(np.array([value]), t).anomaly_score[0])
        assert got == (0.0 if math.isnan(want) else abs(want))
    assert got < 1.0


def test_joins_rivers_pipelines():
    """A view stands where a river detector stands: behind a scaler, within a filter."""
    pipe = compose.Select("y") | preprocessing.StandardScaler() | as_river("ew_zscore")
    within = anomaly.QuantileFilter(as_river("ew_zscore"), q=0.9)
    for k in range(200):
        pipe.learn_one({"x": "text", "y": float(k % 5)})
        within.learn_one({"y": float(k % 5)})
    assert pipe.score_one({"x": "text", "y": 40.0}) > 10 > pipe.score_one({"x": "text", "y": 3.0})
    assert within.classify(within.score_one({"y": 40.0}))


def test_watches_one_feature():
    """Of several values the named one is watched; which one must be clear."""
    view = RiverView("ew_zscore", feature="y", min_samples=2)
    for k in range(9):
        view.learn_one({"x": 0.0, "y": float(k % 3)})
    assert view.score_one({"x": 1e9, "y": 1.0}) < 1
    assert view.score_one({"x": 1e9}) == 0.0
    with pytest.raises(ShapeError, match="choose one"):
        as_river("ew_zscore").score_one({"x": 0.0, "y": 1.0})


def test_works_on_a_copy():
    """A detector that is given stays as it is, and a clone starts where the given one stood."""
    bank = detector("ew_zscore", 1)
    view = as_river(bank)
    for k in range(100):
        view.learn_one({"x": float(k % 3)})
    assert bank.state()["count"].tolist() == [0]
    assert view.score_one({"x": 9.0}) > 1
    assert view.clone().score_one({"x": 9.0}) == 0.0
    with pytest.raises(ShapeError, match="n_series=1"):
        as_river(detector("ew_zscore", 2))
    with pytest.raises(ShapeError, match="already exists"):
        as_river(bank, fading_factor=0.5)
