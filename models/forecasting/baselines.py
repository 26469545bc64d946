"""Where trees start from: simple forecasts that err in ways of their own, and what is told about each.

A linear forecast of a load with bursts repeats them, a median of the last days forgets the last hour. Trees
learn from each of them what it leaves, and the median of the three is taken: on 33 loads at 8 origins the
error over a day was .782 of the naive one against .850 from the linear start alone, over an hour .556 against
.575; on either half of the loads, and on either half of the origins, alike.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from trimtab.models.contracts import Floats, Ints
from trimtab.models.forecasting.linear_pool import weekday
from trimtab.models.forecasting.linear_stage import BucketFit, mean_error, nan_quantiles
from trimtab.models.forecasting.panel_features import DAY_NS, FEATURES, History, event_flags, target_times
from trimtab.models.forecasting.quantile_levels import nan_median
from trimtab.models.forecasting.robust_features import (
    HOUR_OVER_USUAL,
    MEDIANS,
    ROBUST_FEATURES,
    robust_features,
)

BASELINES = ("linear", "middle", "level")
"""The ridge forecast; the median of that, the week's usual value, the day before's and the last hour's; the
week's usual value, as far off as the last hour is off its own."""
MAX_ERROR_RATIO = 2.0
"""Errors count for the unit of a start up to so many of their medians: a burst makes no unit."""
ORIGIN_STRIDE = 4
"""One origin in so many is asked for that unit."""
LEVEL_GAPS = (
    ("level_1h", "past_day"),
    ("level_1h", "past_days"),
    ("level_1h", "past_week"),
    ("last", "level_1h"),
)
ERROR_QUANTILES = (0.05, 0.25, 0.75, 0.95, 0.99)
TIME_FEATURES, EVENT_FEATURES = ("log_ahead", "day", "weekday"), ("event", "event_a_day_before")
TREE_FEATURES = (
    *FEATURES, "linear", *(f"{a}-{b}" for a, b in LEVEL_GAPS), *(f"error_q{level:g}" for level in ERROR_QUANTILES), *ROBUST_FEATURES,
    "roughness", *TIME_FEATURES, *EVENT_FEATURES,
)  # fmt: skip
"""The columns of what the trees are told."""
_COLUMN = {name: k for k, name in enumerate(FEATURES)}


@dataclass(frozen=True, slots=True)
class TreeInputs:
    """Rows before a start is chosen, in the series' unit about its middle; NaN = not known.

    values : (n_rows, len(VALUES)) levels and lags
    robust : (n_rows, len(ROBUST)) medians and changes
    linear : (n_rows,) the linear forecast
    tails  : (n_rows, len(TAILS)) quantiles of its errors
    scale  : (n_rows,) the series' usual change
    clock  : (n_rows, len(CLOCK) + len(EVENTS)) how far ahead, when, and whether it is a known day
    """

    values: Floats
    robust: Floats
    linear: Floats
    error_quantiles: Floats
    scale: Floats
    time_and_events: Floats

    def select_rows(self, which: Ints) -> "TreeInputs":
        """Some rows."""
        return replace(self, **{f.name: getattr(self, f.name)[which] for f in fields(self)})


def concatenate_inputs(parts: list[TreeInputs]) -> TreeInputs:
    """One after the other."""
    return TreeInputs(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(TreeInputs))
    )


def make_tree_inputs(
    history: History, fitted: BucketFit, x: Floats, linear: Floats, series: Ints, now: Ints, ahead: Ints
) -> TreeInputs:
    """What is known at origins (n_rows,) of what lies ahead.

    x      : (n_rows, len(VALUES)) `panel_features.features`
    linear : (n_rows,) the linear forecast
    """
    times = target_times(history, series, now, ahead)
    events = event_flags(history, series, now, ahead)
    clock = np.stack([np.log2(ahead * history.step_s), (times % DAY_NS) / DAY_NS, weekday(times)], axis=-1)
    tails = nan_quantiles(fitted.errors, ERROR_QUANTILES) * fitted.error_scale[:, None]
    return TreeInputs(
        x, robust_features(history, series, now, ahead), linear, tails[series], fitted.scale[series],
        np.concatenate([clock, events], axis=-1),
    )  # fmt: skip


def baseline_forecasts(robust: Floats, linear: Floats) -> Floats:
    """(len(STARTS), ...) each start; the linear forecast where a week shows nothing usual.

    robust : (..., len(ROBUST)); linear : (...)
    """
    usual, day_before, hour = (robust[..., MEDIANS.index(name)] for name in MEDIANS[:3])
    middle = nan_median(np.stack([usual, day_before, hour, linear]))
    level = usual + robust[..., HOUR_OVER_USUAL]
    for other in (day_before, hour, linear):
        level = np.where(np.isnan(level), other, level)
    return np.stack([linear, middle, level])


def baseline_errors(history: History, fitted: BucketFit) -> Floats:
    """(len(STARTS), n_series) usual error of each start over the origins of a bucket."""
    some = slice(None, None, ORIGIN_STRIDE)
    now, ahead = fitted.rows.origin[:, some], fitted.rows.ahead[:, some]
    series = np.repeat(np.arange(len(now)), now.shape[1])
    robust = robust_features(history, series, now.ravel(), ahead.ravel(), with_slow_columns=False)
    each = baseline_forecasts(robust.reshape(*now.shape, -1), fitted.held_out[:, some])
    return np.stack([mean_error(fitted.actual[:, some] - start, MAX_ERROR_RATIO) for start in each])


def tree_features(inputs: TreeInputs, baseline: Floats, error_scale: Floats) -> Floats:
    """(n_rows, len(TOLD)): where everything stands about a start, in its usual errors.

    start, unit : (n_rows,)
    """
    by, about = error_scale[:, None], baseline[:, None]
    values = (np.column_stack([inputs.values, inputs.linear]) - about) / by
    gaps = [
        (inputs.values[:, _COLUMN[a]] - inputs.values[:, _COLUMN[b]]) / error_scale for a, b in LEVEL_GAPS
    ]
    n = len(MEDIANS)
    return np.column_stack(
        [
            values, *gaps, inputs.error_quantiles / by, (inputs.robust[:, :n] - about) / by, inputs.robust[:, n] / error_scale,
            np.log(inputs.robust[:, n + 1 :] / by + 1e-9), np.log(inputs.scale / error_scale), inputs.time_and_events,
        ]
    )  # fmt: skip
