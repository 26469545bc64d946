"""Compiled scoring loop: score, calibrate, combine, then learn. Used by `trimtab.models.scorer` only.

The three default detectors run inside the loop, because whether they may learn depends on the combined score
of the same tick. Statistics of other detectors are passed as columns of `extra`.
"""

import math

import numpy as np
from numba import njit

from trimtab.models.calibration.event_score import event_score, learn_event_score
from trimtab.models.calibration.tail_probability import (
    MIN_FIT_PEAKS,
    QUIET_TICKS,
    add_deferred_peak,
    defer_peak,
    exceedance_level,
    learn_tail,
    log_exceedance_rate,
)
from trimtab.models.detectors.level_shift import shift_learn, shift_observe, shift_recentre, shift_score
from trimtab.models.detectors.range_exceedance import range_learn, range_recentre, range_score
from trimtab.models.detectors.seasonal_residual import (
    expected_value,
    season_learn,
    season_observe,
    season_recentre,
    season_score,
    season_spread,
    season_usual_range,
)

DEFAULT_CHANNELS = 6
"""Channels of the three default detectors: above and below for each."""
FLAGGED_CAP_RATIO = 1.3
"""A flagged excursion enters the tails with a log rate of at most this multiple of the budget's."""
COMBINED_TRUST_SAMPLES = 500.0
"""After this number of samples the combined tail weighs as much as the assumption of calibrated parts."""
DISTANCE_SHAPE = 0.15
DISTANCE_SHAPE_PEAKS = 15.0
"""Prior tail shape of distances, and its weight in peaks."""
LOG_PROBABILITY_SHAPE = 0.0
LOG_PROBABILITY_SHAPE_PEAKS = 200.0
"""The same for statistics that are log probabilities: their tail is exponential by construction."""
CANDIDATE_RATE = 0.3
MIN_TAIL_SAMPLES = 16.0
"""Statistics enter the tails only after this number of samples, when the spreads are reliable."""


@njit(cache=True)
def rarest_channel(i, stats, log_weight, tails):
    """Return (rarity, channel) with the largest weighted -log(rate); (-inf, -1) if every statistic is nan."""
    top, count, seen, _, _, _, _, shape, scale = tails
    rarity = -math.inf
    rarest = -1
    for c in range(stats.shape[0]):
        if math.isnan(stats[c]) or log_weight[c] == -math.inf:
            continue
        r = log_weight[c] - log_exceedance_rate(
            top[i, c], count[i, c], seen[i, c], shape[i, c], scale[i, c], stats[c]
        )
        if r > rarity:
            rarity = r
            rarest = c
    return rarity, rarest


@njit(cache=True)
def is_within_range(i, stats, log_budget, log_weight, tails):
    """Return whether the range detector, if used, saw such values as often as the budget allows alarms."""
    return rarest_channel(i, stats[:2], log_weight, tails)[0] <= -log_budget


@njit(cache=True)
def combined_log_rate(i, rarity, tails):
    """Return the log rate per tick of excursions above this rarity.

    Weighted mean of the rate in the series' own history and the rate implied by calibrated parts.
    """
    top, count, seen, _, _, _, _, shape, scale = tails
    c = count.shape[1] - 1
    if count[i, c] <= MIN_FIT_PEAKS or not scale[i, c] > 0.0:
        return -rarity
    own = log_exceedance_rate(top[i, c], count[i, c], seen[i, c], shape[i, c], scale[i, c], rarity)
    trust = seen[i, c] / (seen[i, c] + COMBINED_TRUST_SAMPLES)
    return trust * own - (1.0 - trust) * rarity


@njit(cache=True)
def learn_tails(i, stats, rarity, flagged, log_budget, horizon, log_weight, tails):
    """Update the tails of every channel and of the combination with one tick; defer peaks while flagged."""
    top, count, seen, quantile, peak, quiet, pending, shape, scale = tails
    last = count.shape[1] - 1
    for c in range(last + 1):
        s = rarity if c == last else stats[c]
        if math.isnan(s) or (c < last and log_weight[c] == -math.inf):
            continue
        if flagged:
            defer_peak(c, s, seen[i], pending[i])
            continue
        cap = exceedance_level(
            top[i, c], count[i, c], seen[i, c], shape[i, c], scale[i, c], FLAGGED_CAP_RATIO * log_budget
        )
        if math.isnan(cap) or seen[i, c] < 64.0:
            cap = math.inf
        is_log_probability = c == last or c == 4 or c == 5
        prior_shape = LOG_PROBABILITY_SHAPE if is_log_probability else DISTANCE_SHAPE
        prior_weight = LOG_PROBABILITY_SHAPE_PEAKS if is_log_probability else DISTANCE_SHAPE_PEAKS
        if not math.isnan(pending[i, c]):
            add_deferred_peak(
                c, cap, prior_shape, prior_weight,
                top[i], count[i], seen[i], quantile[i], peak[i], pending[i], shape[i], scale[i],
            )  # fmt: skip
        learn_tail(
            c, s, cap, horizon, prior_shape, prior_weight,
            top[i], count[i], seen[i], quantile[i], peak[i], quiet[i], shape[i], scale[i],
        )  # fmt: skip


