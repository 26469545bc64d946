"""Healthy series of seven kinds, faults put into them, and what a scorer makes of both."""

from dataclasses import dataclass

import numpy as np

from trimtab.models.calibration.alarms import alarm_intervals
from trimtab.models.scorer import Scorer

KINDS = ("normal", "skewed", "heavy", "counts", "seasonal", "constant", "sparse")
INTERVAL_S = 60
WEEK_TICKS = 10_080
"""Ticks."""
WEEKS = 4
FAULT_TIMES = 3
"""Times a kind's series are all hit by a spike, and by a shift."""
DETECTION_SAMPLES = 5
"""Samples within which a fault must be found."""


def make_healthy_series(kind, rng, n):
    """(WEEKS * WEEK, n) values of n series of one kind, each with its own parameters."""
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
        course = np.sin(2 * np.pi * np.arange(ticks)[:, None] / period + rng.uniform(0, 6.28, n))
        return 50 + height * (course + rng.normal(size=(ticks, n)) * rng.uniform(0.05, 0.5, n))
    if kind == "constant":
        return np.tile(rng.choice([0.0, 1.0, 100.0, 4e9, 0.25], n), (ticks, 1))
    seldom = 10 ** rng.uniform(-3, -1, n)
    return (rng.random((ticks, n)) < seldom) * np.ceil(rng.exponential(3, size=(ticks, n)))


@dataclass
class DetectionReport:
    """What came of the series of one kind; shares 0..1."""

    kind: str
    false_alarms: float
    """Anomaly intervals a series and week."""
    spikes_found: float
    shifts_found: float


def _is_flagged(scorer_state, n, x, t):
    clone = Scorer(n, INTERVAL_S)
    clone.restore(scorer_state)
    return (np.nan_to_num(clone.run(x, t).anomaly_score) > 1).any(axis=0)


def measure_detection(kind, n, seed):
    """Run n series of a kind through a scorer, and through copies of it where spikes and shifts are put in.

    A spike lies twice as far from the median as anything in the week before; a shift is lasting, by three
    interquartile ranges of that week, where that is not 0.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    x = make_healthy_series(kind, rng, n)
    t = np.arange(len(x), dtype=np.int64) * INTERVAL_S * 10**9
    scorer, scores, spikes, shifts = Scorer(n, INTERVAL_S), [], [], []
    moments = np.sort(rng.integers(WEEK_TICKS + 10, len(x) - 20, FAULT_TIMES)) if kind != "constant" else []
    before = 0
    for at in moments:
        scores.append(scorer.run(x[before:at], t[before:at]).anomaly_score)
        week, soon, state, side = (
            x[at - WEEK_TICKS : at],
            slice(at, at + DETECTION_SAMPLES),
            scorer.state(),
            rng.choice([-1, 1], n),
        )
        middle, (low, high) = np.median(week, axis=0), np.percentile(week, [25, 75], axis=0)
        spiked, shifted = x[soon].copy(), x[soon] + side * 3 * (high - low)
        spiked[0] = middle + side * 2 * np.abs(week - middle).max(axis=0)
        spikes.append(_is_flagged(state, n, spiked, t[soon]))
        shifts.append(_is_flagged(state, n, shifted, t[soon])[high > low])
        before = at
    scores.append(scorer.run(x[before:], t[before:]).anomaly_score)
    alarms = len(alarm_intervals(np.concatenate(scores), t))
    return DetectionReport(kind, alarms / n / WEEKS, _mean_share(spikes), _mean_share(shifts))


def _mean_share(found):
    flat = np.concatenate(found) if found else np.empty(0)
    return float(flat.mean()) if len(flat) else float("nan")
