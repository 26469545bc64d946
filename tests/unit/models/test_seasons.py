"""Season length of a series."""

import numpy as np
import pytest

from trimtab.models.forecasting.seasons import autocorrelation, find_seasons

STEP_S, STEPS_PER_DAY = 300.0, 288
ROWS = np.arange(6 * STEPS_PER_DAY)
NOISE = np.random.default_rng(4).normal(0, 0.3, ROWS.size)

CASES = {
    "a day": (np.sin(ROWS * 2 * np.pi / STEPS_PER_DAY) + NOISE, STEPS_PER_DAY),
    "125 minutes": (np.sin(ROWS * 2 * np.pi / 25) + NOISE, 25),
    "two hours, which divide a day": (np.sin(ROWS * 2 * np.pi / 24) + NOISE, STEPS_PER_DAY),
    "500 minutes": (np.where(ROWS % 100 < 30, 1.0, 0.0) + NOISE, 100),
    "noise": (NOISE, STEPS_PER_DAY),
    "a constant": (np.ones(ROWS.size), STEPS_PER_DAY),
    "half a day of noise": (NOISE[: STEPS_PER_DAY // 2], 0),
    "half a day of two hours": (np.sin(ROWS * 2 * np.pi / 24)[: STEPS_PER_DAY // 2], 24),
    "nothing": (np.full(ROWS.size, np.nan), 0),
}


@pytest.mark.parametrize(("y", "want"), CASES.values(), ids=CASES)
def test_finds_the_season(y, want):
    """The season is the clearest period, a day if there is none, 0 if the series is too short."""
    found = int(find_seasons(np.asarray(y)[:, None], STEP_S)[0])
    assert abs(found - want) <= 1


def test_missing_samples_do_not_hide_the_season():
    """The season is found with a fifth of the samples missing."""
    y = np.sin(ROWS * 2 * np.pi / 25)
    y[np.random.default_rng(0).random(ROWS.size) < 0.2] = np.nan
    assert abs(int(find_seasons(y[:, None], STEP_S)[0]) - 25) <= 1


def test_autocorrelation_equals_its_definition():
    """The fast autocorrelation equals the plain sum."""
    y = NOISE[:60] + 3
    x = y - y.mean()
    plain = [float(x[k:] @ x[: len(x) - k] / (x @ x)) for k in range(60)]
    np.testing.assert_allclose(autocorrelation(y), plain, atol=1e-12)
