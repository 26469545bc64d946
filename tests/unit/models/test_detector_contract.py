"""Contract of `trimtab.models.contracts.Detector`, for every detector of the catalogue."""

import copy

import numpy as np
import pytest

from trimtab.models.catalogue import detector, detector_names
from trimtab.models.contracts import Detector
from trimtab.models.errors import ShapeError, StateError

N, TICKS, INTERVAL_NS = 6, 400, 300 * 10**9

PARAMETERS = {
    "half_space_trees": [{"window_size": 40}, {"window_size": 40, "exact": True, "limits": (0.0, 30.0)}],
    "ew_zscore": [{}, {"exact": True, "fading_factor": 0.1}],
    "river": [
        {"n_trees": 3, "height": 4, "window_size": 40, "scale": True},
        {"model": "time_series.HoltWinters", "alpha": 0.3},
        {"model": "GaussianScorer", "grace_period": 40},
        {"n_trees": 3, "height": 4, "window_size": 40, "entity_of_slot": [0, 0, 0, 1, 1, 2]},
    ],
}
"""Parameter sets per detector; one default set for the others."""
UNGATED_ARRAYS = {"level_shift": {"recent", "place"}, "seasonal_residual": {"level"}}
"""State arrays that also follow gated samples: a shift is visible in gated samples only, and the value after
a gated sample may be close to it.
"""

CASES = [(name, given) for name in detector_names() for given in PARAMETERS.get(name, [{}])]
IDS = [f"{name}-{k}" for name in detector_names() for k in range(len(PARAMETERS.get(name, [{}])))]


