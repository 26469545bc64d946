"""Banks and the scorer as river estimators."""

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
    """Yield a stream in place of the data sets of river's checks; 10 of every 100 samples are unusual."""
    if not isinstance(model, base.AnomalyDetector):
        raise TypeError(f"{model} is checked with a stream for anomaly detectors")
    rng = random.Random(4)
    rows = []
    for k in range(1000 * scale):
        unusual = k % 100 >= 90
        rows.append(({"x": rng.gauss(10, 1) + (25.0 if unusual else 0.0)}, unusual))
    yield rows


@pytest.fixture
def local_check_stream(monkeypatch):
    """Let river's checks use `make_labelled_stream`."""
    monkeypatch.setattr(checks, "_yield_datasets", make_labelled_stream)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "given"), VIEWS, ids=[f"{n}-{k}" for k, (n, _) in enumerate(VIEWS)])
@pytest.mark.usefixtures("local_check_stream")
def test_passes_rivers_own_checks(name, given):
    """The view passes river's check_estimator."""
    view = as_river(name, **given)
    checked = {check.__name__ for check in checks.yield_checks(view)}
    assert {
        "check_roc_auc",
        "check_pickling",
        "check_bounded_memory_growth",
        "check_clone_is_independent",
    } <= checked
    assert not view._unit_test_skips()
    checks.check_estimator(view)


def test_view_scores_equal_the_bank():
    """The view's scores are absolute statistics of the bank, 0 during warm-up."""
    x = np.random.default_rng(0).normal(0, 1, (300, 1))
    t = np.arange(300, dtype=np.int64) * 60 * 10**9
    for name in ("ew_zscore", "half_space_trees", "range_exceedance"):
        want = np.nan_to_num(np.abs(detector(name, 1).run(x, t)[:, 0]))
        view, got = as_river(name), []
        for value in x[:, 0].tolist():
            got.append(view.score_one({"x": value}))
            view.learn_one({"x": value})
        np.testing.assert_array_equal(got, want)


def test_scorer_view_equals_the_scorer():
    """The view of a scorer returns its anomaly_score at the given times."""
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


def test_view_works_in_river_pipelines():
    """A view works in a river pipeline and in a river filter."""
    pipe = compose.Select("y") | preprocessing.StandardScaler() | as_river("ew_zscore")
    within = anomaly.QuantileFilter(as_river("ew_zscore"), q=0.9)
    for k in range(200):
        pipe.learn_one({"x": "text", "y": float(k % 5)})
        within.learn_one({"y": float(k % 5)})
    assert pipe.score_one({"x": "text", "y": 40.0}) > 10 > pipe.score_one({"x": "text", "y": 3.0})
    assert within.classify(within.score_one({"y": 40.0}))


def test_view_scores_one_feature():
    """The view scores the named feature; several features without a name raise ShapeError."""
    view = RiverView("ew_zscore", feature="y", min_samples=2)
    for k in range(9):
        view.learn_one({"x": 0.0, "y": float(k % 3)})
    assert view.score_one({"x": 1e9, "y": 1.0}) < 1
    assert view.score_one({"x": 1e9}) == 0.0
    with pytest.raises(ShapeError, match="choose one"):
        as_river("ew_zscore").score_one({"x": 0.0, "y": 1.0})


def test_view_works_on_a_copy():
    """The given detector stays unchanged, and a clone starts from its state."""
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
