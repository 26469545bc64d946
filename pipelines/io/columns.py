"""Parse one column of a recording into a checked array of times or values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from trimtab.models.contracts import Floats, Ints
from trimtab.pipelines.errors import InputError

MAX_ROW_NUMBER = 10**8
"""A first time below this is a row number, else seconds since 1970 (10^8 s is in 1973)."""
_MISSING_TEXTS = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>", "-nan"})
_TIME_FORMATS = "ISO 8601 (2026-01-31T12:00:00Z), epoch s, ms or ns, or a row number"
_VALUE_HINT = "use a number, or leave it empty for no sample"
_NS = 1_000_000_000

RowLocator = Callable[[int], str]
"""Maps a row number, counted from 0, to its place in the file, for messages."""


def parse_times(column: "pd.Series[Any]", name: str, interval_s: float, locate_row: RowLocator) -> Ints:
    """Parse a time column into (n,) int64 ns UTC.

    Accepts ISO 8601, epoch seconds, ms, us or ns, and row numbers; the first row decides the format.
    A time without a zone is UTC.

    interval_s : seconds per row, used where the column counts rows
    locate_row : place of a row, for messages

    Raises InputError for a value that is not a time.

    >>> parse_times(pd.Series([1_700_000_000]), "t", 60.0, str).tolist()
    [1700000000000000000]
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return _stamps_to_ns(pd.to_datetime(column, utc=True), column, name, locate_row)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return _numbers_to_ns(column, name, interval_s, locate_row)
    text = column.astype(str).str.strip()
    if parse_number(text.iloc[0]) is None or not text.iloc[0]:
        stamps = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        return _stamps_to_ns(stamps, column, name, locate_row)
    return _numbers_to_ns(_parse_numbers(text, name, locate_row), name, interval_s, locate_row)


def _stamps_to_ns(stamps: "pd.Series[Any]", column: "pd.Series[Any]", name: str, where: RowLocator) -> Ints:
    if stamps.isna().any():
        raise _time_error(int(np.flatnonzero(stamps.isna())[0]), column, name, where)
    naive = stamps.dt.tz_localize(None).to_numpy()
    return np.asarray(naive.astype("datetime64[ns]").astype(np.int64), np.int64)


def _time_error(row: int, column: "pd.Series[Any]", name: str, where: RowLocator) -> InputError:
    return InputError(
        f"{where(row)}, column {name!r}: {_format_cell(column, row)} is not a time; use {_TIME_FORMATS}"
    )


def _format_cell(column: "pd.Series[Any]", row: int) -> str:
    value = column.iloc[row]
    return repr(value) if isinstance(value, str) else str(value)


def _parse_numbers(text: "pd.Series[Any]", name: str, where: RowLocator) -> "pd.Series[Any]":
    for kind in (np.int64, np.float64):
        try:
            return text.astype(kind)
        except (ValueError, OverflowError):
            continue
    invalid = next(row for row, one in enumerate(text) if parse_number(one) is None or not one)
    raise _time_error(invalid, text, name, where)


def _numbers_to_ns(numbers: "pd.Series[Any]", name: str, interval_s: float, where: RowLocator) -> Ints:
    if numbers.isna().any():
        raise _time_error(int(np.flatnonzero(numbers.isna())[0]), numbers, name, where)
    raw = numbers.to_numpy(np.int64 if pd.api.types.is_integer_dtype(numbers) else np.float64)
    scale = _ns_per_unit(abs(float(raw[0])), interval_s)
    out_of_range = ~(np.abs(raw.astype(np.float64)) < float(2**63 - 1) / scale)
    if out_of_range.any():
        raise _time_error(int(np.flatnonzero(out_of_range)[0]), numbers, name, where)
    if np.issubdtype(raw.dtype, np.integer):
        return np.asarray(raw * scale, np.int64)
    whole = np.floor(raw)
    rest = np.round((raw - whole) * scale)
    return np.asarray(whole.astype(np.int64) * scale + rest.astype(np.int64), np.int64)


def _ns_per_unit(first: float, interval_s: float) -> int:
    if first < MAX_ROW_NUMBER:
        return round(interval_s * _NS)
    return next((unit for below, unit in ((1e11, _NS), (1e14, 10**6), (1e17, 1000)) if first < below), 1)


def parse_values(column: "pd.Series[Any]", name: str, locate_row: RowLocator) -> Floats:
    """Parse a value column into (n,) float64; "", NaN and null become NaN (no sample).

    Raises InputError for text and for infinity.

    >>> parse_values(pd.Series(["1.5", "", "nan"]), "y", str).tolist()
    [1.5, nan, nan]
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        values: Floats = column.to_numpy(np.float64, na_value=np.nan)
    else:
        values = _texts_to_floats(column, name, locate_row)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        row = int(infinite[0])
        raise InputError(
            f"{locate_row(row)}, column {name!r}: {_format_cell(column, row)} is infinite; {_VALUE_HINT}"
        )
    return values


def _texts_to_floats(column: "pd.Series[Any]", name: str, where: RowLocator) -> Floats:
    """Parse each distinct text once, because recordings repeat values."""
    codes, texts = pd.factorize(column)
    read = [parse_number(text) for text in texts]
    invalid = np.flatnonzero(np.array([*(one is None for one in read), False])[codes])
    if len(invalid):
        row = int(invalid[0])
        raise InputError(
            f"{where(row)}, column {name!r}: {_format_cell(column, row)} is not a number; {_VALUE_HINT}"
        )
    table: Floats = np.array([*read, np.nan], np.float64)
    return table[codes]


def parse_number(value: Any) -> float | None:  # noqa: ANN401 - a cell of an object column can be anything
    """Return the number in a cell, NaN for no sample, or None if the cell is not a number."""
    if isinstance(value, str) and value.strip().lower() in _MISSING_TEXTS:
        return np.nan
    if isinstance(value, str) and "_" in value:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
