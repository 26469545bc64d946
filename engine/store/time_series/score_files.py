"""Parquet files of scores: consecutive ticks of one source, sorted by series, then time.

Columns: series_id, time (int64 ns UTC), value, anomaly_score, yhat, yhat_lower, yhat_upper (float64,
NaN = unknown). The file name contains source, format version, first and last time. The footer also
stores the first series of every row group, so that reading one series needs one or two groups, and the
times of all ticks, so that a tick is never stored twice. pyarrow (30 MB) is imported on first use.
"""

import base64
import os
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
import structlog

from trimtab.engine.errors import NewerStateError
from trimtab.engine.store.durable_files import atomic_write, safe_file_name, translate_os_errors
from trimtab.engine.types import Floats, Ints

log = structlog.get_logger(__name__)

T = TypeVar("T")
FORMAT = 1
COLUMNS = ("value", "anomaly_score", "yhat", "yhat_lower", "yhat_upper")
NS_PER_SECOND = 1_000_000_000
_GROUPS, _TIMES, _FORMAT = b"trimtab.groups", b"trimtab.times", b"trimtab.format"
_GROUP_ROWS = (4_096, 32_768)
"""Minimum and maximum rows of a row group; in between a file has about 64 groups."""


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """A score file as described by its name and file status.

    first, last : times of its first and last tick, int64 ns UTC
    written     : modification time, int64 ns UTC
    """

    path: Path
    source: str
    first: int
    last: int
    size_bytes: int
    written: int


@dataclass(frozen=True, slots=True)
class SortedRows:
    """Rows in the order of a score file.

    series_ids : ids of the series, sorted
    ordinal    : (n_rows,) int32, index into series_ids, ascending
    times      : (n_rows,) int64 ns UTC, ascending within a series
    columns    : (5, n_rows) float64, see COLUMNS
    """

    series_ids: Sequence[str]
    ordinal: np.ndarray[Any, np.dtype[np.int32]]
    times: Ints
    columns: Floats


def list_files(folder: Path) -> list[ScoreFile]:
    """Return the score files of a folder, oldest first; other files are ignored. Raises NewerStateError."""
    with translate_os_errors("read", folder):
        files = [_parse_file_name(path) for path in folder.glob("*.parquet")] if folder.exists() else []
    return sorted((file for file in files if file is not None), key=lambda file: file.first)


def write_file(folder: Path, source: str, ticks: Ints, rows: SortedRows, now: int) -> ScoreFile:
    """Write the rows of these ticks (int64 ns) atomically as one file. Raises StoreError."""
    first, last = int(ticks.min()), int(ticks.max())
    path = folder / f"{safe_file_name(source)}.v{FORMAT}.{_format_stamp(first)}.{_format_stamp(last)}.parquet"
    with atomic_write(path) as temporary:
        _write_groups(temporary, ticks, rows)
        # Retention uses the modification time, so set it from the engine's clock.
        os.utime(temporary, ns=(now, now))
    return ScoreFile(path, source, first, last, path.stat().st_size, now)


def read_series(file: ScoreFile, series_id: str) -> list[tuple[Ints, Floats]]:
    """Return (times, (5, n) columns) pieces of one series, oldest first; empty if the file lacks the series.

    A damaged file is logged and read as empty. Raises NewerStateError, FileNotFoundError.
    """
    return _with_open_file(file, lambda opened: list(_series_pieces(opened, series_id))) or []


def read_tick_times(file: ScoreFile) -> set[int]:
    """Return the tick times of a file; empty if it is damaged. Raises NewerStateError, FileNotFoundError."""
    return _with_open_file(file, lambda opened: set(_stored_tick_times(opened).tolist())) or set()


def read_rows(file: ScoreFile) -> tuple[Ints, SortedRows] | None:
    """Return (tick times, rows) of a file; None if it is damaged. Raises as `read_series`."""
    return _with_open_file(file, lambda opened: (_stored_tick_times(opened), _all_rows(opened)))


def merge_rows(first: SortedRows, second: SortedRows) -> SortedRows:
    """Merge two sets of rows into one sorted set."""
    ids = sorted({*first.series_ids, *second.series_ids})
    position = {series_id: i for i, series_id in enumerate(ids)}
    ordinal = np.concatenate(
        [np.array([position[i] for i in part.series_ids], np.int32)[part.ordinal] for part in (first, second)]
    )
    times = np.concatenate([first.times, second.times])
    order = np.lexsort((times, ordinal))
    columns = np.concatenate([first.columns, second.columns], axis=1)
    return SortedRows(ids, ordinal[order], times[order], columns[:, order])


