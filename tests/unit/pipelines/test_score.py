"""Scores of recorded tables: shape, causality, independence, detectors."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from trimtab.models.calibration.alarms import alarm_intervals
from trimtab.models.catalogue import detector
from trimtab.models.entity_score import entity_score
from trimtab.models.errors import ModelError, UnknownModelError
from trimtab.pipelines.errors import InputError, RecordingWarning
from trimtab.pipelines.scoring.score import RESULT_COLUMNS, parse_detectors, score

N = 400


def series(seed: int, n: int = N) -> np.ndarray:
    """Return a healthy series with one spike at row 300."""
    x = np.random.default_rng(seed).normal(100.0, 5.0, n)
    x[300:303] += 900.0
    return x


def long_table(names: str = "ab", n: int = N) -> pd.DataFrame:
    """Return a long table of series at one-minute steps."""
    ds = pd.date_range("2026-01-01", periods=n, freq="min", tz="UTC")
    parts = [pd.DataFrame({"unique_id": s, "ds": ds, "y": series(k, n)}) for k, s in enumerate(names)]
    return pd.concat(parts, ignore_index=True)


def wide_table(n: int = N) -> pd.DataFrame:
    """Return two entities of three series each; all three spike in the first."""
    parts = [
        pd.DataFrame(
            {"entity": e, "t": range(n), **{f"m{k}": series(10 * j + k, n) for k in range(3)}, "label": 0}
        )
        for j, e in enumerate(["web", "db"])
    ]
    return pd.concat(parts, ignore_index=True)


def test_long_gets_four_columns():
    """A long table is returned with the same rows and the four result columns."""
    frame = long_table().set_index(np.arange(2 * N) * 3)
    scored = score(frame)
    pd.testing.assert_frame_equal(scored[list(frame.columns)], frame)
    assert list(scored.columns) == [*frame.columns, *RESULT_COLUMNS]
    assert scored["anomaly_score"].iloc[[300, N + 300]].gt(1).all()
    assert scored["anomaly_score"].head(10).isna().all()
    rows = scored.iloc[200:300]
    assert (rows["yhat_lower"] <= rows["yhat"]).all()
    assert (rows["yhat"] <= rows["yhat_upper"]).all()


def test_wide_gets_a_column_per_series():
    """A wide table gets a score per series and one per entity; labels are ignored."""
    frame = wide_table()
    scored = score(frame)
    added = ["anomaly_score:m0", "anomaly_score:m1", "anomaly_score:m2", "anomaly_score"]
    assert list(scored.columns) == [*frame.columns, *added]
    assert scored[added].iloc[[300, N + 300]].gt(1).all(axis=None)
    pd.testing.assert_frame_equal(scored[added], score(frame.assign(label=1))[added])


def test_input_is_not_modified():
    """Scoring does not modify its input."""
    frame = long_table()
    before = frame.copy()
    score(frame)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("rows", [5, 11, 50, 299, 301, 399])
@pytest.mark.parametrize("make", [lambda: long_table("a"), lambda: wide_table()[:N]])
def test_truncation_changes_no_score(make, rows):
    """A truncated table has the same scores: row i depends on rows up to i only."""
    frame = make()
    whole, part = score(frame), score(frame[:rows])
    pd.testing.assert_frame_equal(whole[:rows], part, check_exact=True)


def test_truncation_of_mixed_rows():
    """A truncated table of interleaved series has the same scores."""
    frame = long_table("abc", 200).sort_values("ds", kind="stable", ignore_index=True)
    for rows in (31, 100, 301, 500):
        pd.testing.assert_frame_equal(score(frame)[:rows], score(frame[:rows]), check_exact=True)


def test_later_spacing_changes_no_score():
    """A later change of the interval does not change earlier scores."""
    frame = long_table("a")
    slow = frame.copy()
    slow.loc[200:, "ds"] = slow["ds"][199] + pd.to_timedelta(np.arange(1, 201), unit="h")
    pd.testing.assert_frame_equal(
        score(frame)[list(RESULT_COLUMNS)][:200], score(slow)[list(RESULT_COLUMNS)][:200], check_exact=True
    )


@pytest.mark.parametrize("detectors", ["default", ["ew_zscore"], ["default", "half_space_trees"]])
def test_series_are_independent(detectors):
    """A series has the same scores alone, among others, and under another name."""
    among = score(long_table("abc"), detectors=detectors)
    alone = score(long_table("abc")[N : 2 * N].assign(unique_id="z"), detectors=detectors)
    np.testing.assert_array_equal(among[list(RESULT_COLUMNS)][N : 2 * N], alone[list(RESULT_COLUMNS)])


def test_disorder_is_scored_in_row_order():
    """Repeated times are scored in row order, with one warning."""
    frame = long_table("a")
    frame.loc[[150, 151], "ds"] = frame["ds"][149]
    with pytest.warns(RecordingWarning, match="2 repeated times and 0 steps back") as caught:
        scored = score(frame)
    assert len(caught) == 1
    assert scored["anomaly_score"].iloc[100:].notna().all()


def test_gaps_have_no_score():
    """A row without a sample has no score; the following rows have one."""
    frame = long_table("a")
    frame.loc[200:210, "y"] = np.nan
    scored = score(frame)["anomaly_score"]
    assert scored[200:211].isna().all()
    assert scored[211:].notna().all()


def test_smaller_budget_gives_lower_scores():
    """A smaller false-alarm budget gives lower scores."""
    frame = long_table("a")
    low = score(frame, false_alarms_per_week=0.1)["anomaly_score"][300]
    assert low < score(frame, false_alarms_per_week=10)["anomaly_score"][300]


def test_unknown_detector():
    """An unknown detector raises an error that suggests known ones."""
    with pytest.raises(UnknownModelError, match="Did you mean 'ew_zscore'"):
        score(long_table("a"), detectors="ew_zscor")
    with pytest.raises(ModelError, match="neither a name from the catalogue nor a river estimator"):
        score(long_table("a"), detectors=[3])
    with pytest.raises(ModelError, match="no detector given"):
        score(long_table("a"), detectors=[])


def test_river_detectors():
    """River objects and river names score together with the catalogue, each under its own name."""
    from river import anomaly, preprocessing

    frame = long_table("ab")
    trees = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=3, height=4, window_size=50, seed=1)
    scored = score(frame, detectors=[trees, "river:HalfSpaceTrees", "default"])
    assert scored["anomaly_score"].iloc[[300, N + 300]].gt(1).all()
    object_, name = parse_detectors([trees, "river:HalfSpaceTrees"])
    assert object_(1).name.startswith("river:")
    assert detector(name, 1).name == "river:HalfSpaceTrees" != object_(1).name


def test_bad_table():
    """An invalid table raises an error with row, column and value."""
    with pytest.raises(
        InputError, match=r"the table, row 1 \(counted from 0\), column 'y': 'x' is not a number"
    ):
        score(pd.DataFrame({"ds": [1, 2], "y": [1.0, "x"]}))
    with pytest.raises(InputError, match="interval: '5 parsecs' is not a duration above 0"):
        score(long_table("a"), interval="5 parsecs")


def test_no_warning_on_a_plain_table():
    """A healthy table gives no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(long_table("a"))


