"""Tables on disk: CSV and Parquet, optionally gzipped, recognised by content and written atomically."""

import csv
import gzip
import io
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa

from trimtab.pipelines.errors import InputError

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_UNSUPPORTED_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
}


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table read from a file.

    name       : name of the file, for messages
    table      : columns; those of a CSV file are text, unchanged
    locate_row : maps a row number, counted from 0, to its place ("cpu.csv, line 7")
    """

    name: str
    table: pa.Table
    locate_row: Callable[[int], str]


def read_table(path: Path) -> TableFile:
    """Read a CSV or Parquet file, optionally gzipped; the first bytes decide the format.

    Raises InputError that names the file, the line, the column, the value and what is allowed.
    """
    content = _read_content(path)
    if content.startswith(_PARQUET):
        return _read_parquet(path.name, content)
    if path.name.removesuffix(".gz").endswith((".parquet", ".pq")):
        raise InputError(f"{path}: is not a Parquet file (it does not begin with PAR1); write it again")
    return _read_csv(path.name, content)


def _read_content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; name one CSV or Parquet file") from None
    except FileNotFoundError:
        raise InputError(f"{path}: the file does not exist") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: the gzip data is damaged: {error}; compress it again") from error
    elif path.suffix == ".gz":
        raise InputError(
            f"{path}: is not gzip, although it is named .gz; remove .gz from its name or compress it"
        )
    if not content.strip():
        raise InputError(f"{path}: is empty; it needs a header line and rows")
    for magic, kind in _UNSUPPORTED_FORMATS.items():
        if content.startswith(magic):
            raise InputError(f"{path}: is {kind}; use CSV (UTF-8) or Parquet, optionally gzipped")
    return content


def _read_parquet(name: str, content: bytes) -> TableFile:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: cannot be read as Parquet: {error}") from error
    _check_header(name, table.column_names)
    if table.num_rows == 0:
        raise InputError(f"{name}: has columns but no rows")
    return TableFile(name, table, lambda row: f"{name}, row {row + 1}")


def _read_csv(name: str, content: bytes) -> TableFile:
    import pyarrow.csv as pacsv

    _check_utf8(name, content)
    records = _records(content)
    try:
        _, header = next(records)
    except StopIteration as error:
        raise InputError(f"{name}, line 1: the header line with the column names is missing") from error
    _check_header(f"{name}, line 1", header)
    if next(records, None) is None:
        raise InputError(f"{name}: has a header line but no rows")
    try:
        table = pacsv.read_csv(
            pa.BufferReader(content),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types={column: pa.string() for column in header}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        ragged = _ragged_row_message(name, content, header)
        raise InputError(ragged or f"{name}: cannot be read as CSV: {error}") from error
    return TableFile(name, table, lambda row: f"{name}, line {_line_of(content, row)}")


def _check_utf8(name: str, content: bytes) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        begin = content.rfind(b"\n", 0, error.start) + 1
        line = content.count(b"\n", 0, begin) + 1
        before = content[begin : error.start].decode("utf-8")
        fields = next(csv.reader([before]), [""])
        header = next(csv.reader([content.split(b"\n", 1)[0].decode("utf-8", "replace")]), [])
        column = header[len(fields) - 1] if line > 1 and len(fields) <= len(header) else str(len(fields))
        raise InputError(
            f"{name}, line {line}, column {column!r}: byte 0x{content[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from None


def _records(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, fields) of each CSV record, header included; blank lines are skipped."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""))
    begin = 1
    try:
        for fields in reader:
            if fields:
                yield begin, fields
            begin = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"line {begin}: cannot be read as CSV ({error}); check for an unclosed quote"
        ) from error


def _line_of(content: bytes, row: int) -> int:
    for number, (line, _) in enumerate(_records(content), start=-1):
        if number == row:
            return line
    raise IndexError(row)


def _check_header(place: str, names: Sequence[str]) -> None:
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        at = [str(i + 1) for i, name in enumerate(names) if name == duplicates[0]]
        raise InputError(
            f"{place}: columns {' and '.join(at)} are both named {duplicates[0]!r}; names must be unique"
        )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise InputError(f"{place}: {names[0]!r} contains no comma; separate columns by commas")


def _ragged_row_message(name: str, content: bytes, header: list[str]) -> str | None:
    for line, fields in _records(content):
        if len(fields) == len(header):
            continue
        if len(fields) < len(header):
            problem = f"column {header[len(fields)]!r} is missing"
        else:
            problem = f"{fields[len(header)]!r} has no column"
        return f"{name}, line {line}: {len(fields)} fields instead of {len(header)}: {problem}"
    return None


def sibling_path(source: Path, word: str) -> Path:
    """Return a path in the same folder, with a word inserted before the suffix.

    >>> str(sibling_path(Path("a/cpu.csv.gz"), "scored"))
    'a/cpu.scored.csv.gz'
    """
    compressed = ".gz" if source.suffix == ".gz" else ""
    plain = Path(source.name.removesuffix(".gz"))
    ending = plain.suffix if plain.suffix in {".csv", ".parquet", ".pq"} else ".csv"
    return source.with_name(f"{plain.stem}.{word}{ending}{compressed}")


def check_output(path: Path, source: Path | None = None) -> None:
    """Raise InputError if `write_table` could not write to the path or would overwrite its source."""
    plain = path.name.removesuffix(".gz")
    if not plain.endswith((".csv", ".parquet", ".pq")):
        raise InputError(
            f"{path}: the name must end in .csv or .parquet (optionally .gz), or be - for stdout"
        )
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: the folder is not writable; choose another with -o")
    if source is not None and path.exists() and path.samefile(source):
        raise InputError(f"{path}: is the input itself; choose another name with -o")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table atomically as CSV or Parquet, chosen by the suffix; .gz compresses it.

    Raises InputError if the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with temporary.open("xb") as file:
                _write(file, path.name, table)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another -o") from error


def _write(file: IO[bytes] | gzip.GzipFile, name: str, table: pa.Table) -> None:
    if name.endswith(".gz"):
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as compressed:
            _write(compressed, name.removesuffix(".gz"), table)
    elif name.endswith(".csv"):
        write_csv(file, table)
    else:
        import pyarrow.parquet as pq

        pq.write_table(table, file, compression="zstd")


def write_csv(file: IO[bytes] | gzip.GzipFile, table: pa.Table) -> None:
    """Write the table as UTF-8 CSV with minimal quoting; null is an empty field."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    frame.to_csv(text, index=False, lineterminator="\n")
    text.flush()
    text.detach()


def append_columns(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """Append float64 columns to the table; NaN becomes null."""
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.float64(), from_pandas=True))
    return table