def _write_groups(path: Path, ticks: Ints, rows: SortedRows) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = int(np.clip(len(rows.times) // 64, *_GROUP_ROWS))
    firsts = range(0, len(rows.times), size)
    starts = ",".join(rows.series_ids[rows.ordinal[first]] for first in firsts)
    kinds = {"series_id": pa.dictionary(pa.int32(), pa.string()), "time": pa.int64()}
    schema = pa.schema({**kinds, **dict.fromkeys(COLUMNS, pa.float64())})
    about = {_FORMAT: str(FORMAT), _GROUPS: starts, _TIMES: _pack_times(ticks)}
    with pq.ParquetWriter(
        path, schema.with_metadata(about), compression="zstd",
        use_dictionary=["series_id"], write_statistics=["series_id", "time"], write_page_checksum=True,
        column_encoding={"time": "DELTA_BINARY_PACKED", **dict.fromkeys(COLUMNS, "BYTE_STREAM_SPLIT")},
    ) as writer:  # fmt: skip
        for first in firsts:
            writer.write_batch(_record_batch(writer.schema, rows, slice(first, first + size)))
    pa.default_memory_pool().release_unused()


def _record_batch(schema: Any, rows: SortedRows, part: slice) -> Any:  # noqa: ANN401 - pyarrow is untyped
    # Built from buffers, because pa.array imports pandas (60 MB) to check its input type.
    import pyarrow as pa

    def plain(values: np.ndarray[Any, Any], kind: Any) -> Any:  # noqa: ANN401 - pyarrow is untyped
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])

    # Each group has a dictionary of its own series; a global one would be written into every group.
    ordinal = rows.ordinal[part]
    texts = [series_id.encode() for series_id in rows.series_ids[ordinal[0] : ordinal[-1] + 1]]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    ids = pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)))
    series = pa.DictionaryArray.from_arrays(plain(ordinal - ordinal[0], pa.int32()), ids)
    columns = [plain(column[part], pa.float64()) for column in rows.columns]
    return pa.RecordBatch.from_arrays([series, plain(rows.times[part], pa.int64()), *columns], schema=schema)


def _with_open_file(file: ScoreFile, work: Callable[[Any], T]) -> T | None:
    """Return the result of `work` on the open Parquet file; None if the file is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(
            file.path, read_dictionary=["series_id"], memory_map=True, pre_buffer=False,
            page_checksum_verification=True,
        ) as opened:  # fmt: skip
            _refuse_newer(int(opened.metadata.metadata[_FORMAT]), file.path)
            return work(opened)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, zlib.error) as error:
        log.warning("damaged_score_file_skipped", file=str(file.path), error=str(error))
        return None


def _stored_tick_times(opened: Any) -> Ints:  # noqa: ANN401 - pyarrow is untyped
    steps = np.frombuffer(zlib.decompress(base64.b64decode(opened.metadata.metadata[_TIMES])), "<i8")
    return np.cumsum(steps).astype(np.int64)


def _all_rows(opened: Any) -> SortedRows:  # noqa: ANN401 - pyarrow is untyped
    batches = opened.read(use_threads=False).to_batches()
    position: dict[str, int] = {}
    ordinals = []
    for batch in batches:
        series = batch.column(0)
        positions = [
            position.setdefault(series_id, len(position)) for series_id in _strings_of(series.dictionary)
        ]
        ordinals.append(np.array(positions, np.int32)[_numbers_of(series.indices, np.int32)])
    times, *columns = (
        np.concatenate([_numbers_of(batch.column(1 + i), np.float64 if i else np.int64) for batch in batches])
        for i in range(1 + len(COLUMNS))
    )
    return SortedRows(list(position), np.concatenate(ordinals), times, np.stack(columns))


def _series_pieces(opened: Any, series_id: str) -> Iterator[tuple[Ints, Floats]]:  # noqa: ANN401 - pyarrow is untyped
    starts = opened.metadata.metadata[_GROUPS].decode().split(",")
    last = bisect_right(starts, series_id) - 1
    first = max(bisect_left(starts, series_id) - 1, 0)
    if last < 0:
        return
    for batch in opened.read_row_groups(range(first, last + 1), use_threads=False).to_batches():
        series = batch.column(0)
        ids = _strings_of(series.dictionary)
        if series_id not in ids:
            continue
        row_numbers = np.flatnonzero(_numbers_of(series.indices, np.int32) == ids.index(series_id))
        rows = slice(row_numbers[0], row_numbers[-1] + 1) if len(row_numbers) else slice(0)
        columns = [_numbers_of(batch.column(2 + i), np.float64)[rows] for i in range(len(COLUMNS))]
        yield _numbers_of(batch.column(1), np.int64)[rows].copy(), np.stack(columns)


def _numbers_of(array: Any, kind: type[Any]) -> Any:  # noqa: ANN401 - pyarrow is untyped
    # Not to_numpy, which also imports pandas.
    return np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array)]


def _strings_of(array: Any) -> list[str]:  # noqa: ANN401 - pyarrow is untyped
    ends, text = array.buffers()[1:]
    bounds = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1].tolist()
    whole = text.to_pybytes() if text is not None else b""
    return [whole[a:b].decode() for a, b in pairwise(bounds)]


def _parse_file_name(path: Path) -> ScoreFile | None:
    parts = path.name.split(".")
    if len(parts) != 5 or not parts[1].startswith("v") or not parts[1][1:].isdigit():
        return None
    _refuse_newer(int(parts[1][1:]), path)
    try:
        first, last = _parse_stamp(parts[2]), _parse_stamp(parts[3])
        about = path.stat()
    except (ValueError, FileNotFoundError):
        return None
    return ScoreFile(path, unquote(parts[0]), first, last, about.st_size, about.st_mtime_ns)


def _refuse_newer(version: int, path: Path) -> None:
    if version > FORMAT:
        raise NewerStateError(
            f"{path} was written by a newer Trimtab (format {version}, this version supports {FORMAT}); "
            "upgrade Trimtab, or use another folder. Nothing was changed"
        )


def _format_stamp(time: int) -> str:
    seconds, rest = divmod(time, NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}_{rest:09d}Z"


def _parse_stamp(stamp: str) -> int:
    seconds = datetime.strptime(stamp[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return int(seconds.timestamp()) * NS_PER_SECOND + int(stamp[16:25])


def _pack_times(times: Ints) -> bytes:
    return base64.b64encode(zlib.compress(np.diff(np.sort(times), prepend=0).astype("<i8").tobytes()))
