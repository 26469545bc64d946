"""One contract, every forecaster of the catalogue: see `trimtab.models.contracts.Forecaster`."""

import numpy as np
import pytest

from trimtab.models.catalogue import forecaster, forecaster_names
from trimtab.models.contracts import Forecaster, Panel
from trimtab.models.errors import ModelError, StateError, UnknownModelError

STEPS_PER_DAY, DAYS, N = 24, 20, 8
QUANTILES = (0.05, 0.5, 0.9, 0.99)
END_NS = 1_767_225_600 * 10**9
MAX_HORIZON_S = 86_400.0


def make_values(seed=0):
    """(rows, N) hourly values: days, a week, noise, bursts, a constant, gaps, and three that began late."""
    rng = np.random.default_rng(seed)
    k = np.arange(STEPS_PER_DAY * DAYS)
    day = np.sin(k * 2 * np.pi / STEPS_PER_DAY)
    y = np.stack(
        [
            20 + 8 * day + rng.normal(0, 1, k.size),
            50 + 10 * day * (k // STEPS_PER_DAY % 7 < 5) + rng.normal(0, 2, k.size),
            rng.lognormal(1, 0.6, k.size),
            100 + np.cumsum(rng.normal(0, 1, k.size)),
            np.full(k.size, 7.0),
            30 + 9 * day + rng.normal(0, 1, k.size),
            20 + 8 * day + rng.normal(0, 1, k.size),
            20 + 8 * day + rng.normal(0, 1, k.size),
        ],
        axis=1,
    )
    y[40:60, 0] = np.nan
    y[: -2 * STEPS_PER_DAY, 5] = np.nan
    y[:-8, 6] = np.nan
    y[:, 7] = np.nan
    return y


def make_panel(y, **changed):
    """The values as a panel of hours."""
    n = y.shape[1]
    given = {"y": y, "end": np.full(n, END_NS), "step_s": 3600.0, "non_negative": np.zeros(n, bool)}
    return Panel(**(given | changed))


@pytest.fixture(scope="module", params=forecaster_names())
def fitted(request):
    """(name, make, a fitted forecaster): none of the tests changes it."""
    parameters = {} if request.param == "seasonal_naive" else {"longest_s": MAX_HORIZON_S}

    def make():
        return forecaster(request.param, **parameters)

    model = make()
    model.fit(make_panel(make_values()))
    return request.param, make, model


def predict(model, y, horizon=30, **changed):
    """Its quantiles, (n_quantiles, horizon, n_series)."""
    return model.predict(make_panel(y, **changed), horizon, QUANTILES)


def test_is_a_forecaster(fitted):
    """It has every method of the contract, and gives the shape that it promises."""
    _, _, model = fitted
    assert isinstance(model, Forecaster)
    assert predict(model, make_values()).shape == (len(QUANTILES), 30, N)


def test_quantiles_do_not_cross(fitted):
    """A higher quantile is nowhere below a lower one."""
    f = predict(fitted[2], make_values(3))
    known = np.isfinite(f).all(axis=0)
    assert known[:, :4].all()
    assert (np.diff(f[:, known], axis=0) >= -1e-9).all()


def test_says_nothing_of_what_it_does_not_know(fitted):
    """A series without a sample is NaN, all of it; whatever is said of a series is finite from end to end."""
    f = predict(fitted[2], make_values())
    assert np.isnan(f[:, :, 7]).all()
    known = np.isfinite(f)
    assert (known.all(axis=(0, 1)) | ~known.any(axis=(0, 1))).all()
    short = make_values()
    short[:-1] = np.nan
    assert np.isnan(predict(fitted[2], short, step_s=3600.0)).any()


def test_state_round_trip(fitted):
    """Restored from its arrays a forecaster says the very same, and the arrays are plain numbers."""
    _, make, model = fitted
    state = model.state()
    assert all(a.dtype.kind in "fiub" for a in state.values())
    fresh = make()
    fresh.restore(state)
    np.testing.assert_array_equal(predict(fresh, make_values(3)), predict(model, make_values(3)))


def test_refuses_a_state_that_does_not_fit(fitted):
    """A state with an array missing, of another size or not finite raises StateError and changes nothing."""
    name, _, model = fitted
    if name == "seasonal_naive":
        assert model.state() == {}
        return
    before, state = predict(model, make_values()), model.state()
    first = next(key for key in state if key.endswith("shared"))
    for wrong in (
        {k: v for k, v in state.items() if k != first},
        state | {first: np.zeros((2, 2))},
        state | {first: np.full_like(state[first], np.nan)},
    ):
        with pytest.raises(StateError):
            model.restore(wrong)
    np.testing.assert_array_equal(predict(model, make_values()), before)


def test_series_do_not_leak_into_each_other(fitted):
    """After the fit a series has the forecast that it has among others."""
    y = make_values(3)
    whole = predict(fitted[2], y)
    alone = predict(fitted[2], y[:, 1:2])
    np.testing.assert_allclose(alone[:, :, 0], whole[:, :, 1], rtol=1e-9)


def test_unit_does_not_matter(fitted):
    """A thousand times the values have a thousand times the forecast."""
    y = make_values(3)
    np.testing.assert_allclose(predict(fitted[2], 1024.0 * y), 1024.0 * predict(fitted[2], y), rtol=1e-6)


def test_a_missing_sample_stops_nothing(fitted):
    """The last sample missing, a series is forecast all the same."""
    late = make_values(3)
    late[-1] = np.nan
    assert np.isfinite(predict(fitted[2], late)[:, :, :4]).all()


def test_wrong_quantiles_are_told(fitted):
    """Quantiles that do not rise, or lie outside of what was learnt, are refused by their values."""
    for wrong in ((0.9, 0.5), (0.001,), (0.5, 1.0), ()):
        with pytest.raises(ModelError, match=r"must increase, from 0\.05 to 0\.99"):
            fitted[2].predict(make_panel(make_values()), 3, wrong)


def test_asked_before_it_was_fitted(fitted):
    """A forecaster that learns says that it was not fitted; one that does not needs no fit."""
    name, make, _ = fitted
    if name == "seasonal_naive":
        assert np.isfinite(predict(make(), make_values())[:, :, 0]).all()
        return
    with pytest.raises(ModelError, match="call fit"):
        predict(make(), make_values())


def test_unknown_name_is_told_the_nearest():
    """A wrong name lists what exists and the nearest match; a wrong parameter is named."""
    with pytest.raises(UnknownModelError, match=r"unknown forecaster 'rigde'.*Did you mean 'ridge'"):
        forecaster("rigde")
    with pytest.raises(ModelError, match="deph"):
        forecaster("boosted", deph=3)
