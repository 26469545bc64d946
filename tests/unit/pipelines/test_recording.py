"""Reading recordings: what is accepted, and what each bad input is told."""

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


def read(path: Path, interval_s: float = 60.0) -> Recording:
    """A file as the command reads it."""
    sheet = read_table(path)
    return read_frame(sheet.table.to_pandas(), interval_s, sheet.name, sheet.locate_row)


def written(folder: Path, content: str | bytes, name: str = "cpu.csv") -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


BAD = {
    "empty": ("", "cpu.csv: is empty; wanted a header line and rows"),
    "blank lines only": ("\n\n  \n", "cpu.csv: is empty"),
    "byte order mark only": ("\ufeff", "cpu.csv, line 1: wanted a header line"),
    "header only": ("ds,y\n", "cpu.csv: has a header line but no rows"),
    "header without line end": ("ds,y", "cpu.csv: has a header line but no rows"),
    "no time column": (
        "when,y\n1,2\n",
        "no time column among 'when', 'y'; wanted one named ds, timestamp, t",
    ),
    "no value column": ("ds,label\n1,0\n", "no value column among 'ds', 'label'"),
    "series but no value": (
        "unique_id,ds,cpu\na,1,2\n",
        "is named y or value; name it so, or rename 'unique_id'",
    ),
    "text as value": ("ds,y\n1,2\n2,high\n", "line 3, column 'y': 'high' is not a number; wanted a number"),
    "text in a wide file": ("t,cpu,mem\n1,2,3\n2,2,full\n", "line 3, column 'mem': 'full' is not a number"),
    "underscored number": ("ds,y\n1,1_000\n", "line 2, column 'y': '1_000' is not a number"),
    "decimal comma": ('ds,y\n1,"1,5"\n', "line 2, column 'y': '1,5' is not a number"),
    "infinite": ("ds,y\n1,2\n2,inf\n", "line 3, column 'y': 'inf' is infinite"),
    "no time in a row": ("ds,y\n1,2\n,3\n", "line 3, column 'ds': '' is no time; wanted ISO 8601"),
    "a time of another kind": ("ds,y\n1,2\n2026-01-01,3\n", "line 3, column 'ds': '2026-01-01' is no time"),
    "a time that is none": ("ds,y\n2026-01-01,2\nlater,3\n", "line 3, column 'ds': 'later' is no time"),
    "an American date": ("ds,y\n01/31/2026,2\n", "line 2, column 'ds': '01/31/2026' is no time"),
    "a time out of range": ("ds,y\n1767225600,2\n1e300,2\n", "line 3, column 'ds': 1e+300 is no time"),
    "a row too short": ("ds,y\n1,2\n2\n3,4\n", "line 3: 1 fields, wanted 2: column 'y' is missing"),
    "a row too long": ("ds,y\n1,2\n2,3,4\n", "line 3: 3 fields, wanted 2: '4' has no column"),
    "a name twice": ("ds,y,y\n1,2,3\n", "line 1: columns 2 and 3 are both named 'y'"),
    "a nameless column": ("ds,,y\n1,2,3\n", "column 2 has no name"),
    "a nameless series": ("unique_id,ds,y\na,1,2\n,2,3\n", "line 3, column 'unique_id': no name"),
    "semicolons": ("ds;y\n1;2\n", "'ds;y' holds no comma"),
    "scored already": ("ds,y,yhat\n1,2,3\n", "column 'yhat' is what score writes"),
    "Latin-1": ("ds,y\n1,2\n2,3\xe9\n".encode("latin-1"), "line 3, column 'y': byte 0xe9 is not UTF-8"),
    "UTF-16": ("ds,y\n1,2\n".encode("utf-16"), "cpu.csv: is UTF-16 text; wanted CSV"),
    "Excel": (b"PK\x03\x04rest", "is a zip archive or an Excel workbook"),
    "blank lines before it": ("\n\nds,y\n\n1,2\n\n\n2,x\n", "line 8, column 'y': 'x' is not a number"),
    "line breaks in quotes": ('note,ds,y,series\n"a\nb",1,2,q\n"c\n\nd",2,x,q\n', "line 4, column 'y': 'x'"),
    "Windows line ends": ("ds,y\r\n1,2\r\n2,x\r\n", "line 3, column 'y': 'x'"),
}


@pytest.mark.parametrize(("content", "told"), BAD.values(), ids=BAD)
def test_bad_csv(tmp_path, content, told):
    """What cannot be read is refused with file, line, column, the value and what is wanted."""
    with pytest.raises(InputError) as caught:
        read(written(tmp_path, content))
    assert told in str(caught.value)
    assert "cpu.csv" in str(caught.value)


