"""A recording through the scorer and the alarms that run live: what would have been told, and when."""

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

    start, end : int64 ns UTC of the first and the last score above 1
    score      : the highest
    event      : place in `Backtest.events` of the first that it tells of; None = a false alarm, where
                 there are labels
    """

    series: str
    start: int
    end: int
    score: float
    event: int | None = None


@dataclass(frozen=True, slots=True)
class Backtest:
    """What would have been told.

    weeks    : that were scored, of all series together
    coverage : share of samples outside events within the expected band; NaN = no band is known
    labelled : whether it is known what should have been told
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
        """Events that an alarm told of."""
        return tuple(event for event in self.events if event.found is not None)

    @property
    def found_ratio(self) -> float:
        """Share of the events, 0..1; NaN = there are none."""
        return len(self.found) / len(self.events) if self.events else float("nan")

    @property
    def false_alarms_per_week(self) -> float:
        """Of a series, where there are labels; else alarms of any kind. NaN = nothing was scored."""
        false = sum(alarm.event is None for alarm in self.alarms)
        return false / self.weeks if self.weeks else float("nan")

    @property
    def median_delay_s(self) -> float:
        """From the begin of an event to its alarm; NaN = none was found."""
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
    """Score a recording as if it came now, raise its alarms, hold them against what is known.

    frame  : long or wide, as `trimtab.score` takes it
    labels : columns start, end, and unique_id where an event is of one series (or entity) only; None = the
             recording's own column label or is_anomaly, where it has one: stretches that are not 0

    Raises InputError, UnknownModelError.

    >>> frame = pd.DataFrame({"ds": range(200), "y": [1.0, 1.2] * 100})
    >>> frame.loc[199, "y"] = 9.0
    >>> told = backtest(frame, pd.DataFrame({"start": [198], "end": [199]}))
    >>> len(told.alarms), told.found_ratio, told.false_alarms_per_week, told.median_delay_s
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
    """As `backtest`, of a recording that was read; where : place of a row of labels, for messages."""
    columns = score_recording(recording, detectors, false_alarms_per_week, progress)
    own = events_from_label_column(frame, recording) if labels is None else None
    events = parse_events(labels, interval_s, locate_row) if labels is not None else (own or ())
    alarms, told, weeks = _alarms(recording, columns, events)
    return Backtest(
        tuple(alarms), tuple(told), sum(len(block.names) for block in recording.blocks), weeks,
        _coverage(recording, columns, events), labels is not None or own is not None, frame.assign(**columns),
    )  # fmt: skip


def name_of(block: Block, k: int) -> str:
    """A series as alarms name it."""
    return f"{block.entity}/{block.names[k]}" if block.entity else block.names[k]


def _alarms(
    recording: Recording, columns: dict[str, Floats], events: Sequence[LabelledEvent]
) -> tuple[list[Alarm], list[LabelledEvent], float]:
    """By start; the events with what came of them; weeks that were scored."""
    alarms: list[Alarm] = []
    weeks = 0.0
    for block in recording.blocks:
        score = _scores(recording, columns, block)
        weeks += float(np.isfinite(score).sum()) * block.interval_s * 1e9 / _WEEK_NS
        for k, start, end, peak in alarm_intervals(score, block.times):
            alarms.append(Alarm(name_of(block, k), start, end, peak))
    alarms.sort(key=lambda alarm: (alarm.start, alarm.series))
    told = list(events)
    for i, alarm in enumerate(alarms):
        for k, event in enumerate(told):
            if event.applies_to(alarm.series) and alarm.start <= event.end and alarm.end >= event.start:
                if alarms[i].event is None:
                    alarms[i] = replace(alarm, event=k)
                if event.found is None:
                    told[k] = replace(event, found=max(alarm.start, event.start))
    return alarms, told, weeks


def _scores(recording: Recording, columns: dict[str, Floats], block: Block) -> Floats:
    """(n_rows, n_series) of a block."""
    if recording.layout.form == "long":
        return columns["anomaly_score"][block.rows][:, None]
    return np.stack([columns[f"anomaly_score:{name}"][block.rows] for name in block.names], axis=1)


def _coverage(recording: Recording, columns: dict[str, Floats], events: Sequence[LabelledEvent]) -> float:
    """Of long recordings: those of a wide one have no column for a band."""
    if "yhat_lower" not in columns:
        return float("nan")
    inside = told = 0
    for block in recording.blocks:
        y, low, high = block.values[:, 0], *(columns[f"yhat_{one}"][block.rows] for one in ("lower", "upper"))
        known = np.isfinite(y) & np.isfinite(low) & np.isfinite(high)
        known &= ~_in_events(block.times, name_of(block, 0), events)
        told += int(known.sum())
        inside += int((known & (y >= low) & (y <= high)).sum())
    return inside / told if told else float("nan")


def _in_events(times: Ints, series: str, events: Sequence[LabelledEvent]) -> Bools:
    found = np.zeros(len(times), np.bool_)
    for event in events:
        if event.applies_to(series):
            found |= (times >= event.start) & (times <= event.end)
    return found
