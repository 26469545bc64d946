"""Seasonal residual: error of the best of several simple predictions, daily and weekly seasons among them."""

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from trimtab.models.bank import Bank, StateField
from trimtab.models.contracts import Floats

DAY_BINS = 288
WEEK_BINS = 168
DAY_NS = 86_400_000_000_000
LAST, FAST, SLOW, DAY, WEEK = range(5)
"""Predictions: the last value, a fast and a slow mean, the daily season, the weekly season."""
N_PREDICTIONS = 5
RETURN_LEVEL = 3
"""Column of the levels: the level that a short excursion is expected to return to.

It becomes the last value or the former return level, whichever is nearer to the new sample.
"""
BIN_RATE = 0.3
"""Share by which one visit moves a season bin."""
RELATIVE_TOLERANCE = 1e-9
"""Relative residual below which a prediction is exact (the tables are float32 relative to their base)."""
SLOW_SPREAD_RATE_RATIO = 0.1
"""Learning rate of the slow spread relative to the fast one, which forgets rare events."""
MAX_SEASON_ERROR_RATIO = 0.9
"""A season is used only if its error is below this share of the best other error."""


@njit(cache=True)
def _season_value(i, t, table, period_ns):
    """Return the season's value at t, interpolated between bin centres; nan if unknown."""
    bins = table.shape[0]
    position = (t % period_ns) / period_ns * bins - 0.5
    low = math.floor(position)
    fraction = position - low
    a = float(table[low % bins, i])
    b = float(table[(low + 1) % bins, i])
    if math.isnan(a) or math.isnan(b):
        return float(table[int((t % period_ns) / period_ns * bins) % bins, i])
    return a + fraction * (b - a)


@njit(cache=True)
def predicted_value(i, t, kind, level, offset, base, day, week):
    """Return the value that prediction `kind` expects at t."""
    if kind == DAY:
        return base[i] + offset[i, 0] + _season_value(i, t, day, DAY_NS)
    if kind == WEEK:
        return base[i] + offset[i, 1] + _season_value(i, t, week, 7 * DAY_NS)
    return level[i, kind]


@njit(cache=True)
def best_prediction(i, error):
    """Return the prediction with the smallest past error; a season must win by a margin."""
    best = SLOW
    for kind in (FAST, LAST):
        if error[i, kind] < MAX_SEASON_ERROR_RATIO * error[i, best]:
            best = kind
    best_plain_error = error[i, best]
    for kind in (DAY, WEEK):
        if error[i, kind] < MAX_SEASON_ERROR_RATIO * best_plain_error and error[i, kind] < error[i, best]:
            best = kind
    return best


@njit(cache=True)
def expected_value(i, t, level, offset, base, error, day, week):
    """Return the best prediction for t, or the slow mean where the season is unknown."""
    yhat = predicted_value(i, t, best_prediction(i, error), level, offset, base, day, week)
    return level[i, SLOW] if math.isnan(yhat) else yhat


@njit(cache=True)
def nearest_recent_level(i, x, level):
    """Return the last value or the return level, whichever is nearer to x; so the end of a blip is usual."""
    return_level = level[i, RETURN_LEVEL]
    return return_level if abs(x - return_level) < abs(x - level[i, LAST]) else level[i, LAST]


@njit(cache=True)
def season_usual_range(i, yhat, error, level):
    """Return (lowest, highest) of the values that the best prediction considers usual at the same time."""
    if best_prediction(i, error) != LAST:
        return yhat, yhat
    return min(yhat, level[i, RETURN_LEVEL]), max(yhat, level[i, RETURN_LEVEL])


@njit(cache=True)
def season_spread(i, spread):
    """Return the unit of residuals: the mean of the fast and the slow spread."""
    return 0.5 * (spread[i, 0] + spread[i, 1])


