"""Season length of a series: a day, or another period with a clearly higher autocorrelation."""

import numpy as np

from trimtab.models.contracts import Floats, Ints
from trimtab.models.forecasting.panel_features import DAY_S

MIN_AUTOCORRELATION = 0.3
"""Minimum autocorrelation of a period other than a day."""
MIN_RATIO_TO_DAY = 1.5
"""Minimum ratio of that autocorrelation to the day's."""


def find_seasons(y: Floats, step_s: float) -> Ints:
    """Return (n_series,) season lengths in rows; 0 = less than a day of history and no season found.

    y : (n_steps, n_series), NaN = no sample

    The season is a day from one day of history on. Another period needs at least three repetitions, a clear
    autocorrelation, and a clearly higher one than the day's.

    >>> hourly = np.sin(np.arange(600) * 2 * np.pi / 60)[:, None]
    >>> find_seasons(hourly, 60.0).tolist()
    [60]
    """
    day = max(round(DAY_S / step_s), 1)
    seasons = [_find_season(y[:, i], day) for i in range(y.shape[1])]
    return np.array(seasons, np.int64)


def _find_season(y: Floats, day: int) -> int:
    known = np.isfinite(y)
    if not known.any():
        return 0
    y = y[known.argmax() :][-8 * day :]
    usual = day if len(y) >= day else 0
    rho = autocorrelation(y)
    max_lag = min(len(y) // 3, len(rho) - 2, 8 * day)
    if max_lag < 4:
        return usual
    lags = np.arange(2, max_lag)
    peaks = lags[
        (rho[lags] > rho[lags - 1]) & (rho[lags] >= rho[lags + 1]) & (rho[lags] > MIN_AUTOCORRELATION)
    ]
    below = np.flatnonzero(rho < MIN_AUTOCORRELATION / 2)
    peaks = peaks[peaks > below[0]] if len(below) else peaks[:0]
    peaks = peaks[np.abs(peaks - day) > day // 20]
    if not len(peaks):
        return usual
    best = int(peaks[rho[peaks] >= 0.95 * rho[peaks].max()][0])
    by_day = rho[day] if day < len(rho) and len(y) >= 2 * day else 0.0
    return best if rho[best] > MIN_RATIO_TO_DAY * max(by_day, 0.0) else usual


def autocorrelation(y: Floats) -> Floats:
    """Return (n,) autocorrelations at lags 0 .. n - 1, 0 for a constant; unknown values count as the mean."""
    is_known = np.isfinite(y)
    x = np.where(is_known, y - y[is_known].mean(), 0.0)
    size = 1 << (2 * len(x) - 1).bit_length()
    power = np.abs(np.fft.rfft(x, size)) ** 2
    rho = np.fft.irfft(power, size)[: len(x)]
    return np.asarray(rho / rho[0] if rho[0] > 0 else np.zeros(len(x)), np.float64)
