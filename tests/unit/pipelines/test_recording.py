"""Reading recordings: accepted input, and the error for each invalid one."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.recording import Recording, read_frame
from trimtab.pipelines.io.tables import read_table

MINUTE = 60_000_000_000
NEW_YEAR = 1_767_225_600
"""2026-01-01T00:00:00Z in seconds."""


def read_recording(path: Path, interval_s: float = 60.0) -> Recording:
    """Read a file as the command does."""
    sheet = read_table(path)
    return read_frame(sheet.table.to_pandas(), interval_s, sheet.name, sheet.locate_row)


def write_file(folder: Path, content: str | bytes, name: str = "cpu.csv") -> Path:
    """Write a file with this content and return its path."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


BAD = {
    "empty": ("", "cpu.csv: is empty; it needs a header line and rows"),
    "blank lines only": ("\n\n  \n", "cpu.csv: is empty"),
    "byte order mark only": ("\ufeff", "cpu.csv, line 1: the header line"),
    "header only": ("ds,y\n", "cpu.csv: has a header line but no rows"),
    "header without line end": ("ds,y", "cpu.csv: has a header line but no rows"),
    "no time column": (
        "when,y\n1,2\n",
        "no time column among 'when', 'y'; name one of them ds, timestamp, t",
    ),
    "no value column": ("ds,label\n1,0\n", "no value column among 'ds', 'label'"),
    "series but no value": (
        "unique_id,ds,cpu\na,1,2\n",
        "is named y or value; rename one, or rename 'unique_id'",
    ),
    "text as value": ("ds,y\n1,2\n2,high\n", "line 3, column 'y': 'high' is not a number; use a number"),
    "text in a wide file": ("t,cpu,mem\n1,2,3\n2,2,full\n", "line 3, column 'mem': 'full' is not a number"),
    "underscored number": ("ds,y\n1,1_000\n", "line 2, column 'y': '1_000' is not a number"),
    "decimal comma": ('ds,y\n1,"1,5"\n', "line 2, column 'y': '1,5' is not a number"),
    "infinite": ("ds,y\n1,2\n2,inf\n", "line 3, column 'y': 'inf' is infinite"),
    "no time in a row": ("ds,y\n1,2\n,3\n", "line 3, column 'ds': '' is not a time; use ISO 8601"),
    "a time of another kind": (
        "ds,y\n1,2\n2026-01-01,3\n",
        "line 3, column 'ds': '2026-01-01' is not a time",
    ),
    "a time that is none": ("ds,y\n2026-01-01,2\nlater,3\n", "line 3, column 'ds': 'later' is not a time"),
    "an American date": ("ds,y\n01/31/2026,2\n", "line 2, column 'ds': '01/31/2026' is not a time"),
    "a time out of range": ("ds,y\n1767225600,2\n1e300,2\n", "line 3, column 'ds': 1e+300 is not a time"),
    "a row too short": ("ds,y\n1,2\n2\n3,4\n", "line 3: 1 fields instead of 2: column 'y' is missing"),
    "a row too long": ("ds,y\n1,2\n2,3,4\n", "line 3: 3 fields instead of 2: '4' has no column"),
    "a name twice": ("ds,y,y\n1,2,3\n", "line 1: columns 2 and 3 are both named 'y'"),
    "a nameless column": ("ds,,y\n1,2,3\n", "column 2 has no name"),
    "a nameless series": ("unique_id,ds,y\na,1,2\n,2,3\n", "line 3, column 'unique_id': no name"),
    "semicolons": ("ds;y\n1;2\n", "'ds;y' contains no comma"),
    "scored already": ("ds,y,yhat\n1,2,3\n", "column 'yhat' is a result of score"),
    "Latin-1": ("ds,y\n1,2\n2,3\xe9\n".encode("latin-1"), "line 3, column 'y': byte 0xe9 is not UTF-8"),
    "UTF-16": ("ds,y\n1,2\n".encode("utf-16"), "cpu.csv: is UTF-16 text; use CSV"),
    "Excel": (b"PK\x03\x04rest", "is a zip archive or an Excel workbook"),
    "blank lines before it": ("\n\nds,y\n\n1,2\n\n\n2,x\n", "line 8, column 'y': 'x' is not a number"),
    "line breaks in quotes": ('note,ds,y,series\n"a\nb",1,2,q\n"c\n\nd",2,x,q\n', "line 4, column 'y': 'x'"),
    "Windows line ends": ("ds,y\r\n1,2\r\n2,x\r\n", "line 3, column 'y': 'x'"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_csv(tmp_path, content, message):
    """An invalid CSV file raises an error with file, line, column, value and what is allowed."""
    with pytest.raises(InputError) as caught:
        read_recording(write_file(tmp_path, content))
    assert message in str(caught.value)
    assert "cpu.csv" in str(caught.value)


NOT_FILES = {
    "gzip that is none": ("cpu.csv.gz", b"ds,y\n1,2\n", "is not gzip, although it is named .gz"),
    "gzip cut short": ("cpu.csv.gz", gzip.compress(b"ds,y\n1,2\n" * 99)[:-20], "the gzip data is damaged"),
    "Parquet that is none": ("cpu.parquet", b"ds,y\n1,2\n", "is not a Parquet file"),
    "Parquet cut short": ("cpu.parquet", b"PAR1" + bytes(40), "cannot be read as Parquet"),
}


@pytest.mark.parametrize(("name", "content", "message"), NOT_FILES.values(), ids=NOT_FILES)
def test_damaged_file(tmp_path, name, content, message):
    """A damaged or misnamed file raises an error with its name."""
    with pytest.raises(InputError, match=name) as caught:
        read_recording(write_file(tmp_path, content, name))
    assert message in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    """A missing file and a folder raise an error each."""
    with pytest.raises(InputError, match="the file does not exist"):
        read_recording(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a directory"):
        read_recording(tmp_path)


def test_parquet_names_the_row(tmp_path):
    """An invalid value in a Parquet file is reported by row, counted from 1."""
    path = tmp_path / "cpu.parquet"
    pd.DataFrame({"ds": [1, 2], "y": [1.0, np.inf]}).to_parquet(path)
    with pytest.raises(InputError, match=r"cpu.parquet, row 2, column 'y': inf is infinite"):
        read_recording(path)
    pd.DataFrame({"ds": [], "y": []}).to_parquet(path)
    with pytest.raises(InputError, match="has columns but no rows"):
        read_recording(path)


SAME = "ds,y\n2026-01-01 00:00:00,1\n2026-01-01 00:01:00,\n2026-01-01 00:02:00,3\n"
GOOD = {
    "plain": ("cpu.csv", SAME.encode()),
    "gzipped": ("cpu.csv.gz", gzip.compress(SAME.encode())),
    "gzipped without saying so": ("cpu.csv", gzip.compress(SAME.encode())),
    "byte order mark": ("cpu.csv", b"\xef\xbb\xbf" + SAME.encode()),
    "Windows line ends": ("cpu.csv", SAME.replace("\n", "\r\n").encode()),
    "other name": ("cpu.txt", SAME.encode()),
    "NaN": ("cpu.csv", SAME.replace("00,\n", "00,NaN\n").encode()),
    "null": ("cpu.csv", SAME.replace("00,\n", "00,null\n").encode()),
    "spaces": ("cpu.csv", SAME.replace("00,1\n", "00, 1 \n").encode()),
    "capitals": ("cpu.csv", SAME.replace("ds,y", "Timestamp,Value").encode()),
}


@pytest.mark.parametrize(("name", "content"), GOOD.values(), ids=GOOD)
def test_readable(tmp_path, name, content):
    """Dialects, compression and spellings of a missing sample give the same recording."""
    (block,) = read_recording(write_file(tmp_path, content, name)).blocks
    assert block.times.tolist() == [NEW_YEAR * 10**9 + k * MINUTE for k in range(3)]
    np.testing.assert_equal(block.values[:, 0], [1.0, np.nan, 3.0])


TIMES = {
    "ISO with zone": ["2026-01-01T00:00:00Z", "2026-01-01T01:01:00+01:00"],
    "ISO without zone is UTC": ["2026-01-01 00:00:00", "2026-01-01 00:01:00"],
    "a day and a time": ["2026-01-01", "2026-01-01T00:01"],
    "epoch s": [NEW_YEAR, NEW_YEAR + 60],
    "epoch s with a fraction": [NEW_YEAR + 0.0, NEW_YEAR + 60.0],
    "epoch ms": [NEW_YEAR * 10**3, (NEW_YEAR + 60) * 10**3],
    "epoch us": [NEW_YEAR * 10**6, (NEW_YEAR + 60) * 10**6],
    "epoch ns": [NEW_YEAR * 10**9, (NEW_YEAR + 60) * 10**9],
    "datetime64": pd.to_datetime(["2026-01-01 00:00", "2026-01-01 00:01"]),
    "aware": pd.to_datetime(["2026-01-01 01:00+01:00", "2026-01-01 01:01+01:00"]),
    "milliseconds inside": pd.to_datetime(["2026-01-01 00:00", "2026-01-01 00:01"]).as_unit("ms"),
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("as_text", [False, True])
def test_kinds_of_time(times, as_text):
    """ISO and epoch times, as text or numbers, give the same times."""
    column = [str(one) for one in times] if as_text else times
    recording = read_frame(pd.DataFrame({"ds": column, "y": [1.0, 2.0]}))
    assert recording.blocks[0].times.tolist() == [NEW_YEAR * 10**9, (NEW_YEAR + 60) * 10**9]


def test_row_numbers_last_an_interval():
    """Small whole numbers are row numbers, spaced by the interval."""
    recording = read_frame(pd.DataFrame({"t": [5, 6, 8], "y": [1, 2, 3]}), interval_s=300.0)
    assert recording.blocks[0].times.tolist() == [1500 * 10**9, 1800 * 10**9, 2400 * 10**9]


def test_index_can_hold_the_time():
    """A table without a time column uses its DatetimeIndex."""
    index = pd.date_range("2026-01-01", periods=3, freq="min", tz="UTC")
    (block,) = read_frame(pd.DataFrame({"cpu": [1, 2, 3]}, index=index)).blocks
    assert block.names == ("cpu",)
    assert block.interval_s == 60.0


LAYOUTS = {
    "long": ("unique_id ds y", "long", ("y",), ["a", "b"]),
    "long as NAB has it": ("file timestamp value", "long", ("value",), ["a", "b"]),
    "long with a label and more": ("series t value label region", "long", ("value",), ["a", "b"]),
    "wide with entities": ("entity t split m0 m1 label is_anomaly", "wide", ("m0", "m1"), ["a", "b"]),
}


@pytest.mark.parametrize(("columns", "form", "values", "names"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(columns, form, values, names):
    """Column names decide the layout; label columns are ignored."""
    rows = {c: ["a", "b", "a"] if k == 0 else [1, 2, 3] for k, c in enumerate(columns.split())}
    rows |= {c: ["x", "y", "z"] for c in ("split", "region") if c in rows}
    recording = read_frame(pd.DataFrame(rows))
    assert (recording.layout.form, recording.layout.values) == (form, values)
    assert [block.entity or block.names[0] for block in recording.blocks] == names
    assert [block.rows.tolist() for block in recording.blocks] == [[0, 2], [1]]


def test_one_series_needs_no_name():
    """A time and a value column are one long series."""
    recording = read_frame(pd.DataFrame({"timestamp": [1, 2], "value": [3.0, 4.0], "label": [0, 1]}))
    assert recording.layout.form == "long"
    assert recording.blocks[0].names == ("value",)


def test_value_column_among_others_is_wide():
    """A column named value is one series among several if there are other columns."""
    recording = read_frame(pd.DataFrame({"t": [1, 2], "value": [3.0, 4.0], "cpu": [0, 1]}))
    assert recording.layout.form == "wide"
    assert recording.blocks[0].names == ("value", "cpu")


def test_interval_is_that_of_the_first_rows():
    """The interval is that of the first ten spacings."""
    times = np.concatenate([np.arange(11) * 30, 300 + np.arange(1, 50) * 3600])
    recording = read_frame(pd.DataFrame({"ds": NEW_YEAR + times, "y": 1.0}))
    assert recording.blocks[0].interval_s == 30.0


def test_disorder_gives_one_warning(tmp_path):
    """Repeated and backward times keep their row order and give one warning with the first place."""
    content = "series,ds,y\n" + "".join(f"{s},{t},1\n" for s in "ab" for t in (1, 2, 2, 3, 1, 2))
    recording = read_recording(write_file(tmp_path, content))
    assert [block.times.tolist() for block in recording.blocks] == [
        [MINUTE * t for t in (1, 2, 2, 3, 1, 2)]
    ] * 2
    assert recording.warning.startswith(
        "cpu.csv: 2 repeated times and 2 steps back in time in 2 of 2 series, "
        "the first at cpu.csv, line 4 (a); rows are scored in file order"
    )


def test_order_gives_no_warning():
    """A recording in order gives no warning."""
    assert read_frame(pd.DataFrame({"t": [1, 2, 3], "y": 1.0})).warning == ""


def test_numbers_of_any_kind():
    """Integer, boolean, nullable and text columns are read as numbers."""
    frame = pd.DataFrame(
        {
            "t": pd.array([1, 2], dtype="Int64"),
            "a": pd.array([1, None], dtype="Int64"),
            "b": [True, False],
            "c": np.array([1, 2], np.float32),
            "d": pd.array(["1.5", None], dtype="string"),
        }
    )
    (block,) = read_frame(frame).blocks
    np.testing.assert_equal(block.values, [[1.0, 1.0, 1.0, 1.5], [np.nan, 0.0, 2.0, np.nan]])