@njit(cache=True)
def season_score(i, x, t, level, offset, base, error, seen, spread, day, week):
    """Return the signed residual of the best prediction in spreads; nan before the second sample."""
    if not math.isfinite(x) or seen[i] < 2.0:
        return math.nan
    yhat = expected_value(i, t, level, offset, base, error, day, week)
    if best_prediction(i, error) == LAST:
        yhat = nearest_recent_level(i, x, level)
    gap = x - yhat
    if abs(gap) <= RELATIVE_TOLERANCE * abs(yhat):
        return 0.0
    unit = season_spread(i, spread)
    return gap / unit if unit > 0.0 else math.copysign(math.inf, gap)


@njit(cache=True)
def _learn_season_bin(i, x, t, rate, which, table, period_ns, offset, visit):
    """Move the season bin of t towards x, and the season's offset towards its error."""
    b = int((t % period_ns) / period_ns * table.shape[0])
    old = float(table[b, i])
    if visit[i, 2 * which] != b:
        visit[i, 2 * which] = b
        visit[i, 2 * which + 1] = 1 if math.isnan(old) else 0
    gap = x - offset[i, which]
    if math.isnan(old):
        table[b, i] = gap
    elif visit[i, 2 * which + 1] > 0:
        visit[i, 2 * which + 1] += 1
        table[b, i] = old + (gap - old) / visit[i, 2 * which + 1]
    else:
        table[b, i] = old + rate * (gap - old)
        offset[i, which] += 0.02 * (gap - old)


@njit(cache=True)
def season_learn(i, x, t, interval_s, alpha, level, offset, base, error, seen, spread, visit, day, week):
    """Update the errors of all predictions, then their states."""
    if not math.isfinite(x):
        return
    if seen[i] == 0.0:
        base[i] = x
        level[i, :] = x
    seen[i] += 1.0
    rate = max(alpha, 1.0 / seen[i])
    best = best_prediction(i, error)
    expected = math.nan
    for kind in range(N_PREDICTIONS):
        yhat = predicted_value(i, t, kind, level, offset, base, day, week)
        if math.isnan(yhat):
            error[i, kind] = math.inf
            continue
        if kind == best:
            expected = nearest_recent_level(i, x, level) if kind == LAST else yhat
        deviation = abs(x - yhat)
        if not math.isfinite(error[i, kind]):
            error[i, kind] = (
                2.0 * max(deviation, error[i, SLOW]) if math.isfinite(error[i, SLOW]) else deviation
            )
        error[i, kind] += rate * (deviation - error[i, kind])
    if not math.isnan(expected):
        deviation = abs(x - expected)
        spread[i, 0] += rate * (deviation - spread[i, 0])
        spread[i, 1] += max(SLOW_SPREAD_RATE_RATIO * alpha, 1.0 / seen[i]) * (deviation - spread[i, 1])
    level[i, RETURN_LEVEL] = nearest_recent_level(i, x, level)
    level[i, LAST] = x
    level[i, FAST] += 0.2 * (x - level[i, FAST])
    level[i, SLOW] += max(0.02, 1.0 / seen[i]) * (x - level[i, SLOW])
    y = x - base[i]
    day_visit = max(DAY_NS / DAY_BINS / 1e9 / interval_s, 1.0)
    week_visit = max(7 * DAY_NS / WEEK_BINS / 1e9 / interval_s, 1.0)
    _learn_season_bin(i, y, t, 1.0 - (1.0 - BIN_RATE) ** (1.0 / day_visit), 0, day, DAY_NS, offset, visit)
    _learn_season_bin(
        i, y, t, 1.0 - (1.0 - BIN_RATE) ** (1.0 / week_visit), 1, week, 7 * DAY_NS, offset, visit
    )


@njit(cache=True)
def season_observe(i, x, level):
    """Follow x without learning from it."""
    if math.isfinite(x):
        level[i, RETURN_LEVEL] = nearest_recent_level(i, x, level)
        level[i, LAST] = x


@njit(cache=True)
def season_recentre(i, x, t, level, offset, base, day, week):
    """Restart every prediction from x after a declared level shift."""
    level[i, :] = x
    for which in range(2):
        yhat = predicted_value(i, t, DAY + which, level, offset, base, day, week)
        if not math.isnan(yhat):
            offset[i, which] += x - yhat


