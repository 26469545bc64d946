"""Forecast recorded series as quantiles."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trimtab.models.catalogue import forecaster
from trimtab.models.contracts import Bools, Floats, Ints, Panel
from trimtab.models.forecasting.confidence import Confidence, confidence
from trimtab.models.forecasting.quantile_levels import check_quantiles
from trimtab.pipelines.errors import InputError, RecordingWarning
from trimtab.pipelines.forecasting.known_days import mark_known_days, parse_days
from trimtab.pipelines.io.durations import positive_duration_s
from trimtab.pipelines.io.recording import Recording, read_frame
from trimtab.pipelines.io.stored_forecasts import QUANTILES

MAX_STEPS = 288
"""Maximum number of forecast rows; a longer horizon uses wider steps."""
MAX_HISTORY_S = 62 * 86_400.0
_NS = 10**9


@dataclass(frozen=True, slots=True)
class RecordedSeries:
    """One series before resampling: times (n,) int64 ns UTC, values (n,), NaN = no sample."""

    name: str
    times: Ints
    values: Floats
    interval_s: float


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts as a table, and the confidence of each series.

    frame      : unique_id, ds, one column per quantile
    confidence : confidence by series name
    """

    frame: pd.DataFrame
    confidence: dict[str, Confidence]


def forecast(
    frame: pd.DataFrame,
    horizon: str | float = "24h",
    quantiles: Sequence[float] = QUANTILES,
    *,
    interval: str | float = "1m",
    where: npt.ArrayLike | None = None,
    non_negative: bool | None = None,
    events: Iterable[object] = (),
) -> pd.DataFrame:
    """Forecast recorded series as quantiles.

    frame        : long or wide, as `trimtab.score` accepts it; NaN = no sample
    horizon      : length of the forecast, "24h" or seconds; beyond 288 rows, rows are means over wider steps
    quantiles    : ascending, within 0.05 .. 0.99
    interval     : time between rows, used where the time column counts rows
    where        : (n_rows,) bool, rows to learn from, such as those outside incidents; None = all
    non_negative : whether forecasts are clipped at zero; None = clip each series that has no negative value
    events       : holidays and other known days (UTC) of the history and the forecast: "2026-12-25", dates;
                   most useful if the history contains similar days

    Returns unique_id, ds (UTC), q0.05, q0.5 ... in the unit of the series; NaN = too little history.
    `attrs["confidence"]` maps each series to its confidence and the reason. Raises InputError that names row,
    column, value and what is allowed, ModelError for invalid quantiles. Warns with RecordingWarning as
    `score` does.

    >>> frame = pd.DataFrame({"ds": pd.date_range("2026-01-01", periods=60, freq="1min"), "y": 5.0})
    >>> forecast(frame, "5m", [0.5])["q0.5"].tolist()
    [5.0, 5.0, 5.0, 5.0, 5.0]
    """
    recording = read_frame(frame, positive_duration_s(interval, "interval"))
    if recording.warning:
        warnings.warn(recording.warning, RecordingWarning, stacklevel=2)
    mask = None if where is None else np.asarray(where, np.bool_)
    if mask is not None and mask.shape != (len(frame),):
        raise InputError(f"where has the shape {mask.shape}; it needs ({len(frame)},), one bool per row")
    result = forecast_recording(
        recording, positive_duration_s(horizon, "horizon"), quantiles, mask, non_negative, parse_days(events)
    )
    result.frame.attrs["confidence"] = {name: f"{c.word}: {c.why}" for name, c in result.confidence.items()}
    return result.frame


def forecast_recording(
    recording: Recording,
    horizon_s: float,
    quantiles: Sequence[float] = QUANTILES,
    where: Bools | None = None,
    non_negative: bool | None = None,
    days: frozenset[int] = frozenset(),
) -> Forecasts:
    """Forecast all series of a recording, in order; see `forecast` and `parse_days`."""
    levels = check_quantiles(quantiles)
    series = _recorded_series(recording, where)
    groups: dict[tuple[float, int], list[RecordedSeries]] = {}
    for one in series:
        groups.setdefault(_forecast_step(one.interval_s, horizon_s), []).append(one)
    frames: dict[str, pd.DataFrame] = {}
    confidences: dict[str, Confidence] = {}
    for (step_s, steps), members in groups.items():
        panel = mark_known_days(align_series(members, step_s, non_negative=non_negative), steps, days)
        model = forecaster("load", longest_s=steps * step_s)
        model.fit(panel)
        values = model.predict(panel, steps, levels)
        for k, one in enumerate(members):
            ds = panel.end[k] + (np.arange(1, steps + 1) * round(step_s * _NS)).astype(np.int64)
            columns = {f"q{q:g}": values[j, :, k] for j, q in enumerate(levels)}
            stamps = ds.astype("datetime64[ns]")
            frames[one.name] = pd.DataFrame({"unique_id": one.name, "ds": stamps, **columns})
            known = np.flatnonzero(np.isfinite(panel.y[:, k]))
            confidences[one.name] = confidence((len(panel.y) - known[0]) * step_s if len(known) else 0.0)
    ordered = pd.concat([frames[one.name] for one in series], ignore_index=True)
    return Forecasts(ordered, {one.name: confidences[one.name] for one in series})


def align_series(
    series: Sequence[RecordedSeries], step_s: float, *, non_negative: bool | None = None
) -> Panel:
    """Resample series to one step, aligned at their ends: the mean per step, NaN if there is no sample."""
    step = round(step_s * _NS)
    longest = round(MAX_HISTORY_S / step_s)
    steps_before_end = [(one.times.max() - one.times) // step for one in series]
    n_steps = min(max(int(b.max()) + 1 for b in steps_before_end), longest)
    y = np.full((n_steps, len(series)), np.nan)
    for k, (one, steps_back) in enumerate(zip(series, steps_before_end, strict=True)):
        use = np.isfinite(one.values) & (steps_back < n_steps)
        row = n_steps - 1 - steps_back[use]
        count = np.bincount(row, minlength=n_steps)
        total = np.bincount(row, one.values[use], minlength=n_steps)
        y[:, k] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    never_below = np.asarray(~(y < 0).any(axis=0), np.bool_)
    floor = never_below if non_negative is None else np.full(len(series), non_negative, np.bool_)
    return Panel(y, np.array([one.times.max() for one in series], np.int64), step_s, floor)


def _recorded_series(recording: Recording, where: Bools | None) -> list[RecordedSeries]:
    found = []
    for block in recording.blocks:
        values = block.values
        if where is not None:
            values = np.where(where[block.rows][:, None], values, np.nan)
        for k, name in enumerate(block.full_names):
            found.append(RecordedSeries(name, block.times, values[:, k], block.interval_s))
    return found


def _forecast_step(interval_s: float, horizon_s: float) -> tuple[float, int]:
    """Return the seconds per forecast row and the number of rows, at most MAX_STEPS."""
    if horizon_s < interval_s:
        raise InputError(f"horizon: {horizon_s:g} s is shorter than the {interval_s:g} s between rows")
    step_s = interval_s * max(math.ceil(round(horizon_s / interval_s, 6) / MAX_STEPS), 1)
    return step_s, max(math.floor(round(horizon_s / step_s, 6)), 1)
