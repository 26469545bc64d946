"""Simulated healthy series of seven kinds, injected faults, and the detection rates of a scorer."""

from dataclasses import dataclass

import numpy as np

from trimtab.models.calibration.alarms import alarm_intervals
from trimtab.models.scorer import Scorer

KINDS = ("normal", "skewed", "heavy", "counts", "seasonal", "constant", "sparse")
INTERVAL_S = 60
WEEK_TICKS = 10_080
WEEKS = 4
FAULT_TIMES = 3
"""Number of times at which all series of a kind get a spike, and a shift."""
DETECTION_SAMPLES = 5
"""A fault must be flagged within this number of samples."""


def make_healthy_series(kind, rng, n):
    """Return (WEEKS * WEEK_TICKS, n) values of n series of one kind, each with its own parameters."""
    ticks = WEEKS * WEEK_TICKS
    scale = 10 ** rng.uniform(-2, 3, n)
    if kind == "normal":
        return rng.normal(size=(ticks, n)) * scale + rng.uniform(-50, 500, n)
    if kind == "skewed":
        return np.exp(rng.normal(size=(ticks, n)) * rng.uniform(0.3, 1.0, n)) * scale
    if kind == "heavy":
        return rng.standard_t(rng.uniform(2.0, 4.0, n), size=(ticks, n)) * scale + 100
    if kind == "counts":
        return rng.poisson(10 ** rng.uniform(-0.5, 2.5, n), size=(ticks, n)).astype(float)
    if kind == "seasonal":
        period = np.where(rng.random(n) < 0.7, 1440, 7 * 1440)
        height = rng.uniform(1, 10, n)
        season = np.sin(2 * np.pi * np.arange(ticks)[:, None] / period + rng.uniform(0, 6.28, n))
        return 50 + height * (season + rng.normal(size=(ticks, n)) * rng.uniform(0.05, 0.5, n))
    if kind == "constant":
        return np.tile(rng.choice([0.0, 1.0, 100.0, 4e9, 0.25], n), (ticks, 1))
    event_rate = 10 ** rng.uniform(-3, -1, n)
    return (rng.random((ticks, n)) < event_rate) * np.ceil(rng.exponential(3, size=(ticks, n)))


@dataclass
class DetectionReport:
    """Detection rates of the series of one kind.

    false_alarms : anomaly intervals per series and week
    spikes_found, shifts_found : ratio 0..1
    """

    kind: str
    false_alarms: float
    spikes_found: float
    shifts_found: float


def _is_flagged(scorer_state, n, x, t):
    clone = Scorer(n, INTERVAL_S)
    clone.restore(scorer_state)
    return (np.nan_to_num(clone.run(x, t).anomaly_score) > 1).any(axis=0)


def measure_detection(kind, n, seed):
    """Score n series of a kind, and copies with spikes and shifts injected at FAULT_TIMES times.

    A spike is twice as far from the median as any value of the previous week. A shift lasts and has a size of
    three interquartile ranges of that week; series with a range of 0 are left out.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    x = make_healthy_series(kind, rng, n)
    t = np.arange(len(x), dtype=np.int64) * INTERVAL_S * 10**9
    scorer, scores, spikes, shifts = Scorer(n, INTERVAL_S), [], [], []
    fault_ticks = (
        np.sort(rng.integers(WEEK_TICKS + 10, len(x) - 20, FAULT_TIMES)) if kind != "constant" else []
    )
    start = 0
    for tick in fault_ticks:
        scores.append(scorer.run(x[start:tick], t[start:tick]).anomaly_score)
        week, window, state, sign = (
            x[tick - WEEK_TICKS : tick],
            slice(tick, tick + DETECTION_SAMPLES),
            scorer.state(),
            rng.choice([-1, 1], n),
        )
        median, (low, high) = np.median(week, axis=0), np.percentile(week, [25, 75], axis=0)
        spiked, shifted = x[window].copy(), x[window] + sign * 3 * (high - low)
        spiked[0] = median + sign * 2 * np.abs(week - median).max(axis=0)
        spikes.append(_is_flagged(state, n, spiked, t[window]))
        shifts.append(_is_flagged(state, n, shifted, t[window])[high > low])
        start = tick
    scores.append(scorer.run(x[start:], t[start:]).anomaly_score)
    alarms = len(alarm_intervals(np.concatenate(scores), t))
    return DetectionReport(kind, alarms / n / WEEKS, _mean_share(spikes), _mean_share(shifts))


def _mean_share(found):
    flat = np.concatenate(found) if found else np.empty(0)
    return float(flat.mean()) if len(flat) else float("nan")
