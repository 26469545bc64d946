"""The promotion gate: refusals and their reasons."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.model_store import SMALL_JOB, load_history
from trimtab.pipelines.forecasting.backtest_load import ForecastMetrics, backtest_load
from trimtab.pipelines.io.panel import panel_from_history
from trimtab.pipelines.model_registry.model_schema import required_schema
from trimtab.pipelines.model_registry.recipe import CatalogueRecipe
from trimtab.pipelines.training.promotion_gate import Candidate, check_promotion

GOOD = ForecastMetrics(0.7, 0.3, 0.9, 0.01, 0.0, 5000, 0.01, 0.003)
SCHEMA = {"step_s": 300.0, "features": ["last", "day"]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "passed"),
        ({"cov90": 0.7}, "90 % band contains 70.0%"),
        ({"cov90": 0.995, "cov90_se": 0.001}, "90 % band contains 99.5%"),
        ({"cov90": 0.79}, "passed"),
        ({"miss99": 0.05}, "5.0% of the values are above"),
        ({"miss99": 0.034}, "passed"),
        ({"miss99": 0.5, "cov90": 0.2, "cov90_se": np.inf, "miss99_se": np.inf}, "passed"),
        (
            {"pinball": 0.4},
            "33.3% higher than that of seasonal naive (0.4 against 0.3; 2% more is allowed)",
        ),
    ],
)
def test_miscalibrated_model_is_refused(changed, message):
    """Quantiles that contain too few or too many values, beyond chance, are refused."""
    verdict = check_promotion(Candidate(1, {}, replace(GOOD, **changed)), None, GOOD)
    assert message in str(verdict)


@pytest.mark.parametrize(
    ("champion", "challenger", "passed"),
    [
        (2**21, 2**22, True),
        # more than twice the size
        (2**21, 2**22 + 1, False),
        # below the size of a small model
        (5_000, 650_000, True),
    ],
)
def test_much_larger_model_is_refused(champion, challenger, passed):
    """A model above twice the champion's size is refused unless it is small."""
    verdict = check_promotion(Candidate(challenger, {}, GOOD), Candidate(champion, {}, GOOD), GOOD)
    assert verdict.passed is passed


@pytest.mark.parametrize(("forecaster", "passed"), [("load", False), ("Ridge", True)])
def test_different_features_of_the_same_model_are_refused(forecaster, passed):
    """Different features are refused only between models of the same name."""
    before = Candidate(1, SCHEMA, GOOD, "load")
    after = Candidate(1, {**SCHEMA, "features": ["last"]}, GOOD, forecaster)
    assert check_promotion(after, before, GOOD).passed is passed


@pytest.mark.parametrize(
    ("challenger", "champion", "settings", "message"),
    [
        # the challenger does not match the settings
        (
            required_schema(300.0, 288),
            required_schema(300.0, 288),
            required_schema(60.0, 1440),
            "made for 288 steps of 300 s, but 1440",
        ),
        # without settings the champion's schema is required
        (
            required_schema(300.0, 288),
            required_schema(60.0, 1440),
            None,
            "made for 288 steps of 300 s, but 1440 steps of 60 s",
        ),
        # the champion does not match, so its size is no limit
        (required_schema(60.0, 1440), required_schema(300.0, 288), required_schema(60.0, 1440), "passed"),
        (
            required_schema(60.0, 1440),
            required_schema(60.0, 1440),
            required_schema(60.0, 1440),
            "4194305 bytes",
        ),
        (
            required_schema(60.0, 1440),
            {**required_schema(300.0, 288), "features": ["last"]},
            required_schema(60.0, 1440),
            "its features differ",
        ),
    ],
)
def test_settings_determine_the_required_schema(challenger, champion, settings, message):
    """The challenger must match the settings; a champion made for other settings does not limit it."""
    verdict = check_promotion(
        Candidate(2**22 + 1, challenger, GOOD, "load"),
        Candidate(2**21, champion, GOOD, "load"),
        GOOD,
        settings,
    )
    assert message in str(verdict)


def test_load_forecaster_lists_its_features():
    """The load forecaster lists the features of each member once."""
    features = CatalogueRecipe("load").features
    assert len(set(features)) == len(features)
    assert {name.partition("/")[0] for name in features} == {"ridge", "boosted"}


def test_standard_error_is_over_blocks():
    """Three windows of three series count as nine independent blocks in the standard error."""

    class FlatForecaster:
        def predict(self, panel, horizon, quantiles):
            shape = (len(quantiles), horizon, panel.y.shape[1])
            return np.broadcast_to(np.asarray(quantiles)[:, None, None] * 200.0, shape)

    named_panel = panel_from_history(load_history(), SMALL_JOB.step_s, window_s=SMALL_JOB.window_s)
    origins = [168, 192, 216]
    metrics = backtest_load(named_panel, {"flat": FlatForecaster()}, 24, origins)["flat"]
    values = [
        (named_panel.panel.y[o : o + 24] <= 190.0) & (named_panel.panel.y[o : o + 24] >= 10.0)
        for o in origins
    ]
    shares = np.concatenate([block.mean(axis=0) for block in values])
    assert metrics.cov90 == pytest.approx(shares.mean())
    assert metrics.cov90_se == pytest.approx(shares.std(ddof=1) / 3)
    single_block = backtest_load(
        named_panel.pick(np.array([0])), {"flat": FlatForecaster()}, 24, origins[:1]
    )["flat"]
    assert single_block.cov90_se == np.inf
