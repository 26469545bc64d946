"""What is known to have happened in a recording: stretches of time, told apart from how they are found."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trimtab.models.contracts import Bools
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.columns import RowLocator, parse_times
from trimtab.pipelines.io.recording import ENTITY_COLUMNS, SERIES_COLUMNS, Recording

LABEL_COLUMNS = ("label", "is_anomaly")
_NOTHING = frozenset({"", "0", "0.0", "false", "nan", "none", "normal"})


@dataclass(frozen=True, slots=True)
class LabelledEvent:
    """Something that should be told.

    series     : whose, the name of a series or of an entity; "" = of any
    start, end : int64 ns UTC, both included
    found      : int64 ns UTC of the first alarm within it; None = missed
    """

    series: str
    start: int
    end: int
    found: int | None = None

    @property
    def delay_s(self) -> float | None:
        """From its begin to the alarm; None = missed."""
        return None if self.found is None else (self.found - self.start) / 1e9

    def applies_to(self, series: str) -> bool:
        """Whether it is of this series.

        >>> LabelledEvent("shop", 0, 1).applies_to("shop/latency"), LabelledEvent("", 0, 1).applies_to("cpu")
        (True, True)
        """
        return self.series in {"", series} or series.startswith(f"{self.series}/")


def parse_events(
    labels: pd.DataFrame, interval_s: float, locate_row: RowLocator | None = None
) -> tuple[LabelledEvent, ...]:
    """The events of a table with columns start, end, and unique_id | series | entity where they have one.

    interval_s : how long a row is, where times are row numbers. Raises InputError.

    >>> parse_events(pd.DataFrame({"start": [2], "end": [3]}), 60.0)
    (Event(series='', start=120000000000, end=180000000000, found=None),)
    """
    place = locate_row or (lambda row: f"the labels, row {row} (counted from 0)")
    missing = [name for name in ("start", "end") if name not in labels]
    if missing:
        raise InputError(
            f"the labels have no column {', '.join(missing)} among {', '.join(map(str, labels.columns))}; "
            "wanted are start, end, and unique_id where an event is of one series"
        )
    if labels.empty:
        return ()
    start, end = (parse_times(labels[name], name, interval_s, place) for name in ("start", "end"))
    wrong = np.flatnonzero(end < start)
    if len(wrong):
        raise InputError(f"{place(int(wrong[0]))}: the event ends before it starts; exchange start and end")
    whose = next((name for name in (*SERIES_COLUMNS, *ENTITY_COLUMNS) if name in labels), None)
    names = [""] * len(labels) if whose is None else labels[whose].fillna("").astype(str).tolist()
    return tuple(LabelledEvent(*row) for row in zip(names, start.tolist(), end.tolist(), strict=True))


def events_from_label_column(frame: pd.DataFrame, recording: Recording) -> tuple[LabelledEvent, ...] | None:
    """The stretches that the recording itself marks; None = it has no such column."""
    column = next((name for name in LABEL_COLUMNS if name in frame), None)
    if column is None:
        return None
    is_event = np.array([str(one).strip().lower() not in _NOTHING for one in frame[column]], np.bool_)
    found = []
    for block in recording.blocks:
        series = block.entity or (block.names[0] if recording.layout.form == "long" else "")
        for begin, end in _runs(is_event[block.rows]):
            found.append(LabelledEvent(series, int(block.times[begin]), int(block.times[end])))
    return tuple(found)


def _runs(is_event: Bools) -> list[tuple[int, int]]:
    """(first, last) row of each stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_event, [False]]).astype(np.int8)))
    return [(int(begin), int(end) - 1) for begin, end in edges.reshape(-1, 2)]
