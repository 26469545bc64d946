"""Rolling-origin evaluation of load forecasters: all forecast the same windows from the same history.

Errors are scaled by the series' in-sample error of a seasonal naive forecast, as in MASE (Hyndman and
Koehler, 2006), so that series of different units have equal weight.
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
    """Accuracy of a forecaster; NaN = nothing could be evaluated.

    mase     : mean absolute error of the median, in seasonal naive errors
    pinball  : mean pinball loss over the quantiles, in seasonal naive errors
    cov90    : share of values between the quantiles 0.05 and 0.95; target 0.9
    miss99   : share of values above the quantile 0.99; target 0.01
    silent   : share of values without a forecast
    points   : number of compared values
    cov90_se, miss99_se : standard errors of these shares over windows and series; the values of one series in
                          one window are correlated, so each such block counts as one; infinite = a single
                          block
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
        """Return the metrics by name, for logs and manifests."""
        return {
            "mase": self.mase, "pinball": self.pinball, "cov90": self.cov90, "miss99": self.miss99,
            "silent": self.silent, "points": float(self.points), "cov90_se": self.cov90_se,
            "miss99_se": self.miss99_se,
        }  # fmt: skip


def forecast_origins(n_rows: int, horizon: int, n: int, first: int) -> list[int]:
    """Return up to n origins (rows known at each), oldest first; the newest leaves one horizon to evaluate.

    first : minimum number of known rows

    >>> forecast_origins(1000, 100, 3, 200)
    [700, 800, 900]
    """
    newest = n_rows - horizon
    return [origin for origin in (newest - k * horizon for k in range(n - 1, -1, -1)) if origin >= first]


def backtest_load(
    named_panel: NamedPanel, contenders: Mapping[str, Forecaster], horizon: int, origins: Sequence[int]
) -> dict[str, ForecastMetrics]:
    """Return the metrics of each contender by name; contenders are fitted, on no row after the first origin.

    origins : rows known at each window, see `forecast_origins`
    """
    sums: dict[str, list[Floats]] = {name: [] for name in contenders}
    for origin in origins:
        past = named_panel.first_rows(origin)
        actual = named_panel.panel.y[origin : origin + horizon]
        scale = naive_scale(past.panel.y, past.panel.step_s)
        for name, contender in contenders.items():
            forecast = contender.predict(past.panel, horizon, QUANTILES)
            sums[name].append(_sums(forecast[:, : len(actual)], actual, scale))
    return {name: _metrics(np.concatenate(blocks, axis=1)) for name, blocks in sums.items()}


def naive_scale(y: Floats, step_s: float) -> Floats:
    """Return (n_series,) mean absolute change over a day, or over a step if less is known; NaN = unknown."""
    day = round(_DAY_S / step_s)
    lag = day if len(y) > day + day // 4 else 1
    with np.errstate(invalid="ignore"):
        changes = np.abs(y[lag:] - y[:-lag])
        known = np.isfinite(changes)
        mean = np.where(known, changes, 0.0).sum(axis=0) / known.sum(axis=0)
    level = np.nanmax(np.abs(np.where(np.isfinite(y), y, 0.0)), axis=0, initial=0.0)
    return np.asarray(np.where(mean > 1e-9 * level, mean, np.nan), np.float64)


def pinball_loss(forecast: Floats, actual: Floats, quantiles: Sequence[float]) -> Floats:
    """Return the pinball loss of each forecast quantile, (n_quantiles, ...).

    >>> pinball_loss(np.array([[1.0]]), np.array([3.0]), [0.9]).tolist()
    [[1.8]]
    """
    q = np.asarray(quantiles).reshape(-1, *([1] * actual.ndim))
    over = actual - forecast
    return np.asarray(np.maximum(q * over, (q - 1.0) * over), np.float64)


def _sums(forecast: Floats, actual: Floats, scale: Floats) -> Floats:
    """Return (6, n_series): points, absolute errors, pinball loss, values inside, values above, gaps."""
    known = np.isfinite(actual) & np.isfinite(scale)
    compared = known & np.isfinite(forecast).all(axis=0)
    loss = pinball_loss(forecast, actual, QUANTILES).mean(axis=0) / scale
    absolute = np.abs(actual - forecast[1]) / scale
    inside = (actual >= forecast[0]) & (actual <= forecast[3])
    above = actual > forecast[4]
    parts = [
        compared.sum(axis=0),
        *(np.where(compared, part, 0.0).sum(axis=0) for part in (absolute, loss, inside, above)),
    ]
    return np.array([*parts, (known & ~compared).sum(axis=0)], np.float64)


def _metrics(blocks: Floats) -> ForecastMetrics:
    """Reduce blocks of `_sums`, (6, n_blocks), to metrics."""
    points, absolute, loss, inside, above, silent = blocks.sum(axis=1).tolist()
    if points == 0:
        return ForecastMetrics(np.nan, np.nan, np.nan, np.nan, 1.0, 0)
    return ForecastMetrics(
        absolute / points, loss / points, inside / points, above / points, silent / (points + silent),
        int(points), _standard_error(blocks[3], blocks[0]), _standard_error(blocks[4], blocks[0]),
    )  # fmt: skip


def _standard_error(part: Floats, whole: Floats) -> float:
    """Standard error of the ratio of both sums (Cochran, Sampling Techniques, 1977, chapter 6)."""
    n = int((whole > 0).sum())
    if n < 2:
        return float("inf")
    deviation = part - part.sum() / whole.sum() * whole
    return float(np.sqrt((deviation**2).sum() * n / (n - 1)) / whole.sum())


def mean_scaled_loss(forecast: Floats, actual: Floats, scale: Floats, rows: Ints) -> float:
    """Return the mean scaled pinball loss over some rows of a forecast; NaN = no row can be compared.

    forecast : (n_quantiles, horizon, n_series) forecasts
    actual   : (n_rows, n_series) values, NaN = no sample
    scale    : (n_series,) see `naive_scale`
    rows     : (n_rows,) rows of the horizon that `actual` covers
    """
    sums = _sums(forecast[:, rows], actual, scale).sum(axis=1)
    return float(sums[2] / sums[0]) if sums[0] else float("nan")
