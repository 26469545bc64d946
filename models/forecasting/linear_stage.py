"""The linear forecasts of `linear_pool` over all buckets of horizons: fitted, applied, stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trimtab.models.contracts import Floats, Ints, Panel, State
from trimtab.models.errors import ModelError, StateError
from trimtab.models.forecasting.linear_pool import (
    REGRESSOR_PAIRS,
    OriginRows,
    SeriesFits,
    bucket_edges,
    change_scale,
    fit_pool,
    fit_series,
    origin_level,
    regressors,
    sample_origins,
)
from trimtab.models.forecasting.panel_features import History, build_history, features, seconds_to_steps
from trimtab.models.forecasting.state_checks import check_arrays

ORIGINS_PER_SERIES = 400
"""Rows of a series in a bucket."""
MAX_ORIGIN_DAYS = 28
"""How far back the origins lie."""
MAX_POOL_SERIES = 1000
"""The pool learns from so many of the series at most, spread evenly over them."""
CHUNK_SERIES = 64
"""Series that are worked on at once: bounds memory."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Horizons low + 1 .. high; the index of the fit that serves them, and the horizons it was made for."""

    index: int
    low: int
    high: int
    fit_low: int
    fit_high: int


@dataclass(frozen=True, slots=True)
class BucketFit:
    """A bucket fitted to some series.

    rows     : what it was fitted to
    own      : the coefficients
    scale    : (n_series,) unit of the regressors
    unit     : (n_series,) usual error at this horizon, in the series' unit
    errors   : (n_series, n_rows) errors of fits that left the row's block out, in `unit`; NaN = no row
    """

    rows: OriginRows
    series_fits: SeriesFits
    scale: Floats
    error_scale: Floats
    errors: Floats

    @property
    def held_out(self) -> Floats:
        """(n_series, n_rows) about the series' middle: the forecasts that left the row's block out."""
        return np.asarray(
            origin_level(self.rows.features) + self.series_fits.held_out * self.scale[:, None], np.float64
        )

    @property
    def actual(self) -> Floats:
        """(n_series, n_rows) about the series' middle: what came; NaN = not known."""
        came = origin_level(self.rows.features) + self.rows.target * self.scale[:, None]
        return np.where(self.rows.is_known, came, np.nan)

    def forecast(self, history: History, steps: Ints, x: Floats | None = None) -> Floats:
        """(n_series, n_steps) from the last row on, about the series' middle."""
        x = latest_features(history, steps) if x is None else x
        gap = np.einsum("nhp,np->nh", regressors(x, self.scale[:, None]), self.series_fits.coefficients)
        out: Floats = origin_level(x) + gap * self.scale[:, None]
        return out


def latest_features(history: History, steps: Ints) -> Floats:
    """(n_series, n_steps, n_values) features of the last row as origin."""
    n, h = len(history.y), len(steps)
    series, ahead = np.repeat(np.arange(n), h), np.tile(steps, n)
    now = np.full(n * h, history.n_steps - 1)
    return features(history, series, now, ahead).reshape(n, h, -1)


def bucket_steps(bucket: Bucket) -> Ints:
    """The horizons of a bucket, in steps."""
    return np.arange(bucket.low + 1, bucket.high + 1)


