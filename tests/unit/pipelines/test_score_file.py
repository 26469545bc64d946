"""`trimtab score` on files."""

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from trimtab.models.errors import UnknownModelError
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.tables import sibling_path
from trimtab.pipelines.scoring.score_file import score_file


def table(n: int = 120) -> pd.DataFrame:
    """Return one series with a spike in its last row."""
    y = np.random.default_rng(3).normal(50, 2, n).round(2)
    y[-1] = 500.0
    return pd.DataFrame(
        {"timestamp": [f"2026-01-01 {k // 60:02}:{k % 60:02}:00" for k in range(n)], "value": y}
    )


@pytest.fixture
def recording(tmp_path) -> Path:
    """A CSV file with unusual number formats."""
    text = table().to_csv(index=False).replace(",500.0", ",500.000").replace("value", "Value")
    path = tmp_path / "cpu.csv"
    path.write_text(text)
    return path


def test_csv_rows_are_unchanged(recording):
    """CSV columns are written back unchanged, followed by the scores."""
    summary = score_file(recording)
    lines = (recording.parent / "cpu.scored.csv").read_text().splitlines()
    assert lines[0] == "timestamp,Value,anomaly_score,yhat,yhat_lower,yhat_upper"
    assert lines[1].endswith(",,,,")
    for before, after in zip(recording.read_text().splitlines(), lines, strict=True):
        assert after.startswith(before + ",")
    assert float(lines[-1].split(",")[2]) > 1
    assert (summary.rows, summary.series, summary.anomalous) == (120, 1, 1)
    assert summary.output == recording.parent / "cpu.scored.csv"


OUTPUTS = ["out.csv", "out.csv.gz", "out.parquet", "out.parquet.gz"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_same_scores_in_every_container(recording, tmp_path, name):
    """CSV and Parquet, gzipped or not, contain the same scores."""
    score_file(recording, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    plain = io.BytesIO(gzip.decompress(content) if name.endswith(".gz") else content)
    got = pd.read_csv(plain, float_precision="round_trip") if "csv" in name else pd.read_parquet(plain)
    score_file(recording)
    want = pd.read_csv(tmp_path / "cpu.scored.csv", float_precision="round_trip")
    np.testing.assert_array_equal(got["anomaly_score"], want["anomaly_score"])
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_container_can_be_read(tmp_path, recording, name):
    """CSV and Parquet, gzipped or not, are read to the same scores."""
    plain = io.BytesIO()
    frame = table()
    if "csv" in name:
        frame.to_csv(plain, index=False)
    else:
        frame.to_parquet(plain)
    content = gzip.compress(plain.getvalue()) if name.endswith(".gz") else plain.getvalue()
    (tmp_path / name).write_bytes(content)
    score_file(tmp_path / name, tmp_path / "a.parquet")
    score_file(recording, tmp_path / "b.parquet")
    a, b = (pd.read_parquet(tmp_path / f"{x}.parquet")["anomaly_score"] for x in "ab")
    np.testing.assert_array_equal(a, b)


def test_parquet_keeps_its_types(tmp_path):
    """Column types of a Parquet file are preserved."""
    frame = table().assign(
        label=pd.array([None, *[1] * 119], dtype="Int8"), timestamp=lambda f: pd.to_datetime(f["timestamp"])
    )
    frame["file"] = pd.Categorical(["x"] * 120)
    frame.to_parquet(tmp_path / "cpu.parquet")
    score_file(tmp_path / "cpu.parquet")
    after = pd.read_parquet(tmp_path / "cpu.scored.parquet")
    pd.testing.assert_frame_equal(after[list(frame.columns)], frame)


def test_stdout(recording, capfdbinary, monkeypatch):
    """With output - only CSV is written to stdout."""
    with open(sys.__stdout__.fileno(), "w", closefd=False) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        score_file(recording, Path("-"), console=Console(stderr=True))
    out, err = capfdbinary.readouterr()
    assert len(out.splitlines()) == 121
    assert b"120 rows of 1 series scored, 1 anomalous, written to stdout" in err


REFUSED = {
    "the input itself": ("cpu.csv", "is the input itself"),
    "a link to the input": ("link.csv", "is the input itself"),
    "an unknown ending": ("out.xlsx", "the name must end in .csv or .parquet"),
    "no folder": ("none/out.csv", "does not exist"),
    "a folder": ("folder.csv", "is a directory"),
}


@pytest.mark.parametrize(("name", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_outputs(recording, tmp_path, name, message):
    """An invalid output path is refused before scoring."""
    (tmp_path / "link.csv").symlink_to(recording)
    (tmp_path / "folder.csv").mkdir()
    before = recording.read_bytes()
    with pytest.raises(InputError, match=message):
        score_file(recording, tmp_path / name)
    assert recording.read_bytes() == before


def test_a_failed_write_leaves_nothing(recording, tmp_path, monkeypatch):
    """A failed write keeps the old output and leaves no partial file."""
    target = tmp_path / "out.csv"
    target.write_text("old")

    def fail_write(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trimtab.pipelines.io.tables.write_csv", fail_write)
    with pytest.raises(InputError, match=r"out.csv: cannot be written \(No space left on device\)"):
        score_file(recording, target)
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cpu.csv", "out.csv"]


def test_unknown_detector_is_refused_first(tmp_path):
    """An unknown detector is refused before the file is read."""
    with pytest.raises(UnknownModelError, match="ew_zcore"):
        score_file(tmp_path / "not-there.csv", detectors=("ew_zcore",))


def test_plain_lines_without_a_terminal(tmp_path):
    """Without a terminal, progress is one line per tenth of the series, then a summary."""
    frame = pd.concat([table(60 + k).assign(series=f"s{k}") for k in range(20)])
    frame.to_csv(tmp_path / "cpu.csv", index=False)
    message = io.StringIO()
    score_file(tmp_path / "cpu.csv", console=Console(file=message, width=200))
    lines = message.getvalue().splitlines()
    assert lines[0] == "2 of 20 series scored"
    assert len(lines) == 11
    assert "1390 rows of 20 series scored" in lines[-1]


def test_disorder_is_printed_once(tmp_path):
    """Repeated times give one warning line with the first place."""
    frame = table()
    frame.loc[5, "timestamp"] = frame["timestamp"][4]
    frame.to_csv(tmp_path / "cpu.csv", index=False)
    message = io.StringIO()
    score_file(tmp_path / "cpu.csv", console=Console(file=message, width=300))
    assert message.getvalue().count("warning:") == 1
    assert "1 repeated times and 0 steps back in time, the first at cpu.csv, line 7" in message.getvalue()


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("a/x.csv", "a/x.scored.csv"),
        ("x.parquet.gz", "x.scored.parquet.gz"),
        ("x.log", "x.scored.csv"),
        ("x", "x.scored.csv"),
    ],
)
def test_default_output(source, want):
    """The default output is next to the input, in the same format."""
    assert sibling_path(Path(source), "scored") == Path(want)
