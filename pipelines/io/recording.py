"""Read a table of recorded series into checked arrays; rows keep their order.

Long form: one row per sample, columns `unique_id|series|file`, `ds|timestamp|t`, `y|value`; the first may be
missing if there is one series only. Wide form: a time column, then one column per series; with a column
`entity`, one block of rows per entity. Columns `label`, `split` and `is_anomaly` are ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from trimtab.models.contracts import Floats, Ints
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.columns import RowLocator, parse_times, parse_values

SERIES_COLUMNS = ("unique_id", "series", "file")
TIME_COLUMNS = ("ds", "timestamp", "t", "time", "datetime", "date")
VALUE_COLUMNS = ("y", "value")
ENTITY_COLUMNS = ("entity",)
IGNORED_COLUMNS = ("label", "split", "is_anomaly")
RESULT_COLUMNS = ("anomaly_score", "yhat", "yhat_lower", "yhat_upper")

INTERVAL_SPACINGS = 10
"""A series' interval is the median of its first 10 spacings; earlier rows have no score."""
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Layout:
    """The role of each column. time is None if the table's index holds the times."""

    form: Literal["long", "wide"]
    time: str | None
    values: tuple[str, ...]
    series: str | None = None
    entity: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Series that share their rows: one series of a long table, or all series of one entity of a wide table.

    entity     : name of the entity; "" = none
    names      : names of the series, without the entity
    rows       : (n_rows,) int64, positions in the table, ascending
    times      : (n_rows,) int64 ns UTC, in row order; may repeat or step back
    values     : (n_rows, n_series) float64, NaN = no sample
    interval_s : median seconds between the first rows
    """

    entity: str
    names: tuple[str, ...]
    rows: Ints
    times: Ints
    values: Floats
    interval_s: float

    @property
    def full_names(self) -> tuple[str, ...]:
        """Names of the series, as "entity/name" if there is an entity."""
        return tuple(f"{self.entity}/{name}" for name in self.names) if self.entity else self.names


@dataclass(frozen=True, slots=True)
class Recording:
    """Recorded series as arrays.

    warning : one sentence about times that repeat or step back; "" = none
    """

    name: str
    layout: Layout
    blocks: tuple[Block, ...]
    n_rows: int
    warning: str = ""


def read_frame(
    frame: pd.DataFrame,
    interval_s: float = 60.0,
    name: str = "the table",
    locate_row: RowLocator | None = None,
) -> Recording:
    """Parse a table into a recording.

    interval_s : seconds per row, used where the time column counts rows
    name       : name of the table, for messages
    locate_row : place of a row, for messages

    Raises InputError that names the place, the column, the value and what is allowed.

    >>> frame = pd.DataFrame({"t": [0, 1, 2], "cpu": [1.0, None, 3.0]})
    >>> read_frame(frame).blocks[0].times.tolist()
    [0, 60000000000, 120000000000]
    """
    locate = locate_row or (lambda row: f"{name}, row {row} (counted from 0)")
    frame = frame.set_axis([str(column) for column in frame.columns], axis=1)
    layout = find_layout(frame, name)
    if frame.empty:
        raise InputError(f"{name}: has no rows")
    times = parse_times(_time_column(frame, layout), layout.time or "index", interval_s, locate)
    values = np.column_stack([parse_values(frame[c], c, locate) for c in layout.values])
    blocks = tuple(_blocks(frame, layout, times, values, interval_s, locate))
    return Recording(name, layout, blocks, len(frame), _disorder_warning(blocks, name, locate))


def find_layout(frame: pd.DataFrame, name: str) -> Layout:
    """Assign a role to each column by its name. Raises InputError if that is ambiguous."""
    columns = list(frame.columns)
    _check_columns(columns, name)
    series, time, value, entity = (
        _find_column(columns, names)
        for names in (SERIES_COLUMNS, TIME_COLUMNS, VALUE_COLUMNS, ENTITY_COLUMNS)
    )
    if time is None and not isinstance(frame.index, pd.DatetimeIndex):
        raise InputError(
            f"{name}: no time column among {_list_columns(columns)}; "
            f"name one of them {', '.join(TIME_COLUMNS[:-1])} or {TIME_COLUMNS[-1]}"
        )
    known = {series, time, entity} | {c for c in columns if _normalize(c) in IGNORED_COLUMNS}
    others = tuple(c for c in columns if c not in known)
    if value is not None and (series is not None or (entity is None and others == (value,))):
        return Layout("long", time, (value,), series=series)
    if series is not None:
        raise InputError(
            f"{name}: column {series!r} makes it a long recording, but none of {_list_columns(columns)} "
            f"is named y or value; rename one, or rename {series!r} to entity for a wide recording"
        )
    if not others:
        raise InputError(
            f"{name}: no value column among {_list_columns(columns)}; add y, or one column per series"
        )
    return Layout("wide", time, others, entity=entity)


def _check_columns(columns: list[str], name: str) -> None:
    for i, column in enumerate(columns):
        if columns.index(column) != i:
            raise InputError(f"{name}: column {column!r} occurs twice; names must be unique")
        if not column.strip():
            raise InputError(f"{name}: column {i + 1} has no name; name it or remove it")
        if column in RESULT_COLUMNS or column.startswith("anomaly_score:"):
            raise InputError(f"{name}: column {column!r} is a result of score; remove it")


def _find_column(columns: list[str], names: Sequence[str]) -> str | None:
    plain = {_normalize(column): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def _normalize(column: str) -> str:
    return column.strip().lower()


def _list_columns(columns: list[str]) -> str:
    shown = ", ".join(repr(column) for column in columns[:8])
    return shown + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")


def _time_column(frame: pd.DataFrame, layout: Layout) -> "pd.Series[Any]":
    return pd.Series(frame.index) if layout.time is None else frame[layout.time]


def _blocks(
    frame: pd.DataFrame,
    layout: Layout,
    times: Ints,
    values: Floats,
    interval_s: float,
    locate_row: RowLocator,
) -> list[Block]:
    key = layout.series if layout.form == "long" else layout.entity
    if key is None:
        codes, names = np.zeros(len(frame), np.int64), [layout.values[0] if layout.form == "long" else ""]
    else:
        codes, found = pd.factorize(frame[key])
        names = [str(one) for one in found]
        if (codes < 0).any() or "" in names:
            row = int(np.flatnonzero((codes < 0) | (frame[key] == "").to_numpy(bool))[0])
            raise InputError(
                f"{locate_row(row)}, column {key!r}: no name; enter the name of the {_normalize(key)}"
            )
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])
    wide = layout.form == "wide"
    return [
        Block(
            entity=name if wide else "",
            names=layout.values if wide else (name,),
            rows=rows,
            times=times[rows],
            values=values[rows],
            interval_s=median_interval_s(times[rows], interval_s),
        )
        for name, rows in zip(names, parts, strict=True)
    ]


def median_interval_s(times: Ints, default_s: float) -> float:
    """Return the median of the first ten positive spacings in seconds, or the default if there is none.

    Later rows never change the interval, so they never change an earlier score.

    >>> median_interval_s(np.array([0, 60, 120, 110, 180]) * 10**9, 1.0)
    60.0
    """
    steps = np.diff(times[: INTERVAL_SPACINGS + 1])
    steps = steps[steps > 0]
    return float(np.median(steps)) / _NS if len(steps) else default_s


def _disorder_warning(blocks: tuple[Block, ...], name: str, locate_row: RowLocator) -> str:
    repeats = backs = series = 0
    first: tuple[int, str] | None = None
    for block in blocks:
        steps = np.diff(block.times)
        invalid = np.flatnonzero(steps <= 0)
        if not len(invalid):
            continue
        series += 1
        repeats += int((steps == 0).sum())
        backs += int((steps < 0).sum())
        row = int(block.rows[invalid[0] + 1])
        if first is None or row < first[0]:
            first = (row, block.entity or (block.names[0] if len(block.names) == 1 else ""))
    if first is None:
        return ""
    count_note = f" in {series} of {len(blocks)} series, the first" if len(blocks) > 1 else ", the first"
    name_note = f" ({first[1]})" if first[1] and len(blocks) > 1 else ""
    return (
        f"{name}: {repeats} repeated times and {backs} steps back in time{count_note} at "
        f"{locate_row(first[0])}{name_note}; rows are scored in file order"
    )
