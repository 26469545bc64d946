"""Backtest of detection: which alarms the live scorer would have raised on a recording, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from trimtab.models.calibration.alarms import alarm_intervals
from trimtab.models.contracts import Bools, Floats, Ints
from trimtab.pipelines.io.columns import RowLocator
from trimtab.pipelines.io.durations import positive_duration_s
from trimtab.pipelines.io.labels import LabelledEvent, events_from_label_column, parse_events
from trimtab.pipelines.io.recording import Block, Recording, read_frame
from trimtab.pipelines.scoring.score import ProgressCallback, score_recording

_WEEK_NS = 7 * 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm of one series.

    series     : name of the series
    start, end : int64 ns UTC of the first and the last score above 1
    score      : highest score
    event      : index in `Backtest.events` of the first event it overlaps; None = it overlaps none, which is
                 a false alarm if the recording is labelled
    """

    series: str
    start: int
    end: int
    score: float
    event: int | None = None


@dataclass(frozen=True, slots=True)
class Backtest:
    """The alarms of a backtest, compared with the labelled events.

    alarms   : sorted by start
    events   : labelled events; each has the time of its first alarm
    series   : number of series
    weeks    : scored weeks, summed over all series
    coverage : share of samples outside events within the expected band, 0..1; NaN = no band is known
    labelled : whether the recording has labels
    scored   : the recording with the columns of `trimtab.score`
    """

    alarms: tuple[Alarm, ...]
    events: tuple[LabelledEvent, ...]
    series: int
    weeks: float
    coverage: float
    labelled: bool
    scored: pd.DataFrame

    @property
    def found(self) -> tuple[LabelledEvent, ...]:
        """Events that an alarm overlaps."""
        return tuple(event for event in self.events if event.found is not None)

    @property
    def found_ratio(self) -> float:
        """Share of events found, 0..1; NaN = there are no events."""
        return len(self.found) / len(self.events) if self.events else float("nan")

    @property
    def false_alarms_per_week(self) -> float:
        """False alarms per series and week (all alarms without labels); NaN = nothing was scored."""
        false = sum(alarm.event is None for alarm in self.alarms)
        return false / self.weeks if self.weeks else float("nan")

    @property
    def median_delay_s(self) -> float:
        """Median seconds from the start of an event to its alarm; NaN = no event was found."""
        delays = [event.delay_s for event in self.events if event.delay_s is not None]
        return float(np.median(delays)) if delays else float("nan")


def backtest(
    frame: pd.DataFrame,
    labels: pd.DataFrame | None = None,
    *,
    detectors: Any = "default",  # noqa: ANN401 - as `trimtab.score`
    false_alarms_per_week: float = 1.0,
    interval: str | float = "1m",
) -> Backtest:
    """Score a recording as if it were live and compare its alarms with the labelled events.

    frame     : long or wide, as `trimtab.score` accepts it
    labels    : columns start, end, and unique_id if an event is about one series (or entity) only; None =
                nonzero intervals of the recording's column label or is_anomaly, if it has one
    detectors, false_alarms_per_week, interval : as for `trimtab.score`

    Raises InputError for an invalid table, UnknownModelError for an unknown detector.

    >>> frame = pd.DataFrame({"ds": range(200), "y": [1.0, 1.2] * 100})
    >>> frame.loc[199, "y"] = 9.0
    >>> result = backtest(frame, pd.DataFrame({"start": [198], "end": [199]}))
    >>> len(result.alarms), result.found_ratio, result.false_alarms_per_week, result.median_delay_s
    (1, 1.0, 0.0, 60.0)
    """
    interval_s = positive_duration_s(interval, "interval")
    recording = read_frame(frame, interval_s)
    return backtest_recording(
        frame, recording, labels, interval_s, detectors=detectors, false_alarms_per_week=false_alarms_per_week
    )


def backtest_recording(
    frame: pd.DataFrame,
    recording: Recording,
    labels: pd.DataFrame | None,
    interval_s: float,
    *,
    detectors: Any = "default",  # noqa: ANN401 - as `trimtab.score`
    false_alarms_per_week: float = 1.0,
    progress: ProgressCallback | None = None,
    locate_row: RowLocator | None = None,
) -> Backtest:
    """Backtest a parsed recording; see `backtest`. locate_row : place of a row of labels, for messages."""
    columns = score_recording(recording, detectors, false_alarms_per_week, progress)
    if labels is None:
        known = events_from_label_column(frame, recording)
    else:
        known = parse_events(labels, interval_s, locate_row)
    alarms, events, weeks = _match_alarms(recording, columns, known or ())
    n_series = sum(len(block.names) for block in recording.blocks)
    coverage = _coverage(recording, columns, events)
    scored = frame.assign(**columns)
    return Backtest(tuple(alarms), tuple(events), n_series, weeks, coverage, known is not None, scored)


def _match_alarms(
    recording: Recording, columns: dict[str, Floats], events: Sequence[LabelledEvent]
) -> tuple[list[Alarm], list[LabelledEvent], float]:
    """Return the alarms sorted by start, the events with their first alarms, and the scored weeks."""
    alarms: list[Alarm] = []
    weeks = 0.0
    for block in recording.blocks:
        score = _block_scores(recording, columns, block)
        weeks += float(np.isfinite(score).sum()) * block.interval_s * 1e9 / _WEEK_NS
        for k, start, end, peak in alarm_intervals(score, block.times):
            alarms.append(Alarm(block.full_names[k], start, end, peak))
    alarms.sort(key=lambda alarm: (alarm.start, alarm.series))
    matched = list(events)
    for i, alarm in enumerate(alarms):
        for k, event in enumerate(matched):
            if event.applies_to(alarm.series) and alarm.start <= event.end and alarm.end >= event.start:
                if alarms[i].event is None:
                    alarms[i] = replace(alarm, event=k)
                if event.found is None:
                    matched[k] = replace(event, found=max(alarm.start, event.start))
    return alarms, matched, weeks


def _block_scores(recording: Recording, columns: dict[str, Floats], block: Block) -> Floats:
    """Return the scores of a block, (n_rows, n_series)."""
    if recording.layout.form == "long":
        return columns["anomaly_score"][block.rows][:, None]
    return np.stack([columns[f"anomaly_score:{name}"][block.rows] for name in block.names], axis=1)


def _coverage(recording: Recording, columns: dict[str, Floats], events: Sequence[LabelledEvent]) -> float:
    """Return the share of samples within the expected band; NaN for a wide recording, which has no band."""
    if "yhat_lower" not in columns:
        return float("nan")
    inside = compared = 0
    for block in recording.blocks:
        y = block.values[:, 0]
        low, high = (columns[name][block.rows] for name in ("yhat_lower", "yhat_upper"))
        known = np.isfinite(y) & np.isfinite(low) & np.isfinite(high)
        known &= ~_in_events(block.times, block.full_names[0], events)
        compared += int(known.sum())
        inside += int((known & (y >= low) & (y <= high)).sum())
    return inside / compared if compared else float("nan")


def _in_events(times: Ints, series: str, events: Sequence[LabelledEvent]) -> Bools:
    found = np.zeros(len(times), np.bool_)
    for event in events:
        if event.applies_to(series):
            found |= (times >= event.start) & (times <= event.end)
    return found
