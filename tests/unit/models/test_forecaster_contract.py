"""Contract of `trimtab.models.contracts.Forecaster`, for every forecaster of the catalogue."""

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
    """Return (rows, N) hourly values: seasons, noise, bursts, a constant, gaps and three late starts."""
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


def make_panel(y, **changes):
    """Return the values as an hourly panel."""
    n = y.shape[1]
    fields = {"y": y, "end": np.full(n, END_NS), "step_s": 3600.0, "non_negative": np.zeros(n, bool)}
    return Panel(**(fields | changes))


@pytest.fixture(scope="module", params=forecaster_names())
def fitted(request):
    """Return (name, make, fitted forecaster); no test changes it."""
    parameters = {} if request.param == "seasonal_naive" else {"longest_s": MAX_HORIZON_S}

    def make():
        return forecaster(request.param, **parameters)

    model = make()
    model.fit(make_panel(make_values()))
    return request.param, make, model


def predict(model, y, horizon=30, **changed):
    """Return the quantiles, (n_quantiles, horizon, n_series)."""
    return model.predict(make_panel(y, **changed), horizon, QUANTILES)


def test_is_a_forecaster(fitted):
    """The forecaster has every method of the contract and returns the documented shape."""
    _, _, model = fitted
    assert isinstance(model, Forecaster)
    assert predict(model, make_values()).shape == (len(QUANTILES), 30, N)


def test_quantiles_do_not_cross(fitted):
    """A higher quantile is never below a lower one."""
    f = predict(fitted[2], make_values(3))
    known = np.isfinite(f).all(axis=0)
    assert known[:, :4].all()
    assert (np.diff(f[:, known], axis=0) >= -1e-9).all()


def test_unknown_series_is_nan(fitted):
    """A series without samples is all NaN; any other forecast is finite over the whole horizon."""
    f = predict(fitted[2], make_values())
    assert np.isnan(f[:, :, 7]).all()
    known = np.isfinite(f)
    assert (known.all(axis=(0, 1)) | ~known.any(axis=(0, 1))).all()
    short = make_values()
    short[:-1] = np.nan
    assert np.isnan(predict(fitted[2], short, step_s=3600.0)).any()


def test_state_round_trip(fitted):
    """A restored forecaster returns the same forecasts; the state has numeric arrays only."""
    _, make, model = fitted
    state = model.state()
    assert all(a.dtype.kind in "fiub" for a in state.values())
    fresh = make()
    fresh.restore(state)
    np.testing.assert_array_equal(predict(fresh, make_values(3)), predict(model, make_values(3)))


def test_refuses_a_state_that_does_not_fit(fitted):
    """A state with a missing, misshapen or non-finite array raises StateError and changes nothing."""
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
    """A series has the same forecast alone and among others."""
    y = make_values(3)
    whole = predict(fitted[2], y)
    alone = predict(fitted[2], y[:, 1:2])
    np.testing.assert_allclose(alone[:, :, 0], whole[:, :, 1], rtol=1e-9)


def test_unit_does_not_matter(fitted):
    """Scaled values have a scaled forecast."""
    y = make_values(3)
    np.testing.assert_allclose(predict(fitted[2], 1024.0 * y), 1024.0 * predict(fitted[2], y), rtol=1e-6)


def test_missing_last_sample_is_tolerated(fitted):
    """A series without its last sample has a forecast."""
    late = make_values(3)
    late[-1] = np.nan
    assert np.isfinite(predict(fitted[2], late)[:, :, :4]).all()


def test_invalid_quantiles_are_refused(fitted):
    """Quantiles that do not increase or are out of range raise ModelError."""
    for wrong in ((0.9, 0.5), (0.001,), (0.5, 1.0), ()):
        with pytest.raises(ModelError, match=r"must increase, from 0\.05 to 0\.99"):
            fitted[2].predict(make_panel(make_values()), 3, wrong)


def test_predict_before_fit_is_refused(fitted):
    """A learning forecaster raises ModelError before `fit`; seasonal naive needs no fit."""
    name, make, _ = fitted
    if name == "seasonal_naive":
        assert np.isfinite(predict(make(), make_values())[:, :, 0]).all()
        return
    with pytest.raises(ModelError, match="call fit"):
        predict(make(), make_values())


def test_unknown_name_suggests_the_nearest():
    """An unknown name raises an error with the nearest match; an unknown parameter is named."""
    with pytest.raises(UnknownModelError, match=r"unknown forecaster 'rigde'.*Did you mean 'ridge'"):
        forecaster("rigde")
    with pytest.raises(ModelError, match="deph"):
        forecaster("boosted", deph=3)