class LinearStage:
    """Shared coefficients (n_buckets, n_pairs), and from them the fit of any series."""

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self.arrays: State = {}

    def fit(self, history: History) -> None:
        """Learn what the series of a pool share, see `pool_of`; nothing, where none shows a day and more."""
        scale, per = change_scale(history), max(ORIGINS_PER_SERIES * 64 // max(len(history.y), 64), 24)
        made = [
            fit_pool(
                sample_origins(
                    history,
                    scale,
                    (low, high),
                    per,
                    history.steps_per_day,
                    MAX_ORIGIN_DAYS * history.steps_per_day,
                )
            )
            for low, high in self._edges(history.step_s)
        ]
        shared, spread = (np.stack(column) for column in zip(*made, strict=True))
        self.arrays = {"shared": shared, "spread": spread, "step_s": np.array([history.step_s])}

    def buckets(self, horizon: int, step_s: float) -> list[Bucket]:
        """The buckets up to a horizon; the last one reaches as far as is asked. Raises ModelError."""
        if not self.arrays:
            raise ModelError("the forecaster knows no series yet; call fit, or restore a stored state")
        if abs(float(self.arrays["step_s"][0]) / step_s - 1) > 1e-6:
            raise ModelError(
                f"the panel has a row each {step_s:g} s, the forecaster learnt rows of "
                f"{float(self.arrays['step_s'][0]):g} s; bring the series to that step, or fit again"
            )
        edges = self._edges(step_s)
        found = [
            Bucket(k, low, min(high, horizon), low, high)
            for k, (low, high) in enumerate(edges)
            if low < horizon
        ]
        last = found[-1]
        if last.high < horizon:
            found[-1] = Bucket(last.index, last.low, horizon, last.fit_low, last.fit_high)
        return found

    def fit_bucket(self, history: History, bucket: Bucket) -> BucketFit | None:
        """The fit of each series of a part for one bucket; None where the pool learnt nothing."""
        shared = np.asarray(self.arrays["shared"][bucket.index], np.float64)
        spread = np.asarray(self.arrays["spread"][bucket.index], np.float64)
        if not shared.any():
            return None
        scale, day = change_scale(history), history.steps_per_day
        rows = sample_origins(
            history, scale, (bucket.fit_low, bucket.fit_high), ORIGINS_PER_SERIES, day, MAX_ORIGIN_DAYS * day
        )
        own = fit_series(rows, shared, spread)
        errors = np.where(rows.is_known, rows.target - own.held_out, np.nan)
        unit = mean_error(errors)
        return BucketFit(rows, own, scale, unit * scale, errors / unit[:, None])

    def chunks(self, history: History) -> Iterator[tuple[int, History]]:
        """The series in parts, each with the number of its first."""
        for begin in range(0, len(history.y), CHUNK_SERIES):
            yield begin, history.select(slice(begin, begin + CHUNK_SERIES))

    def state(self) -> State:
        """A copy of what was learnt."""
        return {name: array.copy() for name, array in self.arrays.items()}

    def restore(self, state: State) -> None:
        """Go on where `state` was taken. Raises StateError where it does not fit."""
        check_arrays(state, {"step_s": (1,)}, "linear stage")
        step_s = float(state["step_s"][0])
        if step_s <= 0:
            raise StateError(f"linear stage: step_s is {step_s:g}; wanted seconds above 0")
        n = len(self._edges(step_s))
        check_arrays(
            state, {"shared": (n, len(REGRESSOR_PAIRS)), "spread": (n, len(REGRESSOR_PAIRS))}, "linear stage"
        )
        self.arrays = {name: state[name].copy() for name in ("shared", "spread", "step_s")}

    def _edges(self, step_s: float) -> list[tuple[int, int]]:
        edges = bucket_edges(seconds_to_steps(self.longest_s, step_s)).tolist()
        return list(pairwise(edges))


def mean_error(errors: Floats, max_ratio: float = np.inf) -> Floats:
    """(n_series,) mean absolute error; that of the middle series where there is none; 1 where all are 0.

    most : errors count up to so many of their medians, unless most of them are 0
    """
    size = np.abs(errors)
    there = np.isfinite(size)
    n = there.sum(axis=1)
    if np.isfinite(max_ratio):
        limit = max_ratio * nan_quantiles(size, (0.5,))
        size = np.where(limit > 0, np.minimum(size, limit), size)
    mean = np.where(there, size, 0.0).sum(axis=1) / np.maximum(n, 1)
    known = mean[(n > 0) & (mean > 0)]
    return np.where(mean > 0, mean, float(np.median(known)) if len(known) else 1.0)


def pool_history(panel: Panel) -> History:
    """What is learnt from: of many series so many, before their running sums are made."""
    some = panel.select(evenly_spaced(panel.y.shape[1], MAX_POOL_SERIES))
    return build_history(some.y, some.end, some.step_s, some.events)


def evenly_spaced(n: int, most: int) -> Ints:
    """At most so many of n indices, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def nan_quantiles(errors: Floats, quantiles: Sequence[float]) -> Floats:
    """(n_series, n_quantiles) empirical quantiles of what is known of each series; NaN where nothing is."""
    known = np.isfinite(errors).sum(axis=1)
    ordered = np.sort(errors, axis=1)  # NaN last
    place = np.maximum(known[:, None] - 1, 0) * np.array(quantiles)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(known[:, None] - 1, 0))
    a, b = (np.take_along_axis(ordered, at, axis=1) for at in (low, high))
    out: Floats = a + (place - low) * (b - a)
    return out