def make_series(seed=0, ticks=TICKS):
    """Return (ticks, N) values of six kinds with gaps, and their times with a gap of three days."""
    rng = np.random.default_rng(seed)
    k = np.arange(ticks)
    x = np.stack(
        [
            rng.normal(10, 1, ticks),
            rng.lognormal(1, 0.5, ticks),
            rng.poisson(3, ticks).astype(float),
            10 + 5 * np.sin(k * 2 * np.pi / 48) + rng.normal(0, 0.2, ticks),
            np.full(ticks, 7.0),
            np.where(k < ticks // 2, 0.0, 20.0) + rng.normal(0, 0.5, ticks),
        ],
        axis=1,
    )
    x[rng.random(x.shape) < 0.03] = np.nan
    return x, (k + 10**4) * INTERVAL_NS + np.where(k > ticks // 2, 3 * 86_400 * 10**9, 0)


@pytest.fixture(params=CASES, ids=IDS)
def case(request):
    """Return (name, make); make(n) creates a detector for n series."""
    name, given = request.param

    def make(n=N):
        more = {k: v[:n] if k == "entity_of_slot" else v for k, v in given.items()}
        return detector(name, n_series=n, **more)

    return name, make


def future_statistics(d, seed=9):
    """Return a copy's statistics of 60 further ticks; equal statistics mean equal states."""
    x, t = make_series(seed, 60)
    return copy.deepcopy(d).run(x[:, : d.n_series], t + 10**6 * INTERVAL_NS)


def make_warm(make):
    """Return a detector that has learnt, with its values and times."""
    d = make()
    x, t = make_series()
    d.run(x, t)
    return d, x, t


def is_series_level(d):
    """Return whether the detector treats its series independently."""
    return d.level == "series"


def test_is_a_detector(case):
    """The detector has every method and attribute of the contract."""
    d = case[1]()
    assert isinstance(d, Detector)
    assert d.n_series == N
    assert d.level in {"series", "entity"}
    assert isinstance(d.two_sided, bool)
    assert isinstance(d.restorable, bool)


def test_becomes_warm(case):
    """The detector returns finite statistics after its warm-up; one-sided ones are never negative."""
    x, t = make_series()
    d = case[1]()
    s = d.run(x, t)
    assert s.shape == x.shape
    assert not np.isinf(s).any()
    assert np.isfinite(s[-50:][np.isfinite(x[-50:])]).mean() > 0.8
    assert d.two_sided or not (s < 0).any()


def test_scores_before_it_learns(case):
    """`step` returns the statistic of `score` and leaves the same state as `learn`."""
    x, t = make_series()
    d, e = case[1](), case[1]()
    for row, at in zip(x[:120], t[:120].tolist(), strict=True):
        before = d.score(row, at)
        np.testing.assert_array_equal(d.step(row, at), before)
        e.learn(row, at)
    np.testing.assert_array_equal(future_statistics(d), future_statistics(e))


def test_scoring_changes_nothing(case):
    """`score` and `expected` do not change the state."""
    d, x, t = make_warm(case[1])
    want, kept = future_statistics(d), d.state() if d.restorable else {}
    for k in range(30):
        d.score(x[k] + 100.0, int(t[-1]) + k * INTERVAL_NS)
        d.expected(int(t[-1]) + k * INTERVAL_NS)
    np.testing.assert_array_equal(future_statistics(d), want)
    for name, array in kept.items():
        np.testing.assert_array_equal(d.state()[name], array)


def test_no_sample_is_unknown_and_not_learnt(case):
    """NaN has the statistic NaN and does not change the state."""
    d, _, t = make_warm(case[1])
    want = future_statistics(d)
    for k in range(5):
        assert np.isnan(d.step(np.full(N, np.nan), int(t[-1]) + (k + 1) * INTERVAL_NS)).all()
    np.testing.assert_array_equal(future_statistics(d), want)


def test_is_causal(case):
    """Later values change no earlier statistic."""
    x, t = make_series()
    whole, part = case[1]().run(x, t), case[1]().run(x[:250], t[:250])
    np.testing.assert_array_equal(part, whole[:250])


def test_run_equals_repeated_step(case):
    """`run`, in one call or two, equals repeated `step` bit by bit, also with mask and gate."""
    x, t = make_series()
    where = np.random.default_rng(1).random(x.shape) < 0.8
    gate = np.full(N, 2.0)
    one, many, two = case[1](), case[1](), case[1]()
    whole = one.run(x, t, where, gate)
    single = [many.step(x[k], int(t[k]), where[k], gate) for k in range(TICKS)]
    halves = [two.run(x[a:b], t[a:b], where[a:b], gate) for a, b in ((0, 170), (170, TICKS))]
    np.testing.assert_array_equal(np.array(single), whole)
    np.testing.assert_array_equal(np.concatenate(halves), whole)
    np.testing.assert_array_equal(future_statistics(many), future_statistics(one))
    np.testing.assert_array_equal(future_statistics(two), future_statistics(one))


def test_learns_only_where_it_may(case):
    """A masked series keeps its state; an entity learns only if all its present series may."""
    x, t = make_series()
    d, half, never = case[1](), case[1](), case[1]()
    d.run(x, t)
    where = np.array([True, True, True, False, False, False])
    half.run(x, t, where)
    np.testing.assert_array_equal(future_statistics(half)[:, :3], future_statistics(d)[:, :3])
    np.testing.assert_array_equal(future_statistics(half)[:, 3:], future_statistics(never)[:, 3:])


def test_learns_nothing_beyond_the_gate(case):
    """A sample with a statistic beyond the gate is scored but not learnt; others are learnt."""
    name, make = case
    d, x, t = make_warm(make)
    row, at = np.where(np.isnan(x[-1]), 7.0, x[-1]) + 1000.0, int(t[-1]) + INTERVAL_NS
    masked, wide, free = (copy.deepcopy(d) for _ in range(3))
    s = d.step(row, at, gate=np.full(N, -1.0))
    np.testing.assert_array_equal(masked.step(row, at, where=np.isnan(s)), s)
    if name not in UNGATED_ARRAYS:
        np.testing.assert_array_equal(future_statistics(d), future_statistics(masked))
    for field in set(d.state()) - UNGATED_ARRAYS.get(name, set()) if d.restorable else ():
        np.testing.assert_array_equal(d.state()[field], masked.state()[field])
    np.testing.assert_array_equal(wide.step(row, at, gate=np.full(N, np.inf)), free.step(row, at))
    np.testing.assert_array_equal(future_statistics(wide), future_statistics(free))


def test_state_round_trip(case):
    """`restore` continues from the state of `state`; a detector without stored state raises StateError."""
    d, x, t = make_warm(case[1])
    if not d.restorable:
        with pytest.raises(StateError, match="replay"):
            d.state()
        with pytest.raises(StateError, match="replay"):
            d.restore({})
        return
    kept, want = d.state(), future_statistics(d)
    d.run(x + 50.0, t)
    fresh = case[1](1)
    fresh.restore(kept)
    assert fresh.n_series == N
    np.testing.assert_array_equal(future_statistics(fresh), want)
    fresh.run(x, t)
    again = case[1]()
    again.restore(kept)
    np.testing.assert_array_equal(future_statistics(again), want)


def test_refuses_a_state_that_does_not_fit(case):
    """A state with a missing field or another size raises StateError and changes nothing."""
    d, _, _ = make_warm(case[1])
    if not d.restorable:
        with pytest.raises(StateError):
            d.put(np.array([0]), {})
        return
    want = future_statistics(d)
    name = next(iter(d.state()))
    missing = {k: v for k, v in d.state().items() if k != name}
    wrong = d.state() | {name: np.zeros((3, 3, 3), np.int8)}
    for bad in (missing, wrong, {}):
        with pytest.raises(StateError):
            d.restore(bad)
    np.testing.assert_array_equal(future_statistics(d), want)


def test_takes_a_series_to_another_slot(case):
    """`take` and `put` copy the learned state of a series to another bank and slot."""
    d, x, t = make_warm(case[1])
    want = future_statistics(d)
    other = case[1]()
    slots = np.arange(N) if not is_series_level(d) else np.array([0, 3, 5])
    to = slots if not is_series_level(d) else np.array([4, 2, 1])
    moved = d.take(slots)
    other.put(to, moved)
    d.run(x, t)  # the copies must not notice
    x9, t9 = make_series(9, 60)
    y = np.full_like(x9, np.nan)
    y[:, to] = x9[:, slots]
    got = other.run(y, t9 + 10**6 * INTERVAL_NS)
    np.testing.assert_array_equal(got[:, to], want[:, slots])


def test_series_do_not_leak_into_each_other(case):
    """A series (or entity) has the same statistics alone and among others, in any order."""
    x, t = make_series()
    d = case[1]()
    whole = d.run(x, t)
    if is_series_level(d):
        order = np.array([5, 2, 0, 4, 1, 3])
        np.testing.assert_array_equal(case[1]().run(x[:, order], t), whole[:, order])
        np.testing.assert_array_equal(case[1](1).run(x[:, 3:4], t), whole[:, 3:4])
    own = slice(0, 1) if is_series_level(d) else slice(0, 3)
    alone = np.full_like(x, np.nan)
    alone[:, own] = x[:, own]
    np.testing.assert_array_equal(case[1]().run(alone, t)[:, own], whole[:, own])


def test_grows(case):
    """`grow` keeps existing series, starts new ones from scratch and cannot shrink."""
    d, x, t = make_warm(case[1])
    want = future_statistics(d)
    d.grow(2 * N)
    assert d.n_series == 2 * N
    x9, t9 = make_series(9, 60)
    got = copy.deepcopy(d).run(np.hstack([x9, x9]), t9 + 10**6 * INTERVAL_NS)
    np.testing.assert_array_equal(got[:, :N], want)
    if is_series_level(d):
        np.testing.assert_array_equal(got[:, N:], future_statistics(case[1]()))
    else:
        assert np.isnan(got[:, N:]).all(), "new slots belong to no entity yet"
    with pytest.raises(ShapeError):
        d.grow(N)
    d.run(np.hstack([x, x]), t)


def test_slots_are_used_again(case):
    """A reset slot behaves like a new one and does not change other slots."""
    d, _, _ = make_warm(case[1])
    want = future_statistics(d)
    slots = np.array([1, 4]) if is_series_level(d) else np.array([3, 4])
    d.reset(slots)
    got = future_statistics(d)
    rest = np.setdiff1d(np.arange(N), slots)
    np.testing.assert_array_equal(got[:, rest], want[:, rest])
    np.testing.assert_array_equal(got[:, slots], future_statistics(case[1]())[:, slots])


def test_memory_is_bounded(case):
    """The state does not grow with the number of ticks and matches `bytes_per_series`."""
    d, x, t = make_warm(case[1])
    if not d.restorable:
        before = d.bytes_per_series()
        for _ in range(3):
            d.run(x, t)
        assert 0 < d.bytes_per_series() < 1.2 * before + 4096
        return
    size = sum(a.nbytes for a in d.state().values())
    d.run(np.tile(x, (9, 1)), np.arange(9 * TICKS, dtype=np.int64) * INTERVAL_NS)
    assert sum(a.nbytes for a in d.state().values()) == size == N * d.bytes_per_series()


def test_times_are_data(case):
    """Shifting all times by ten weeks changes nothing: no clock is read."""
    x, t = make_series()
    weeks = 10 * 7 * 86_400 * 10**9
    np.testing.assert_array_equal(case[1]().run(x, t + weeks), case[1]().run(x, t))


def test_expected_is_a_band(case):
    """The expected value lies within its band; it is NaN before anything is learnt."""
    d, _, t = make_warm(case[1])
    band = d.expected(int(t[-1]) + INTERVAL_NS)
    if band is None:
        return
    yhat, lower, upper = band
    assert yhat.shape == lower.shape == upper.shape == (N,)
    assert np.isfinite(yhat).all()
    known = np.isfinite(lower) & np.isfinite(upper)
    assert (lower[known] <= yhat[known]).all()
    assert (yhat[known] <= upper[known]).all()
    fresh = case[1]().expected(int(t[0]))
    assert fresh is not None
    assert np.isnan(fresh[0]).all()


def test_refuses_other_shapes(case):
    """Values with another number of series, or of times, raise ShapeError."""
    d = case[1]()
    with pytest.raises(ShapeError):
        d.score(np.zeros(N + 1), 0)
    with pytest.raises(ShapeError):
        d.step(np.zeros(N - 1), 0)
    with pytest.raises(ShapeError):
        d.run(np.zeros((3, N)), np.arange(2))
