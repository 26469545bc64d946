"""Rolling-origin judgement of load forecasters: all forecast the same windows from the same past.

Errors are scaled by the series' own in-sample error of a seasonal naive forecast, as MASE does (Hyndman and
Koehler, 2006), so that series of all units count alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.models.contracts import Floats, Forecaster, Ints
from trimtab.pipelines.io.panel import NamedPanel
from trimtab.pipelines.io.stored_forecasts import QUANTILES

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ForecastMetrics:
    """How a forecaster did; NaN = nothing could be judged.

    mase     : mean absolute error of the median, in seasonal naive errors
    pinball  : mean pinball loss over the quantiles, in seasonal naive errors
    cov90    : share of values between the quantiles 0.05 and 0.95, wanted 0.9
    miss99   : share of values above the quantile 0.99, wanted 0.01
    silent   : share of series without a forecast
    points   : values that were compared
    cov90_se, miss99_se : standard errors of these shares over windows and series: values of one series in one
               window go astray together, so each such block counts as one; infinite = one block tells nothing
    """

    mase: float
    pinball: float
    cov90: float
    miss99: float
    silent: float
    points: int
    cov90_se: float = 0.0
    miss99_se: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """By name, for logs and manifests."""
        return {
            "mase": self.mase, "pinball": self.pinball, "cov90": self.cov90, "miss99": self.miss99,
            "silent": self.silent, "points": float(self.points), "cov90_se": self.cov90_se,
            "miss99_se": self.miss99_se,
        }  # fmt: skip


def forecast_origins(n_rows: int, horizon: int, n: int, first: int) -> list[int]:
    """Up to n origins, the rows known at each, oldest first; the newest leaves one horizon to be judged.

    first : rows that the past must have at least

    >>> forecast_origins(1000, 100, 3, 200)
    [700, 800, 900]
    """
    newest = n_rows - horizon
    return [origin for origin in (newest - k * horizon for k in range(n - 1, -1, -1)) if origin >= first]


def backtest_load(
    named: NamedPanel, contenders: Mapping[str, Forecaster], horizon: int, origins: Sequence[int]
) -> dict[str, ForecastMetrics]:
    """Figures of each contender, by name; each was fitted before, on no row behind the first origin.

    origins : rows known at each window, see `origins_of`
    """
    sums: dict[str, list[Floats]] = {name: [] for name in contenders}
    for origin in origins:
        past = named.first_rows(origin)
        actual = named.panel.y[origin : origin + horizon]
        scale = naive_scale(past.panel.y, past.panel.step_s)
        for name, contender in contenders.items():
            ahead = contender.predict(past.panel, horizon, QUANTILES)
            sums[name].append(_sums(ahead[:, : len(actual)], actual, scale))
    return {name: _figures(np.concatenate(blocks, axis=1)) for name, blocks in sums.items()}


def naive_scale(y: Floats, step_s: float) -> Floats:
    """(n_series,) mean absolute change over a day, or over a step where there is no day; NaN = unknown."""
    day = round(_DAY_S / step_s)
    lag = day if len(y) > day + day // 4 else 1
    with np.errstate(invalid="ignore"):
        changes = np.abs(y[lag:] - y[:-lag])
        known = np.isfinite(changes)
        mean = np.where(known, changes, 0.0).sum(axis=0) / known.sum(axis=0)
    level = np.nanmax(np.abs(np.where(np.isfinite(y), y, 0.0)), axis=0, initial=0.0)
    return np.asarray(np.where(mean > 1e-9 * level, mean, np.nan), np.float64)


def pinball_loss(ahead: Floats, actual: Floats, quantiles: Sequence[float]) -> Floats:
    """(n_quantiles, ...) loss of each forecast quantile.

    >>> pinball_loss(np.array([[1.0]]), np.array([3.0]), [0.9]).tolist()
    [[1.8]]
    """
    q = np.asarray(quantiles).reshape(-1, *([1] * actual.ndim))
    over = actual - ahead
    return np.asarray(np.maximum(q * over, (q - 1.0) * over), np.float64)


def _sums(ahead: Floats, actual: Floats, scale: Floats) -> Floats:
    """(6, n_series): points, absolute errors, pinball, inside, above, points without a forecast."""
    known = np.isfinite(actual) & np.isfinite(scale)
    told = known & np.isfinite(ahead).all(axis=0)
    loss = pinball_loss(ahead, actual, QUANTILES).mean(axis=0) / scale
    off = np.abs(actual - ahead[1]) / scale
    inside = (actual >= ahead[0]) & (actual <= ahead[3])
    above = actual > ahead[4]
    parts = [told.sum(axis=0), *(np.where(told, one, 0.0).sum(axis=0) for one in (off, loss, inside, above))]
    return np.array([*parts, (known & ~told).sum(axis=0)], np.float64)


def _figures(blocks: Floats) -> ForecastMetrics:
    """Blocks : (6, n_blocks), of `_sums`."""
    points, off, loss, inside, above, silent = blocks.sum(axis=1).tolist()
    if points == 0:
        return ForecastMetrics(np.nan, np.nan, np.nan, np.nan, 1.0, 0)
    return ForecastMetrics(
        off / points, loss / points, inside / points, above / points, silent / (points + silent), int(points),
        _standard_error(blocks[3], blocks[0]), _standard_error(blocks[4], blocks[0]),
    )  # fmt: skip


def _standard_error(part: Floats, whole: Floats) -> float:
    """Of the ratio of both sums over blocks (Cochran, Sampling Techniques, 1977, chapter 6)."""
    n = int((whole > 0).sum())
    if n < 2:
        return float("inf")
    apart = part - part.sum() / whole.sum() * whole
    return float(np.sqrt((apart**2).sum() * n / (n - 1)) / whole.sum())


def mean_scaled_loss(ahead: Floats, actual: Floats, scale: Floats, rows: Ints) -> float:
    """Mean scaled pinball loss of forecasts whose time has come; NaN = none has.

    ahead  : (n_quantiles, horizon, n_series); rows : those of the horizon that `actual` tells of
    """
    sums = _sums(ahead[:, rows], actual, scale).sum(axis=1)
    return float(sums[2] / sums[0]) if sums[0] else float("nan")
