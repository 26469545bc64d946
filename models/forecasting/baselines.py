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
from trimtab.models.forecasting.linear_stage import Fitted, known_quantiles, usual_error
from trimtab.models.forecasting.panel_features import DAY_NS, VALUES, History, event_flags, target_times
from trimtab.models.forecasting.quantile_levels import median_of_known
from trimtab.models.forecasting.robust_features import LEVEL, MEDIANS, ROBUST, robust_features

STARTS = ("linear", "middle", "level")
"""The ridge forecast; the median of that, the week's usual value, the day before's and the last hour's; the
week's usual value, as far off as the last hour is off its own."""
MOST = 2.0
"""Errors count for the unit of a start up to so many of their medians: a burst makes no unit."""
EVERY = 4
"""One origin in so many is asked for that unit."""
GAPS = (("level_1h", "past_day"), ("level_1h", "past_days"), ("level_1h", "past_week"), ("last", "level_1h"))
TAILS = (0.05, 0.25, 0.75, 0.95, 0.99)
CLOCK, EVENTS = ("log_ahead", "day", "weekday"), ("event", "event_a_day_before")
TOLD = (
    *VALUES, "linear", *(f"{a}-{b}" for a, b in GAPS), *(f"error_q{level:g}" for level in TAILS), *ROBUST,
    "roughness", *CLOCK, *EVENTS,
)  # fmt: skip
"""The columns of what the trees are told."""
_AT = {name: k for k, name in enumerate(VALUES)}


@dataclass(frozen=True, slots=True)
class Seen:
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
    tails: Floats
    scale: Floats
    clock: Floats

    def rows(self, which: Ints) -> "Seen":
        """Some rows."""
        return replace(self, **{f.name: getattr(self, f.name)[which] for f in fields(self)})


def joined(parts: list[Seen]) -> Seen:
    """One after the other."""
    return Seen(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Seen)))


def seen(
    history: History, fitted: Fitted, x: Floats, linear: Floats, series: Ints, now: Ints, ahead: Ints
) -> Seen:
    """What is known at origins (n_rows,) of what lies ahead.

    x      : (n_rows, len(VALUES)) `panel_features.features`
    linear : (n_rows,) the linear forecast
    """
    times = target_times(history, series, now, ahead)
    events = event_flags(history, series, now, ahead)
    clock = np.stack([np.log2(ahead * history.step_s), (times % DAY_NS) / DAY_NS, weekday(times)], axis=-1)
    tails = known_quantiles(fitted.errors, TAILS) * fitted.unit[:, None]
    return Seen(
        x, robust_features(history, series, now, ahead), linear, tails[series], fitted.scale[series],
        np.concatenate([clock, events], axis=-1),
    )  # fmt: skip


def starts(robust: Floats, linear: Floats) -> Floats:
    """(len(STARTS), ...) each start; the linear forecast where a week shows nothing usual.

    robust : (..., len(ROBUST)); linear : (...)
    """
    usual, day_before, hour = (robust[..., MEDIANS.index(name)] for name in MEDIANS[:3])
    middle = median_of_known(np.stack([usual, day_before, hour, linear]))
    level = usual + robust[..., LEVEL]
    for other in (day_before, hour, linear):
        level = np.where(np.isnan(level), other, level)
    return np.stack([linear, middle, level])


def start_units(history: History, fitted: Fitted) -> Floats:
    """(len(STARTS), n_series) usual error of each start over the origins of a bucket."""
    some = slice(None, None, EVERY)
    now, ahead = fitted.rows.now[:, some], fitted.rows.ahead[:, some]
    series = np.repeat(np.arange(len(now)), now.shape[1])
    robust = robust_features(history, series, now.ravel(), ahead.ravel(), whole=False)
    each = starts(robust.reshape(*now.shape, -1), fitted.held_out[:, some])
    return np.stack([usual_error(fitted.value[:, some] - start, MOST) for start in each])


def told(known: Seen, start: Floats, unit: Floats) -> Floats:
    """(n_rows, len(TOLD)): where everything stands about a start, in its usual errors.

    start, unit : (n_rows,)
    """
    by, about = unit[:, None], start[:, None]
    values = (np.column_stack([known.values, known.linear]) - about) / by
    gaps = [(known.values[:, _AT[a]] - known.values[:, _AT[b]]) / unit for a, b in GAPS]
    n = len(MEDIANS)
    return np.column_stack(
        [
            values, *gaps, known.tails / by, (known.robust[:, :n] - about) / by, known.robust[:, n] / unit,
            np.log(known.robust[:, n + 1 :] / by + 1e-9), np.log(known.scale / unit), known.clock,
        ]
    )  # fmt: skip