@njit(cache=True)
def season_run(
    x,
    t,
    where,
    gate,
    learning,
    out,
    level,
    offset,
    base,
    error,
    seen,
    spread,
    visit,
    day,
    week,
    interval_s,
    alpha,
):
    """Kernel of the bank; see `trimtab.models.bank.Bank`."""
    for k in range(x.shape[0]):
        for i in range(x.shape[1]):
            s = season_score(i, x[k, i], t[k], level, offset, base, error, seen, spread, day, week)
            out[k, i] = s
            if not (learning and where[k, i]):
                continue
            if abs(s) > gate[i]:
                season_observe(i, x[k, i], level)
            else:
                season_learn(
                    i,
                    x[k, i],
                    t[k],
                    interval_s,
                    alpha,
                    level,
                    offset,
                    base,
                    error,
                    seen,
                    spread,
                    visit,
                    day,
                    week,
                )


class SeasonalResidual(Bank):
    """Residual of the prediction with the smallest past error; a season is used once it predicts better.

    interval_s : seconds between ticks
    alpha      : learning rate of errors and spread per tick

    >>> import numpy as np
    >>> t = np.arange(6 * 288, dtype=np.int64) * 300 * 10**9
    >>> x = 10 + 5 * np.sin(t / 86400e9 * 2 * np.pi) + np.random.default_rng(1).normal(0, 0.1, t.size)
    >>> bank = SeasonalResidual(n_series=1, interval_s=300.0)
    >>> s = bank.run(x[:, None], t)
    >>> yhat, lower, upper = bank.expected(int(t[-1]) + 300 * 10**9)
    >>> bool(abs(yhat[0] - 10) < 0.5)
    True
    """

    def __init__(self, n_series: int, interval_s: float = 60.0, alpha: float = 0.005) -> None:
        self.interval_s = interval_s
        self.alpha = alpha
        super().__init__(n_series)

    def fields(self) -> dict[str, StateField]:
        """Return the state fields.

        level, base, error, spread : in the series' unit
        offset, day, week          : season tables and their offsets, relative to base, in the series' unit
        seen                       : number of samples
        visit                      : current bin of each season, and samples in its first visit
        """
        return {
            "level": StateField(np.float64, 0.0, (4,)),
            "offset": StateField(np.float64, 0.0, (2,)),
            "base": StateField(np.float64),
            "error": StateField(np.float64, np.inf, (N_PREDICTIONS,)),
            "seen": StateField(np.float64),
            "spread": StateField(np.float64, 0.0, (2,)),
            "visit": StateField(np.int32, -1.0, (4,)),
            "day": StateField(np.float32, np.nan, (DAY_BINS,), -1),
            "week": StateField(np.float32, np.nan, (WEEK_BINS,), -1),
        }

    def kernel(self) -> Callable[..., None]:
        """Return the compiled kernel."""
        run: Callable[..., None] = season_run
        return run

    def parameters(self) -> tuple[float, float]:
        """Return the interval in seconds and the learning rate."""
        return (self.interval_s, self.alpha)

    def expected(self, t: int) -> tuple[Floats, Floats, Floats]:
        """Return the best prediction and a band of four spreads on either side."""
        v = self.arrays.values
        yhat = np.empty(self.n_series)
        season_expected(
            t, yhat, v["level"], v["offset"], v["base"], v["error"], v["seen"], v["day"], v["week"]
        )
        half_width = 4.0 * v["spread"].mean(axis=1)
        return yhat, yhat - half_width, yhat + half_width


@njit(cache=True)
def season_expected(t, out, level, offset, base, error, seen, day, week):
    """Write the best prediction of every series for t to `out`; nan if nothing is learnt."""
    for i in range(out.shape[0]):
        out[i] = math.nan
        if seen[i] >= 2.0:
            out[i] = expected_value(i, t, level, offset, base, error, day, week)
