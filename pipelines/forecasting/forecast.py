"""Recorded series, and how they go on."""

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
"""A forecast has no more rows: a longer horizon takes wider steps."""
MAX_HISTORY_S = 62 * 86_400.0
_NS = 10**9


@dataclass(frozen=True, slots=True)
class RecordedSeries:
    """One series before it is laid on a grid: times (n,) int64 ns, values (n,), NaN = no sample."""

    name: str
    times: Ints
    values: Floats
    interval_s: float


@dataclass(frozen=True, slots=True)
class Forecasts:
    """frame: unique_id, ds, a column a quantile; confidence: series -> how sure, and why."""

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
    """How recorded series go on, as quantiles.

    frame        : long or wide, as `trimtab.score` reads it; NaN = no sample
    horizon      : how far, "24h" or seconds; at most 288 rows: a longer one takes wider steps, as means
    quantiles    : rising, within 0.05 .. 0.99
    interval     : how long a row is where the time column counts rows
    where        : (n_rows,) bool, rows to learn from (leave incidents out); None = all
    non_negative : whether values below zero cannot be; None = of each series, whether it never was
    events       : holidays and other known days (UTC), past ones and those to come: "2026-12-25", dates;
                   they tell most where like days lie in the past too

    Gives unique_id, ds (UTC), q0.05, q0.5 ... in the unit of the series; NaN = too little history.
    `attrs["confidence"]` says of each series how sure it is and why. Raises InputError that names row,
    column, value and what is wanted, ModelError for quantiles. Warns with RecordingWarning as `score` does.

    >>> frame = pd.DataFrame({"ds": pd.date_range("2026-01-01", periods=60, freq="1min"), "y": 5.0})
    >>> forecast(frame, "5m", [0.5])["q0.5"].tolist()
    [5.0, 5.0, 5.0, 5.0, 5.0]
    """
    recording = read_frame(frame, positive_duration_s(interval, "interval"))
    if recording.warning:
        warnings.warn(recording.warning, RecordingWarning, stacklevel=2)
    mask = None if where is None else np.asarray(where, np.bool_)
    if mask is not None and mask.shape != (len(frame),):
        raise InputError(f"where has the shape {mask.shape}; wanted ({len(frame)},), a truth value a row")
    made = forecast_recording(
        recording, positive_duration_s(horizon, "horizon"), quantiles, mask, non_negative, parse_days(events)
    )
    made.frame.attrs["confidence"] = {name: f"{c.word}: {c.why}" for name, c in made.confidence.items()}
    return made.frame


def forecast_recording(
    recording: Recording,
    horizon_s: float,
    quantiles: Sequence[float] = QUANTILES,
    where: Bools | None = None,
    non_negative: bool | None = None,
    days: frozenset[int] = frozenset(),
) -> Forecasts:
    """The forecasts of all series of a recording, in their order; see `forecast` and `known_days`."""
    wanted = check_quantiles(quantiles)
    series = _series(recording, where)
    groups: dict[tuple[float, int], list[RecordedSeries]] = {}
    for one in series:
        groups.setdefault(_step(one.interval_s, horizon_s), []).append(one)
    frames: dict[str, pd.DataFrame] = {}
    sure: dict[str, Confidence] = {}
    for (step_s, steps), members in groups.items():
        panel = mark_known_days(align_series(members, step_s, non_negative=non_negative), steps, days)
        model = forecaster("load", longest_s=steps * step_s)
        model.fit(panel)
        values = model.predict(panel, steps, wanted)
        for k, one in enumerate(members):
            ds = panel.end[k] + (np.arange(1, steps + 1) * round(step_s * _NS)).astype(np.int64)
            columns = {f"q{q:g}": values[j, :, k] for j, q in enumerate(wanted)}
            stamps = ds.astype("datetime64[ns]")
            frames[one.name] = pd.DataFrame({"unique_id": one.name, "ds": stamps, **columns})
            seen = np.flatnonzero(np.isfinite(panel.y[:, k]))
            sure[one.name] = confidence((len(panel.y) - seen[0]) * step_s if len(seen) else 0.0)
    ordered = pd.concat([frames[one.name] for one in series], ignore_index=True)
    return Forecasts(ordered, {one.name: sure[one.name] for one in series})


def align_series(
    series: Sequence[RecordedSeries], step_s: float, *, non_negative: bool | None = None
) -> Panel:
    """Series on grids of one step that end together: the mean of the samples of a step, NaN where none is."""
    step = round(step_s * _NS)
    longest = round(MAX_HISTORY_S / step_s)
    back = [(one.times.max() - one.times) // step for one in series]
    n_steps = min(max(int(b.max()) + 1 for b in back), longest)
    y = np.full((n_steps, len(series)), np.nan)
    for k, (one, ago) in enumerate(zip(series, back, strict=True)):
        use = np.isfinite(one.values) & (ago < n_steps)
        row = n_steps - 1 - ago[use]
        count = np.bincount(row, minlength=n_steps)
        total = np.bincount(row, one.values[use], minlength=n_steps)
        y[:, k] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    never_below = np.asarray(~(y < 0).any(axis=0), np.bool_)
    floor = never_below if non_negative is None else np.full(len(series), non_negative, np.bool_)
    return Panel(y, np.array([one.times.max() for one in series], np.int64), step_s, floor)


def _series(recording: Recording, where: Bools | None) -> list[RecordedSeries]:
    found = []
    for block in recording.blocks:
        values = block.values
        if where is not None:
            values = np.where(where[block.rows][:, None], values, np.nan)
        for k, name in enumerate(block.names):
            full = f"{block.entity}/{name}" if block.entity else name
            found.append(RecordedSeries(full, block.times, values[:, k], block.interval_s))
    return found


def _step(interval_s: float, horizon_s: float) -> tuple[float, int]:
    """Seconds of a row of the forecast, and how many rows there are: at most MOST_STEPS."""
    if horizon_s < interval_s:
        raise InputError(f"horizon: {horizon_s:g} s is less than the {interval_s:g} s from row to row")
    step_s = interval_s * max(math.ceil(round(horizon_s / interval_s, 6) / MAX_STEPS), 1)
    return step_s, max(math.floor(round(horizon_s / step_s, 6)), 1)