NOT_FILES = {
    "gzip that is none": ("cpu.csv.gz", b"ds,y\n1,2\n", "is not gzip, though it is named .gz"),
    "gzip cut short": ("cpu.csv.gz", gzip.compress(b"ds,y\n1,2\n" * 99)[:-20], "the gzip data is damaged"),
    "Parquet that is none": ("cpu.parquet", b"ds,y\n1,2\n", "is no Parquet file"),
    "Parquet cut short": ("cpu.parquet", b"PAR1" + bytes(40), "cannot be read as Parquet"),
}


@pytest.mark.parametrize(("name", "content", "told"), NOT_FILES.values(), ids=NOT_FILES)
def test_damaged_file(tmp_path, name, content, told):
    """A file that is not what its name says, or damaged, is refused by name."""
    with pytest.raises(InputError, match=name) as caught:
        read(written(tmp_path, content, name))
    assert told in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    """A path that is no file is said to be missing, or a directory."""
    with pytest.raises(InputError, match="there is no such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a directory"):
        read(tmp_path)


def test_parquet_names_the_row(tmp_path):
    """Bad values of a Parquet file are named by row, counted from 1."""
    path = tmp_path / "cpu.parquet"
    pd.DataFrame({"ds": [1, 2], "y": [1.0, np.inf]}).to_parquet(path)
    with pytest.raises(InputError, match=r"cpu.parquet, row 2, column 'y': inf is infinite"):
        read(path)
    pd.DataFrame({"ds": [], "y": []}).to_parquet(path)
    with pytest.raises(InputError, match="has columns but no rows"):
        read(path)


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
    """Dialects, compression and ways to write no sample make no difference."""
    (block,) = read(written(tmp_path, content, name)).blocks
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
    """ISO and epoch times, as text or not, are one and the same moment."""
    column = [str(one) for one in times] if as_text else times
    recording = read_frame(pd.DataFrame({"ds": column, "y": [1.0, 2.0]}))
    assert recording.blocks[0].times.tolist() == [NEW_YEAR * 10**9, (NEW_YEAR + 60) * 10**9]


def test_row_numbers_last_an_interval():
    """Small whole numbers count rows, and the interval says how long a row is."""
    recording = read_frame(pd.DataFrame({"t": [5, 6, 8], "y": [1, 2, 3]}), interval_s=300.0)
    assert recording.blocks[0].times.tolist() == [1500 * 10**9, 1800 * 10**9, 2400 * 10**9]


def test_index_can_hold_the_time():
    """A table without a time column is read by its DatetimeIndex."""
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
    """The names of the columns say which is what; labels and strange columns are not read."""
    rows = {c: ["a", "b", "a"] if k == 0 else [1, 2, 3] for k, c in enumerate(columns.split())}
    rows |= {c: ["x", "y", "z"] for c in ("split", "region") if c in rows}
    recording = read_frame(pd.DataFrame(rows))
    assert (recording.layout.form, recording.layout.values) == (form, values)
    assert [block.entity or block.names[0] for block in recording.blocks] == names
    assert [block.rows.tolist() for block in recording.blocks] == [[0, 2], [1]]


def test_one_series_needs_no_name():
    """A time and one value column are one series, with a band of its own."""
    recording = read_frame(pd.DataFrame({"timestamp": [1, 2], "value": [3.0, 4.0], "label": [0, 1]}))
    assert recording.layout.form == "long"
    assert recording.blocks[0].names == ("value",)


def test_wide_beside_a_value_column():
    """With other columns beside it, a column named value is one series among them."""
    recording = read_frame(pd.DataFrame({"t": [1, 2], "value": [3.0, 4.0], "cpu": [0, 1]}))
    assert recording.layout.form == "wide"
    assert recording.blocks[0].names == ("value", "cpu")


def test_interval_is_known_early():
    """The interval comes from the first ten spacings, whatever follows."""
    times = np.concatenate([np.arange(11) * 30, 300 + np.arange(1, 50) * 3600])
    recording = read_frame(pd.DataFrame({"ds": NEW_YEAR + times, "y": 1.0}))
    assert recording.blocks[0].interval_s == 30.0


def test_disorder_is_told_once(tmp_path):
    """Repeated times and steps back keep their row order and give one warning with the first place."""
    content = "series,ds,y\n" + "".join(f"{s},{t},1\n" for s in "ab" for t in (1, 2, 2, 3, 1, 2))
    recording = read(written(tmp_path, content))
    assert [block.times.tolist() for block in recording.blocks] == [
        [MINUTE * t for t in (1, 2, 2, 3, 1, 2)]
    ] * 2
    assert recording.warning.startswith(
        "cpu.csv: 2 repeated times and 2 steps back in time in 2 of 2 series, "
        "the first at cpu.csv, line 4 (a); rows count in the order"
    )


def test_order_gives_no_warning():
    """A recording in order is not talked about."""
    assert read_frame(pd.DataFrame({"t": [1, 2, 3], "y": 1.0})).warning == ""


def test_numbers_of_any_kind():
    """Whole, boolean, nullable, decimal and categorical columns are numbers and names as well."""
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