@njit(cache=True)
def expected_band(i, t, log_budget, log_weight, ranges, seasons, tails, min_samples):
    """Return (yhat, lower, upper): the values that both the seasonal and the range detector consider usual.

    min_samples : NaN for a series with fewer samples
    """
    level, offset, base, error, seen, spread, _, day, week = seasons
    centre, width, _ = ranges
    top, count, n, _, _, _, _, shape, scale = tails
    if seen[i] < min_samples:
        return math.nan, math.nan, math.nan
    yhat = expected_value(i, t, level, offset, base, error, day, week)
    lowest, highest = season_usual_range(i, yhat, error, level)
    low = -math.inf
    high = math.inf
    for c in range(4):
        if log_weight[c] == -math.inf and c != 2 and c != 3:
            continue
        half_width = exceedance_level(
            top[i, c], count[i, c], n[i, c], shape[i, c], scale[i, c], log_budget + log_weight[c]
        )
        unit = width[i] if c < 2 else season_spread(i, spread)
        if math.isnan(half_width):
            half_width = 0.0
        if c % 2 == 0:
            high = min(high, (centre[i] if c < 2 else highest) + half_width * unit)
        else:
            low = max(low, (centre[i] if c < 2 else lowest) - half_width * unit)
    return min(max(yhat, low), high), min(low, yhat), max(high, yhat)


@njit(cache=True)
def update_shift_timer(i, x, flagged, deadline, holds):
    """Count how long this series has been unusual; return True once, when the deadline has passed."""
    held, quiet, candidate = holds
    if flagged:
        candidate[i] = x if held[i] == 0 else candidate[i] + CANDIDATE_RATE * (x - candidate[i])
        held[i] += 1
        quiet[i] = 0
    elif held[i] > 0:
        quiet[i] += 1
        held[i] = 0 if quiet[i] > QUIET_TICKS else held[i] + 1
    if held[i] < deadline or not flagged:
        return False
    held[i] = 0
    return True


@njit(cache=True)
def learn_detectors(i, x, t, flagged, is_declared, is_back, rates, ranges, seasons, shifts, holds):
    """Let the three detectors learn x unless it is flagged; restart them after a declared shift.

    is_back : x is within the range of the series' history, so the next values may be near it
    """
    interval_s, range_rate, season_rate, shift_rate = rates
    centre, width, range_seen = ranges
    level, offset, base, error, seen, spread, visit, day, week = seasons
    s_centre, s_width, s_wide, s_seen, share, recent, place = shifts
    if is_declared:
        level_now = holds[2][i]
        range_recentre(i, level_now, centre)
        season_recentre(i, level_now, t, level, offset, base, day, week)
        shift_recentre(i, level_now, s_centre, recent)
    shift_observe(i, x, s_centre, s_width, recent, place)
    if flagged and not is_declared:
        if is_back:
            season_observe(i, x, level)
        return
    range_learn(i, x, range_rate, centre, width, range_seen)
    season_learn(i, x, t, interval_s, season_rate, level, offset, base, error, seen, spread, visit, day, week)
    shift_learn(i, x, shift_rate, s_centre, s_width, s_wide, s_seen, share)


@njit(cache=True)
def score_detectors(i, x, t, stats, ranges, seasons, shifts):
    """Write both sides of the three detectors' statistics to stats[:DEFAULT_CHANNELS]."""
    centre, width, range_seen = ranges
    level, offset, base, error, seen, spread, _, day, week = seasons
    s_centre, s_width, _, s_seen, share, recent, place = shifts
    a = range_score(i, x, centre, width, range_seen)
    b = season_score(i, x, t, level, offset, base, error, seen, spread, day, week)
    c = shift_score(i, x, s_centre, s_width, s_seen, share, recent, place)
    stats[0] = a
    stats[1] = -a
    stats[2] = b
    stats[3] = -b
    stats[4] = c
    stats[5] = -c


@njit(cache=True)
def score_run(
    x,
    t,
    where,
    extra,
    learning,
    rates,
    limits,
    log_weight,
    ranges,
    seasons,
    shifts,
    tails,
    holds,
    events,
    out,
    channels,
    shifted,
):
    """Score any number of ticks of all series.

    out : (4, n_ticks, n_series): score, yhat, lower, upper
    """
    log_budget, warm_up, deadline, horizon = limits
    min_samples = max(warm_up, 2.0)
    worst_excess, floor = events
    stats = np.empty(DEFAULT_CHANNELS + extra.shape[2])
    for k in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[1, k, i], out[2, k, i], out[3, k, i] = expected_band(
                i, t[k], log_budget, log_weight, ranges, seasons, tails, min_samples
            )
            if not math.isfinite(x[k, i]):
                continue
            score_detectors(i, x[k, i], t[k], stats, ranges, seasons, shifts)
            stats[DEFAULT_CHANNELS:] = extra[k, i]
            rarity, channel = rarest_channel(i, stats, log_weight, tails)
            score = math.nan
            if seasons[4][i] >= warm_up and rarity > -math.inf:
                score = max(combined_log_rate(i, rarity, tails) / log_budget, 0.0)
                out[0, k, i] = event_score(i, score, worst_excess, floor)
                channels[k, i] = channel
            flagged = score > 1.0
            if learning and where[k, i]:
                if not math.isnan(score):
                    learn_event_score(i, score, worst_excess, floor)
                is_declared = update_shift_timer(i, x[k, i], flagged, deadline, holds)
                is_back = flagged and is_within_range(i, stats, log_budget, log_weight, tails)
                shifted[k, i] = is_declared
                if seasons[4][i] >= MIN_TAIL_SAMPLES:
                    learn_tails(i, stats, rarity, flagged, log_budget, horizon, log_weight, tails)
                learn_detectors(
                    i, x[k, i], t[k], flagged, is_declared, is_back, rates, ranges, seasons, shifts, holds
                )
