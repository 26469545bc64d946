"""Labelled events of a recording: known time intervals that a detector should find."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trimtab.models.contracts import Bools
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.columns import RowLocator, parse_times
from trimtab.pipelines.io.recording import ENTITY_COLUMNS, SERIES_COLUMNS, Recording

LABEL_COLUMNS = ("label", "is_anomaly")
_UNLABELLED = frozenset({"", "0", "0.0", "false", "nan", "none", "normal"})


@dataclass(frozen=True, slots=True)
class LabelledEvent:
    """A time interval that should raise an alarm.

    series     : name of a series or an entity; "" = any series
    start, end : int64 ns UTC, both included
    found      : int64 ns UTC of the first alarm within it; None = missed
    """

    series: str
    start: int
    end: int
    found: int | None = None

    @property
    def delay_s(self) -> float | None:
        """Seconds from the start of the event to its first alarm; None = missed."""
        return None if self.found is None else (self.found - self.start) / 1e9

    def applies_to(self, series: str) -> bool:
        """Return whether the event is about this series.

        >>> LabelledEvent("shop", 0, 1).applies_to("shop/latency"), LabelledEvent("", 0, 1).applies_to("cpu")
        (True, True)
        """
        return self.series in {"", series} or series.startswith(f"{self.series}/")


def parse_events(
    labels: pd.DataFrame, interval_s: float, locate_row: RowLocator | None = None
) -> tuple[LabelledEvent, ...]:
    """Parse a table of events with columns start, end, and optionally unique_id, series or entity.

    interval_s : seconds per row, used where times are row numbers
    locate_row : place of a row, for messages

    Raises InputError for a missing column, an invalid time, or an event that ends before it starts.

    >>> parse_events(pd.DataFrame({"start": [2], "end": [3]}), 60.0)
    (LabelledEvent(series='', start=120000000000, end=180000000000, found=None),)
    """
    locate = locate_row or (lambda row: f"the labels, row {row} (counted from 0)")
    missing = [name for name in ("start", "end") if name not in labels]
    if missing:
        raise InputError(
            f"the labels have no column {', '.join(missing)}, only {', '.join(map(str, labels.columns))}; "
            "they need start and end, and unique_id for events of one series"
        )
    if labels.empty:
        return ()
    start, end = (parse_times(labels[name], name, interval_s, locate) for name in ("start", "end"))
    invalid = np.flatnonzero(end < start)
    if len(invalid):
        raise InputError(f"{locate(int(invalid[0]))}: the event ends before it starts; swap start and end")
    series_column = next((name for name in (*SERIES_COLUMNS, *ENTITY_COLUMNS) if name in labels), None)
    names = (
        [""] * len(labels) if series_column is None else labels[series_column].fillna("").astype(str).tolist()
    )
    return tuple(LabelledEvent(*row) for row in zip(names, start.tolist(), end.tolist(), strict=True))


def events_from_label_column(frame: pd.DataFrame, recording: Recording) -> tuple[LabelledEvent, ...] | None:
    """Return the intervals that the recording's label column marks; None = it has no such column."""
    column = next((name for name in LABEL_COLUMNS if name in frame), None)
    if column is None:
        return None
    is_event = np.array([str(one).strip().lower() not in _UNLABELLED for one in frame[column]], np.bool_)
    found = []
    for block in recording.blocks:
        series = block.entity or (block.names[0] if recording.layout.form == "long" else "")
        for begin, end in _runs(is_event[block.rows]):
            found.append(LabelledEvent(series, int(block.times[begin]), int(block.times[end])))
    return tuple(found)


def _runs(is_event: Bools) -> list[tuple[int, int]]:
    """Return the (first, last) row of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_event, [False]]).astype(np.int8)))
    return [(int(begin), int(end) - 1) for begin, end in edges.reshape(-1, 2)]
