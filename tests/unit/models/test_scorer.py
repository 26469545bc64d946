"""Scorer: score before learn, step equals run, slots, state and learning hygiene."""

import numpy as np
import pytest

from trimtab.models.detectors.seasonal_residual import SeasonalResidual
from trimtab.models.errors import ShapeError, StateError
from trimtab.models.scorer import WARM_UP_SAMPLES, Scorer

MINUTE_NS = 60 * 10**9
DETECTOR_SETS = [
    "default",
    ("default", "half_space_trees"),
    ("ew_zscore",),
    ("seasonal_residual", "ew_zscore"),
]


def make_series(ticks=400, n=5, seed=1):
    """Return noise with a few gaps, a spike and a shift, and its times."""
    rng = np.random.default_rng(seed)
    x = rng.normal(10, 1, (ticks, n))
    x[rng.random((ticks, n)) < 0.03] = np.nan
    x[ticks // 2, -1] = 40.0
    x[ticks // 2 :, n // 2] += 15.0
    return x, np.arange(ticks, dtype=np.int64) * MINUTE_NS


def are_equal(a, b):
    """Return whether two Scores are equal bit by bit."""
    return all(np.array_equal(getattr(a, f), getattr(b, f), equal_nan=f != "shifted") for f in a.__slots__)


@pytest.mark.parametrize("detectors", DETECTOR_SETS, ids=str)
def test_run_is_repeated_step(detectors):
    """`run` equals repeated `step` bit by bit."""
    x, t = make_series()
    whole = Scorer(5, 60, detectors).run(x, t)
    single = Scorer(5, 60, detectors)
    for k in range(len(x)):
        assert are_equal(single.step(x[k], int(t[k])), whole.at(k))


@pytest.mark.parametrize("detectors", DETECTOR_SETS, ids=str)
def test_scoring_changes_nothing(detectors):
    """`score` does not change the state, and the next `step` gives the same score."""
    x, t = make_series()
    scorer = Scorer(5, 60, detectors)
    scorer.run(x[:-1], t[:-1])
    before = scorer.state()
    asked = scorer.score(x[-1], int(t[-1]))
    after = scorer.state()
    assert all(np.array_equal(before[k], after[k], equal_nan=before[k].dtype.kind == "f") for k in before)
    assert are_equal(asked, scorer.step(x[-1], int(t[-1])))


def test_scores_do_not_depend_on_later_rows():
    """Row i depends on rows up to i only."""
    x, t = make_series()
    whole = Scorer(5, 60).run(x, t).anomaly_score
    assert np.array_equal(Scorer(5, 60).run(x[:250], t[:250]).anomaly_score, whole[:250], equal_nan=True)


@pytest.mark.parametrize("detectors", DETECTOR_SETS, ids=str)
def test_restored_scorer_continues(detectors):
    """A restored scorer gives the scores of an uninterrupted one."""
    x, t = make_series()
    whole = Scorer(5, 60, detectors).run(x, t)
    first = Scorer(5, 60, detectors)
    first.run(x[:200], t[:200])
    second = Scorer(1, 60, detectors)
    second.restore(first.state())
    rest = second.run(x[200:], t[200:])
    assert np.array_equal(rest.anomaly_score, whole.anomaly_score[200:], equal_nan=True)


def test_unknown_state_version_is_refused():
    """A state with an unknown version or a missing field raises StateError."""
    state = Scorer(2, 60).state()
    with pytest.raises(StateError, match="version 99"):
        Scorer(2, 60).restore(state | {"version": np.array([99])})
    del state["range/centre"]
    with pytest.raises(StateError, match="centre"):
        Scorer(2, 60).restore(state)


@pytest.mark.parametrize("version", [1, 2])
def test_older_state_versions_are_read(version):
    """An older state gets the last value as return level and empty event scores."""
    x, t = make_series()
    first = Scorer(5, 60)
    first.run(x[:200], t[:200])
    now = first.state()
    old = {name: part for name, part in now.items() if not name.startswith("news/")}
    old["version"] = np.array([version])
    if version == 1:
        old["season/level"] = old["season/level"][:, :3].copy()
    second = Scorer(1, 60)
    second.restore(old)
    upgraded = second.state()
    columns = [0, 1, 2, 0] if version == 1 else [0, 1, 2, 3]
    assert np.array_equal(upgraded["season/level"], now["season/level"][:, columns])
    assert not upgraded["news/told"].any()
    assert np.isfinite(second.step(x[210], int(t[210])).anomaly_score).any()


def test_slots_are_independent_and_reused():
    """A moved slot continues, a reset slot learns from scratch, other slots do not change."""
    x, t = make_series()
    alone = Scorer(5, 60).run(x, t).anomaly_score
    moving = Scorer(5, 60)
    moving.run(x[:200], t[:200])
    moving.grow(7)
    moving.put(np.array([6]), moving.take(np.array([4])))
    moving.reset(np.array([4]))
    wide = np.column_stack([x[200:], np.full(200, np.nan), x[200:, 4]])
    scores = moving.run(wide, t[200:]).anomaly_score
    assert np.array_equal(scores[:, 6], alone[200:, 4], equal_nan=True)
    assert np.array_equal(scores[:, :4], alone[200:, :4], equal_nan=True)
    assert np.isnan(scores[:WARM_UP_SAMPLES, 4]).all()
    assert np.isnan(scores[:, 5]).all()


def test_non_finite_samples_are_neither_scored_nor_learnt():
    """NaN and infinite samples have no score and do not change the state."""
    x, t = make_series()
    with_gap = np.insert(x, 300, np.full((2, 5), [np.nan, np.inf, -np.inf, np.nan, np.nan]), axis=0)
    times = np.insert(t, 300, [t[299] + 1, t[299] + 2])
    scores = Scorer(5, 60).run(with_gap, times).anomaly_score
    assert np.isnan(scores[300:302]).all()
    assert np.array_equal(np.delete(scores, [300, 301], axis=0), Scorer(5, 60).run(x, t).anomaly_score, True)


def test_masked_samples_are_not_learnt():
    """Masked samples are scored but not learnt."""
    x, t = make_series()
    scorer = Scorer(5, 60)
    scorer.run(x[:300], t[:300])
    before = scorer.state()
    scorer.run(x[300:] * 50, t[300:], where=np.zeros(5, bool))
    after = scorer.state()
    assert all(np.array_equal(before[k], after[k], equal_nan=before[k].dtype.kind == "f") for k in before)


def test_a_lasting_shift_is_declared_and_learnt():
    """A shift is flagged until the deadline, declared once, and then learnt."""
    rng = np.random.default_rng(2)
    x = rng.normal(10, 1, (1200, 1))
    x[1000:] += 30
    scores = Scorer(1, 60).run(x, np.arange(1200, dtype=np.int64) * MINUTE_NS)
    declared = np.flatnonzero(scores.shifted[:, 0])
    assert declared.tolist() == [1059]
    assert (scores.anomaly_score[1000:1059, 0] > 1).all()
    assert (scores.anomaly_score[1065:, 0] < 1).all()
    assert abs(scores.yhat[-1, 0] - 40) < 2


def test_burst_is_not_flagged_after_its_end():
    """The end of a burst that moved the last value is flagged, but not the samples after it."""
    walk = np.cumsum(np.random.default_rng(100).normal(size=(3000, 6)), axis=0)
    walk[2500:2510] += np.linspace(3, 40, 10)[:, None]
    score = Scorer(6, 60).run(walk, np.arange(3000, dtype=np.int64) * MINUTE_NS).anomaly_score
    assert (score[2500:2515] > 1).any(axis=0).all()
    assert ((score[2510:2570] > 1).sum(axis=0) <= 2).all()


def test_end_of_a_blip_is_no_second_event():
    """In a random walk, the return from a learnt spike is not a second anomaly."""
    x = np.cumsum(np.random.default_rng(8).normal(size=(1000, 1)), axis=0)
    x[900] += 12
    s = np.abs(SeasonalResidual(1, 60.0).run(x, np.arange(1000, dtype=np.int64) * MINUTE_NS)[:, 0])
    assert s[900] > 8
    assert s[901] < 4


@pytest.mark.parametrize("seed", range(4))
def test_busy_core_is_flagged_at_once(seed):
    """After six noisy idle hours, a minute at 100 % is flagged within 3 samples until it ends."""
    rng = np.random.default_rng(seed)
    idle = 0.985 - rng.gamma(2, 0.006, 4400) - (rng.random(4400) < 0.02) * rng.exponential(0.03, 4400)
    idle[4320:4332] = [0.4] + [0.0] * 11
    t = np.arange(4400, dtype=np.int64) * 5 * 10**9
    flagged = Scorer(1, 5).run(np.clip(idle, 0, 1)[:, None], t).anomaly_score[4320:, 0] > 1
    assert flagged[:3].any()
    assert flagged[2:12].all()
    assert not flagged[14:].any()


def test_seasons_are_learnt_from_coarse_history():
    """Two weeks of five-minute history teach the daily season for the first live hour."""
    t = np.arange(14 * 288, dtype=np.int64) * 5 * MINUTE_NS
    course = 50 + 20 * np.sin(t / 86_400e9 * 2 * np.pi)
    noise = np.random.default_rng(4).normal(0, 1, len(t) + 240)
    scorer = Scorer(1, 15)
    scorer.learn_seasons((course + noise[: len(t)])[:, None], t, 300)
    live = t[-1] + np.arange(1, 241, dtype=np.int64) * 15 * 10**9
    x = 50 + 20 * np.sin(live / 86_400e9 * 2 * np.pi) + noise[len(t) :]
    scores = scorer.run(x[:, None], live)
    assert np.nanmax(np.abs(scores.yhat[-60:, 0] - x[-60:])) < 6
    assert (scores.anomaly_score[60:, 0] < 1).all()


def test_band_contains_healthy_samples():
    """Nearly all healthy samples lie in the expected band, and yhat always does."""
    x = np.random.default_rng(5).normal(10, 1, (2000, 3))
    s = Scorer(3, 60).run(x, np.arange(2000, dtype=np.int64) * MINUTE_NS)
    late = slice(500, None)
    inside = (s.yhat_lower[late] <= x[late]) & (x[late] <= s.yhat_upper[late])
    assert inside.mean() > 0.995
    assert (s.yhat_lower[late] <= s.yhat[late]).all()
    assert (s.yhat[late] <= s.yhat_upper[late]).all()
    assert np.median(s.yhat_upper[late] - s.yhat_lower[late]) < 16


def test_band_starts_with_the_first_score():
    """The expected band is NaN during warm-up."""
    x, t = make_series()
    scores = Scorer(5, 60).run(x, t)
    scored = np.isfinite(
        np.maximum.accumulate(np.where(np.isnan(scores.anomaly_score), -np.inf, 0.0), axis=0)
    )
    assert np.isnan(scores.yhat[: WARM_UP_SAMPLES - 1]).all()
    assert np.isfinite(scores.yhat[scored]).all()
    assert (np.isfinite(scores.yhat) & ~scored).sum() <= 2 * x.shape[1]


def test_shapes_are_checked():
    """Values of another number of series raise ShapeError with both numbers."""
    with pytest.raises(ShapeError, match=r"\(3, 4\).*5 series"):
        Scorer(5, 60).run(np.zeros((3, 4)), np.arange(3))


def test_learning_ticks_count_down_to_zero():
    """`learning_ticks` counts the remaining warm-up samples; a series is scored at 0."""
    scorer = Scorer(1, 60)
    assert scorer.learning_ticks().tolist() == [WARM_UP_SAMPLES]
    x, t = make_series(n=1, ticks=WARM_UP_SAMPLES + 5)
    seen = np.isfinite(x[:, 0]).cumsum()
    scores = scorer.run(x, t).anomaly_score[:, 0]
    assert scorer.learning_ticks().tolist() == [max(0, WARM_UP_SAMPLES - int(seen[-1]))]
    assert np.isnan(scores[seen <= WARM_UP_SAMPLES]).all()


def test_state_excludes_river_detectors():
    """The state has no river objects; after `restore` the river detector learns from scratch."""
    x, t = make_series()
    first = Scorer(5, 60, ("default", "river"))
    first.run(x[:100], t[:100])
    state = first.state()
    assert not any(name.startswith("extra.river") for name in state)
    second = Scorer(1, 60, ("default", "river"))
    second.restore(state)
    assert second.n_series == second.extras["river"].n_series == 5
    assert np.isfinite(second.step(x[100], int(t[100])).anomaly_score).any()
