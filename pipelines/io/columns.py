"""One column of a recording as an array, checked: times and values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from trimtab.models.contracts import Floats, Ints
from trimtab.pipelines.errors import InputError

MAX_ROW_NUMBER = 10**8
"""A first time below this is a row number; above, seconds since 1970 (10^8 is in 1973)."""
_NO_SAMPLE = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>", "-nan"})
_TIMES = "ISO 8601 (2026-01-31T12:00:00Z), epoch s, ms or ns, or a row number"
_VALUES = "wanted a number, or nothing for no sample"
_NS = 1_000_000_000

RowLocator = Callable[[int], str]
"""Row counted from 0 -> its place as a person finds it."""


def parse_times(column: "pd.Series[Any]", name: str, interval_s: float, locate_row: RowLocator) -> Ints:
    """(n,) int64 ns UTC of a time column: ISO 8601, epoch s, ms, us or ns, or row numbers.

    The first row says which of them it is. A time without a zone is UTC.

    interval_s : how long a row is, for row numbers
    where      : place of a row, for messages

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
    return _numbers_to_ns(_as_numbers(text, name, locate_row), name, interval_s, locate_row)


def _stamps_to_ns(stamps: "pd.Series[Any]", column: "pd.Series[Any]", name: str, where: RowLocator) -> Ints:
    if stamps.isna().any():
        raise _no_time(int(np.flatnonzero(stamps.isna())[0]), column, name, where)
    naive = stamps.dt.tz_localize(None).to_numpy()
    return np.asarray(naive.astype("datetime64[ns]").astype(np.int64), np.int64)


def _no_time(row: int, column: "pd.Series[Any]", name: str, where: RowLocator) -> InputError:
    return InputError(f"{where(row)}, column {name!r}: {_shown(column, row)} is no time; wanted {_TIMES}")


def _shown(column: "pd.Series[Any]", row: int) -> str:
    value = column.iloc[row]
    return repr(value) if isinstance(value, str) else str(value)


def _as_numbers(text: "pd.Series[Any]", name: str, where: RowLocator) -> "pd.Series[Any]":
    for kind in (np.int64, np.float64):
        try:
            return text.astype(kind)
        except (ValueError, OverflowError):
            continue
    wrong = next(row for row, one in enumerate(text) if parse_number(one) is None or not one)
    raise _no_time(wrong, text, name, where)


def _numbers_to_ns(numbers: "pd.Series[Any]", name: str, interval_s: float, where: RowLocator) -> Ints:
    if numbers.isna().any():
        raise _no_time(int(np.flatnonzero(numbers.isna())[0]), numbers, name, where)
    raw = numbers.to_numpy(np.int64 if pd.api.types.is_integer_dtype(numbers) else np.float64)
    scale = _nanoseconds_each(abs(float(raw[0])), interval_s)
    far = ~(np.abs(raw.astype(np.float64)) < float(2**63 - 1) / scale)
    if far.any():
        raise _no_time(int(np.flatnonzero(far)[0]), numbers, name, where)
    if np.issubdtype(raw.dtype, np.integer):
        return np.asarray(raw * scale, np.int64)
    whole = np.floor(raw)
    rest = np.round((raw - whole) * scale)
    return np.asarray(whole.astype(np.int64) * scale + rest.astype(np.int64), np.int64)


def _nanoseconds_each(first: float, interval_s: float) -> int:
    if first < MAX_ROW_NUMBER:
        return round(interval_s * _NS)
    return next((unit for below, unit in ((1e11, _NS), (1e14, 10**6), (1e17, 1000)) if first < below), 1)


def parse_values(column: "pd.Series[Any]", name: str, locate_row: RowLocator) -> Floats:
    """(n,) float64 of a value column; "", NaN and null are no sample.

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
        raise InputError(f"{locate_row(row)}, column {name!r}: {_shown(column, row)} is infinite; {_VALUES}")
    return values


def _texts_to_floats(column: "pd.Series[Any]", name: str, where: RowLocator) -> Floats:
    """Each distinct text is read once: recordings repeat themselves."""
    codes, texts = pd.factorize(column)
    read = [parse_number(text) for text in texts]
    wrong = np.flatnonzero(np.array([*(one is None for one in read), False])[codes])
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{where(row)}, column {name!r}: {_shown(column, row)} is not a number; {_VALUES}")
    table: Floats = np.array([*read, np.nan], np.float64)
    return table[codes]


def parse_number(value: Any) -> float | None:  # noqa: ANN401 - a cell of an object column can be anything
    """The number of a cell; NaN for no sample, None where it is no number."""
    if isinstance(value, str) and value.strip().lower() in _NO_SAMPLE:
        return np.nan
    if isinstance(value, str) and "_" in value:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
