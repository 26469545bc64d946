"""Linear forecasts of `linear_pool` for all horizon buckets: fit, apply, store."""

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
"""Origins per series and bucket."""
MAX_ORIGIN_DAYS = 28
"""Maximum age of the origins in days."""
MAX_POOL_SERIES = 1000
"""Maximum number of series, evenly spaced, that the pool learns from."""
CHUNK_SERIES = 64
"""Number of series processed together; bounds the memory."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Horizons low + 1 .. high in steps, the index of their fit and the horizons that it was fitted for."""

    index: int
    low: int
    high: int
    fit_low: int
    fit_high: int


@dataclass(frozen=True, slots=True)
class BucketFit:
    """A bucket fitted to some series.

    rows        : the rows used for the fit
    series_fits : coefficients and cross-validated forecasts
    scale       : (n_series,) unit of the regressors
    error_scale : (n_series,) mean error at this horizon, in the series' unit
    errors      : (n_series, n_rows) cross-validated errors in units of `error_scale`; NaN = not known
    """

    rows: OriginRows
    series_fits: SeriesFits
    scale: Floats
    error_scale: Floats
    errors: Floats

    @property
    def held_out(self) -> Floats:
        """(n_series, n_rows) cross-validated forecasts relative to the series' mean."""
        return np.asarray(
            origin_level(self.rows.features) + self.series_fits.held_out * self.scale[:, None], np.float64
        )

    @property
    def actual(self) -> Floats:
        """(n_series, n_rows) actual values relative to the series' mean; NaN = not known."""
        value = origin_level(self.rows.features) + self.rows.target * self.scale[:, None]
        return np.where(self.rows.is_known, value, np.nan)

    def forecast(self, history: History, steps: Ints, x: Floats | None = None) -> Floats:
        """Return (n_series, n_steps) forecasts from the last row on, relative to the series' mean."""
        x = latest_features(history, steps) if x is None else x
        gap = np.einsum("nhp,np->nh", regressors(x, self.scale[:, None]), self.series_fits.coefficients)
        out: Floats = origin_level(x) + gap * self.scale[:, None]
        return out


def latest_features(history: History, steps: Ints) -> Floats:
    """Return (n_series, n_steps, n_features) features with the last row as origin."""
    n, h = len(history.y), len(steps)
    series, ahead = np.repeat(np.arange(n), h), np.tile(steps, n)
    origin = np.full(n * h, history.n_steps - 1)
    return features(history, series, origin, ahead).reshape(n, h, -1)


def bucket_steps(bucket: Bucket) -> Ints:
    """Return the horizons of a bucket in steps."""
    return np.arange(bucket.low + 1, bucket.high + 1)


