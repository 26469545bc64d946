"""River objects as bank members."""

import numpy as np
import pytest
from river import anomaly, linear_model, preprocessing, time_series

from trimtab.models.errors import ModelError, ShapeError, StateError
from trimtab.models.river_bank import RiverBank


def make_waves(ticks=200, n=2):
    """Return (ticks, n) slow waves with noise."""
    rng = np.random.default_rng(1)
    return np.sin(np.arange(ticks)[:, None] / 10 + np.arange(n)) + rng.normal(0, 0.1, (ticks, n))


TIMES = np.arange(200, dtype=np.int64)


@pytest.mark.parametrize(
    "model",
    [
        "GaussianScorer",
        "anomaly.StandardAbsoluteDeviation",
        "river.anomaly.LODA",
        anomaly.HalfSpaceTrees(n_trees=3, height=4, window_size=20),
        preprocessing.StandardScaler() | anomaly.OneClassSVM(),
        anomaly.QuantileFilter(anomaly.LODA(n_random_cuts=5), q=0.9),
        anomaly.ThresholdFilter(anomaly.GaussianScorer(), threshold=0.99),
        anomaly.PredictiveAnomalyDetection(time_series.SNARIMAX(2, 0, 0), warmup_period=20),
        pytest.param(lambda: time_series.HoltWinters(0.3, 0.1, 0.1, seasonality=12), id="factory"),
    ],
    ids=str,
)
def test_river_models_score_and_replay(model):
    """A name, estimator, pipeline, filter or factory scores, and a replay gives the same scores."""
    x = make_waves()
    bank, replayed = RiverBank(2, model), RiverBank(2, model)
    s = bank.run(x, TIMES)
    assert np.isnan(s[:10]).all()
    assert np.isfinite(s[150:]).all()
    np.testing.assert_array_equal(replayed.run(x, TIMES), s)
    scored = bank.score(x[0], 0)
    np.testing.assert_array_equal(bank.score(x[0], 0), scored)


def test_statistic_of_a_forecaster_is_its_residual():
    """The statistic of a forecaster is the distance from its forecast, which is the expected value."""
    x = make_waves(60, 1)
    bank, model = RiverBank(1, "HoltWinters", alpha=0.4), time_series.HoltWinters(0.4)
    for k, value in enumerate(x[:, 0].tolist()):
        s = bank.step(np.array([value]), k)
        if k >= 10:
            assert s[0] == abs(value - model.forecast(1)[0])
        model.learn_one(value)
    yhat, lower, upper = bank.expected(60)
    assert yhat[0] == model.forecast(1)[0]
    assert np.isnan([lower[0], upper[0]]).all()


def test_entity_model_gets_all_its_series():
    """One object gets all series of an entity and flags unusual combinations."""
    rng = np.random.default_rng(2)
    a = rng.uniform(0, 1, 600)
    x = np.stack([a, a, rng.uniform(0, 1, 600)], axis=1)
    bank = RiverBank(3, anomaly.LocalOutlierFactor(n_neighbors=10), entity_of_slot=[0, 0, -1])
    assert bank.level == "entity"
    bank.run(x, np.arange(600))
    usual = bank.score(np.array([0.5, 0.5, 0.5]), 0)
    odd = bank.score(np.array([0.9, 0.1, 0.5]), 0)
    assert odd[0] == odd[1] > 3 * usual[0]
    assert np.isnan(odd[2]), "assigned to no entity"
    assert np.isnan(bank.score(np.array([0.5, np.nan, 0.5]), 0)[1])


def test_entity_state_is_dropped_with_its_last_series():
    """Resetting one slot keeps the entity's object; resetting its last slot drops it."""
    bank = RiverBank(3, "LODA", n_random_cuts=5, entity_of_slot=[4, 4, 7])
    bank.run(make_waves(100, 3), TIMES[:100])
    bank.reset(np.array([0]))
    assert np.isfinite(bank.score(np.zeros(3), 0)).all()
    bank.assign_entities(np.array([0]), [7])
    bank.reset(np.array([1]))
    assert np.isnan(bank.score(np.zeros(3), 0)[1])
    assert np.isfinite(bank.score(np.zeros(3), 0)[[0, 2]]).all()
    with pytest.raises(ShapeError, match="one entity per slot"):
        bank.assign_entities(np.array([0, 1]), [1])


def test_river_state_cannot_be_stored():
    """`state` and `restore` raise StateError and name the replay."""
    bank = RiverBank(1, "LODA")
    assert not bank.restorable
    for call in (bank.state, lambda: bank.restore({})):
        with pytest.raises(StateError, match="replay"):
            call()


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (linear_model.LinearRegression(), {}, "neither"),
        (object(), {}, "not a river estimator"),
        (anomaly.LODA(), {"n_bins": 3}, "already exists"),
        ("GaussianScorer", {"entity_of_slot": [0]}, "one value at a time"),
    ],
)
def test_objects_that_are_no_detectors_are_refused(model, given, message):
    """An object that cannot be a bank member raises ModelError with the reason."""
    with pytest.raises(ModelError, match=message):
        RiverBank(1, model, **given)