ONE_OF_TWO = np.log(2) / np.log(1e-3)
ENTITIES = [
    ([[2.0]], 2.0, "one series"),
    ([[2.0, np.nan]], 2.0, "a series without a score is ignored"),
    ([[0.0, 0.0, 0.0]], 0.0, "no anomaly"),
    ([[np.nan, np.nan]], np.nan, "no series has a score"),
    ([[2.0, 0.0]], 2.0 + ONE_OF_TWO, "corrected for the number of series"),
    ([[90.0, 0.0]], 90.0 + ONE_OF_TWO, "beyond the smallest float"),
    ([[3.0, 1.0, 0.0, 0.0]], 2.0 + ONE_OF_TWO, "two of four series combine"),
    ([[3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]], 2.985 + ONE_OF_TWO, "a recent anomaly still counts"),
    ([[3.0, 0.0], [0.0, 0.0]], 0.8674, "too low to keep an alarm open"),
]


@pytest.mark.parametrize(("scores", "expected", "reason"), ENTITIES, ids=[row[2] for row in ENTITIES])
def test_entity_score(scores, expected, reason):
    """The most anomalous series determine the entity's score, on the same scale."""
    got = entity_score(np.array(scores), 1e-3)[-1]
    np.testing.assert_allclose(got, expected, atol=1e-3, err_msg=reason)


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0], ids=["independent", "related", "all the same"])
def test_entity_score_keeps_the_budget(shared):
    """An entity of healthy series, independent or not, keeps the alarm budget."""
    rng, budget = np.random.default_rng(5), 1e-3
    normal = shared * rng.normal(size=(100_000, 1)) + (1 - shared**2) ** 0.5 * rng.normal(size=(100_000, 20))
    scores = norm.logsf(normal) / np.log(budget)
    alarms = len(alarm_intervals(entity_score(scores, budget)[:, None], np.arange(len(scores))))
    assert 0.3 <= alarms / (budget * len(scores)) <= 2


def test_entity_score_combines_successive_anomalies():
    """Four of sixteen series anomalous within a few rows raise an alarm; one alone does not."""
    rng, budget = np.random.default_rng(6), 1e-3
    scores = np.log(rng.uniform(size=(20_000, 16))) / np.log(budget)
    one = scores.copy()
    one[19_015, 3] = 1.5
    alone = entity_score(one, budget)
    for k in range(4):
        scores[19_000 + 5 * k, k] = 1.5
    together = entity_score(scores, budget)
    assert np.array_equal(together[:19_000], alone[:19_000])
    assert together[19_015] > 1 > 0.9 > alone[19_000:19_100].max()
    assert together[19_016:19_100].max() < 0.9