class LinearStage:
    """Shared coefficients (n_buckets, n_pairs), and the fits of series based on them.

    longest_s : longest horizon of the horizon buckets in seconds
    """

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self.arrays: State = {}

    def fit(self, history: History) -> None:
        """Learn the shared coefficients from `pool_history`; zeros if no series has more than a day."""
        scale, per_series = change_scale(history), max(ORIGINS_PER_SERIES * 64 // max(len(history.y), 64), 24)
        fits = [
            fit_pool(
                sample_origins(
                    history,
                    scale,
                    (low, high),
                    per_series,
                    history.steps_per_day,
                    MAX_ORIGIN_DAYS * history.steps_per_day,
                )
            )
            for low, high in self._edges(history.step_s)
        ]
        shared, spread = (np.stack(column) for column in zip(*fits, strict=True))
        self.arrays = {"shared": shared, "spread": spread, "step_s": np.array([history.step_s])}

    def buckets(self, horizon: int, step_s: float) -> list[Bucket]:
        """Return the buckets up to a horizon; the last one is extended to longer horizons.

        Raises ModelError before `fit` and for another step than that of the fit.
        """
        if not self.arrays:
            raise ModelError("the forecaster is not fitted; call fit, or restore a stored state")
        if abs(float(self.arrays["step_s"][0]) / step_s - 1) > 1e-6:
            raise ModelError(
                f"the panel has a step of {step_s:g} s, the forecaster was fitted with "
                f"{float(self.arrays['step_s'][0]):g} s; resample the series, or fit again"
            )
        edges = self._edges(step_s)
        buckets = [
            Bucket(k, low, min(high, horizon), low, high)
            for k, (low, high) in enumerate(edges)
            if low < horizon
        ]
        last = buckets[-1]
        if last.high < horizon:
            buckets[-1] = Bucket(last.index, last.low, horizon, last.fit_low, last.fit_high)
        return buckets

    def fit_bucket(self, history: History, bucket: Bucket) -> BucketFit | None:
        """Fit each series for one bucket; None if the pool has no coefficients."""
        shared = np.asarray(self.arrays["shared"][bucket.index], np.float64)
        spread = np.asarray(self.arrays["spread"][bucket.index], np.float64)
        if not shared.any():
            return None
        scale, steps_per_day = change_scale(history), history.steps_per_day
        rows = sample_origins(
            history,
            scale,
            (bucket.fit_low, bucket.fit_high),
            ORIGINS_PER_SERIES,
            steps_per_day,
            MAX_ORIGIN_DAYS * steps_per_day,
        )
        series_fits = fit_series(rows, shared, spread)
        errors = np.where(rows.is_known, rows.target - series_fits.held_out, np.nan)
        error_scale = mean_error(errors)
        return BucketFit(rows, series_fits, scale, error_scale * scale, errors / error_scale[:, None])

    def chunks(self, history: History) -> Iterator[tuple[int, History]]:
        """Yield the series in chunks, each with the index of its first series."""
        for begin in range(0, len(history.y), CHUNK_SERIES):
            yield begin, history.select(slice(begin, begin + CHUNK_SERIES))

    def state(self) -> State:
        """Return a copy of the shared coefficients."""
        return {name: array.copy() for name, array in self.arrays.items()}

    def restore(self, state: State) -> None:
        """Replace the shared coefficients. Raises StateError if they do not fit."""
        check_arrays(state, {"step_s": (1,)}, "linear stage")
        step_s = float(state["step_s"][0])
        if step_s <= 0:
            raise StateError(f"linear stage: step_s is {step_s:g}; must be above 0 seconds")
        n = len(self._edges(step_s))
        check_arrays(
            state, {"shared": (n, len(REGRESSOR_PAIRS)), "spread": (n, len(REGRESSOR_PAIRS))}, "linear stage"
        )
        self.arrays = {name: state[name].copy() for name in ("shared", "spread", "step_s")}

    def _edges(self, step_s: float) -> list[tuple[int, int]]:
        edges = bucket_edges(seconds_to_steps(self.longest_s, step_s)).tolist()
        return list(pairwise(edges))


def mean_error(errors: Floats, max_ratio: float = np.inf) -> Floats:
    """Return (n_series,) mean absolute errors; the median over series if unknown, 1 if all are 0.

    max_ratio : cap errors at this multiple of their median, unless most of them are 0
    """
    size = np.abs(errors)
    is_known = np.isfinite(size)
    n_known = is_known.sum(axis=1)
    if np.isfinite(max_ratio):
        limit = max_ratio * nan_quantiles(size, (0.5,))
        size = np.where(limit > 0, np.minimum(size, limit), size)
    mean = np.where(is_known, size, 0.0).sum(axis=1) / np.maximum(n_known, 1)
    known = mean[(n_known > 0) & (mean > 0)]
    return np.where(mean > 0, mean, float(np.median(known)) if len(known) else 1.0)


def pool_history(panel: Panel) -> History:
    """Return the history of at most MAX_POOL_SERIES series."""
    sample = panel.select(evenly_spaced(panel.y.shape[1], MAX_POOL_SERIES))
    return build_history(sample.y, sample.end, sample.step_s, sample.events)


def evenly_spaced(n: int, max_count: int) -> Ints:
    """Return at most `max_count` of n indices, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, max_count)).astype(np.int64))


def nan_quantiles(errors: Floats, quantiles: Sequence[float]) -> Floats:
    """Return (n_series, n_quantiles) quantiles of each series' known errors; NaN if there are none."""
    n_known = np.isfinite(errors).sum(axis=1)
    ordered = np.sort(errors, axis=1)  # NaN last
    position = np.maximum(n_known[:, None] - 1, 0) * np.array(quantiles)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(n_known[:, None] - 1, 0))
    a, b = (np.take_along_axis(ordered, at, axis=1) for at in (low, high))
    out: Floats = a + (position - low) * (b - a)
    return out
