"""Score log: what is stored, how it is read, and recovery from crashes and full disks."""

import errno
import sys
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.builders.series import SECOND, START, tick_scores
from tests.fakes.ports import FakeClock, FakeScoreLog
from trimtab.engine.errors import NewerStateError, StoreError
from trimtab.engine.store.time_series import score_files
from trimtab.engine.store.time_series.score_log import ParquetScoreLog
from trimtab.engine.types import SeriesKey

MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
END_OF_TIME = 1 << 62
COLUMNS = ("value", "anomaly_score", "yhat", "yhat_lower", "yhat_upper")
KEYS = tuple(SeriesKey.of("host", "m", {"i": str(i)}) for i in range(40))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def open_log(tmp_path, clock):
    """Open a score log on one folder; calling it again simulates a restart."""

    def make(**changed):
        settings = {"retention_days": 14, "retention_bytes": 10**9, "now": clock.now, **changed}
        return ParquetScoreLog(tmp_path / "scores", **settings).open()

    return make


@pytest.fixture
def no_merging(monkeypatch):
    """Write every window to its own file, however small."""
    monkeypatch.setattr("trimtab.engine.store.time_series.score_log._SMALL_FILE_BYTES", 0)


def make_tick(time, n=40, source="host", seed=0):
    """A tick of n series with distinct values."""
    random = np.random.default_rng([seed, time % (1 << 63)])
    five = random.standard_normal((5, n))
    names = ("anomaly_score", "yhat", "yhat_lower", "yhat_upper")
    return tick_scores(source, time, five[0], **dict(zip(names, five[1:], strict=True)))


def append_ticks(log, times, keys=KEYS, **options):
    for time in times:
        log.append(keys, make_tick(time, len(keys), **options))


def rows_equal(rows, other):
    return all(
        np.array_equal(getattr(rows, name), getattr(other, name), equal_nan=True)
        for name in ("times", *COLUMNS)
    )


def tick_times(seconds, count, start=START):
    return range(start, start + count * seconds * SECOND, seconds * SECOND)


def test_reads_match_a_plain_list(open_log):
    """Any series over any time range, from files, from memory, and after a restart."""
    log, plain = open_log(), FakeScoreLog()
    for number, time in enumerate(tick_times(5, 700)):
        keys = KEYS if number < 300 else (*KEYS[:3], *KEYS[20:], KEYS[3])  # slots change their series
        scores = make_tick(time, len(keys))
        scores.values[number % len(keys)] = nan
        log.append(keys, scores)
        plain.append(keys, scores)
    spans = [
        (0, END_OF_TIME),
        (START + 20 * MINUTE, START + 40 * MINUTE),
        (START + 55 * MINUTE, END_OF_TIME),
        (0, START),
    ]
    for _ in range(2):
        for key in (KEYS[0], KEYS[3], KEYS[12], KEYS[39]):
            for since, until in spans:
                assert rows_equal(log.read(key.id, since, until), plain.read(key.id, since, until))
        assert rows_equal(
            log.read(KEYS[5].id, 0, END_OF_TIME, limit=77), plain.read(KEYS[5].id, 0, END_OF_TIME, limit=77)
        )
        log.close()
        log = open_log()
    assert len(log.read("f" * 32, 0, END_OF_TIME).times) == 0


def test_a_row_without_a_sample_is_not_stored(open_log):
    """NaN as value stores nothing; NaN elsewhere stays unknown."""
    log = open_log()
    log.append(KEYS[:2], tick_scores("host", START, [nan, 1.0]))
    log.close()
    log = open_log()
    assert len(log.read(KEYS[0].id, 0, END_OF_TIME).times) == 0
    rows = log.read(KEYS[1].id, 0, END_OF_TIME)
    assert rows.value.tolist() == [1.0]
    assert isnan(rows.anomaly_score[0])


def test_a_file_contains_ten_minutes(open_log, tmp_path):
    """The name has source, version, first and last time; rows are sorted by series and time."""
    import pyarrow.parquet as pq

    log = open_log()
    append_ticks(log, tick_times(5, 130), KEYS, source="my.host")
    (path,) = (tmp_path / "scores").iterdir()
    assert path.name == ("my%2Ehost.v1.20260101T000000_000000000Z.20260101T000955_000000000Z.parquet")
    table = pq.read_table(path)
    assert table.column_names == ["series_id", "time", *COLUMNS]
    rows = list(zip(table["series_id"].to_pylist(), table["time"].to_pylist(), strict=True))
    assert rows == sorted((key.id, time) for key in KEYS for time in tick_times(5, 120))
    assert pq.ParquetFile(path).metadata.row_group(0).column(2).compression == "ZSTD"


def test_a_stored_tick_is_not_stored_again(open_log):
    """In memory, in a file, and in a file from before a restart."""
    log = open_log()
    append_ticks(log, tick_times(5, 200))
    append_ticks(log, tick_times(5, 200))
    log.close()
    log = open_log()
    append_ticks(log, tick_times(5, 210))
    log.flush()
    append_ticks(log, tick_times(5, 210))
    rows = log.read(KEYS[1].id, 0, END_OF_TIME)
    assert rows.times.tolist() == list(tick_times(5, 210))
    log.close()
    assert rows_equal(open_log().read(KEYS[1].id, 0, END_OF_TIME), rows)


def test_frequent_flushes_do_not_make_many_files(open_log, tmp_path):
    """A flush extends the file of the same ten minutes, or a small file of the same day."""
    log = open_log()
    for first in range(0, 240, 12):  # each minute, twenty minutes long
        append_ticks(log, tick_times(5, 240)[first : first + 12])
        log.flush()
    assert len(list((tmp_path / "scores").iterdir())) <= 2
    for first in tick_times(3600, 48, START + DAY):
        append_ticks(log, tick_times(60, 5, first), KEYS[:2])
        log.flush()
    assert len(list((tmp_path / "scores").iterdir())) <= 4
    assert len(log.read(KEYS[1].id, 0, END_OF_TIME).times) == 240 + 48 * 5


def test_slow_series_make_few_files(open_log, tmp_path):
    """A recording replayed at full speed does not write one file per tick."""
    log = open_log()
    append_ticks(log, tick_times(3600, 800), KEYS[:1])
    assert list((tmp_path / "scores").iterdir()) == []
    log.close()
    assert len(list((tmp_path / "scores").iterdir())) == 1


def test_sources_do_not_mix(open_log):
    """Ticks of two sources at the same time are both stored, even with names that look like paths."""
    log = open_log()
    others = tuple(SeriesKey.of("../b", "m", {"i": str(i)}) for i in range(3))
    for time in tick_times(5, 10):
        log.append(KEYS[:2], make_tick(time, 2, source="a"))
        log.append(others, make_tick(time, 3, source="../b", seed=1))
    log.close()
    log = open_log()
    assert (
        len(log.read(KEYS[0].id, 0, END_OF_TIME).times)
        == len(log.read(others[2].id, 0, END_OF_TIME).times)
        == 10
    )


def test_retention_removes_the_oldest_by_age(open_log, clock):
    """The age of a past recording counts from its writing, so that a replay is not removed at once."""
    log = open_log(retention_days=1)
    append_ticks(log, tick_times(5, 120, START - 365 * DAY))
    append_ticks(log, tick_times(5, 120))
    log.flush()
    assert len(log.read(KEYS[0].id, 0, END_OF_TIME).times) == 240
    clock.tick(86_400 * 2)
    append_ticks(log, tick_times(5, 120, clock.now()))
    log.flush()
    assert log.read(KEYS[0].id, 0, END_OF_TIME).times.tolist() == list(tick_times(5, 120, clock.now()))
    assert len(open_log().read(KEYS[0].id, 0, END_OF_TIME).times) == 120


@pytest.mark.usefixtures("no_merging")
def test_retention_removes_the_oldest_by_size(open_log, tmp_path):
    """The remaining files are the newest and fit the limit."""
    log = open_log(retention_bytes=200_000)
    append_ticks(log, tick_times(5, 1200))
    log.flush()
    assert 0 < log.size_bytes() <= 200_000
    assert log.size_bytes() == sum(path.stat().st_size for path in (tmp_path / "scores").iterdir())
    rows = log.read(KEYS[0].id, 0, END_OF_TIME)
    assert 0 < len(rows.times) < 1200
    assert rows.times[-1] == tick_times(5, 1200)[-1]


def test_many_series_keep_only_anomalous_and_selected_ones(open_log):
    """An anomalous series is kept for ten minutes; another series that takes its slot is not."""
    log = open_log(full_series=10, selected={KEYS[7].id})
    for number, time in enumerate(tick_times(60, 30)):
        scores = tick_scores(
            "host",
            time,
            np.ones(40),
            anomaly_score=[2.0 if i == 3 and number == 5 else 0.5 for i in range(40)],
        )
        log.append(KEYS if number < 10 else (*KEYS[:3], KEYS[39], *KEYS[4:39], KEYS[3]), scores)
    assert len(log.read(KEYS[7].id, 0, END_OF_TIME).times) == 30
    assert log.read(KEYS[3].id, 0, END_OF_TIME).times.tolist() == list(tick_times(60, 30))[5:10]
    assert len(log.read(KEYS[39].id, 0, END_OF_TIME).times) == 0
    assert len(log.read(KEYS[0].id, 0, END_OF_TIME).times) == 0


def test_temporary_files_are_ignored_and_removed(open_log, tmp_path):
    """Other files in the folder are not touched."""
    log = open_log()
    append_ticks(log, tick_times(5, 10))
    log.close()
    for name in ("x.v1.1.2.parquet.99.tmp", "notes.txt", "a.b.parquet"):
        (tmp_path / "scores" / name).write_bytes(b"PAR1")
    assert len(open_log().read(KEYS[0].id, 0, END_OF_TIME).times) == 10
    names = {path.name for path in (tmp_path / "scores").iterdir()}
    assert {"notes.txt", "a.b.parquet"} < names
    assert not any(name.endswith(".tmp") for name in names)


@pytest.mark.usefixtures("no_merging")
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_file_loses_only_its_own_rows(open_log, tmp_path, damage):
    """The log names the file."""
    log = open_log()
    append_ticks(log, tick_times(5, 240))
    log.close()
    first, _ = sorted((tmp_path / "scores").iterdir())
    content = bytearray(first.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 4] = b"\x00\xff\x00\xff"
    wrong = {"cut": content[: len(content) // 2], "flip": content, "empty": b"", "text": b"time,value\n" * 50}
    first.write_bytes(wrong[damage])
    with capture_logs() as lines:
        counts = [len(open_log().read(key.id, 0, END_OF_TIME).times) for key in KEYS]
    assert set(counts) <= {120, 240}
    assert 120 in counts
    assert lines[0]["event"] == "damaged_score_file_skipped"
    assert lines[0]["file"] == str(first)


def test_a_newer_format_is_refused(open_log, tmp_path):
    """It is refused at the start, by its name."""
    open_log()
    (tmp_path / "scores" / "host.v2.20260101T000000_000000000Z.20260101T000955_000000000Z.parquet").touch()
    with pytest.raises(NewerStateError, match="format 2, this version supports 1"):
        open_log()


def test_a_full_disk_loses_nothing_that_fits_in_memory(open_log, tmp_path, monkeypatch):
    """The error has advice; reads work; after space is freed everything is written once."""
    log = open_log()
    append_ticks(log, tick_times(5, 119))

    def full(path, *_):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(score_files, "_write_groups", full)
        with pytest.raises(StoreError, match=r"cannot write .*the disk is full: free space"):
            append_ticks(log, tick_times(5, 300))
        with pytest.raises(StoreError, match="the disk is full"):
            log.flush()
        assert list((tmp_path / "scores").iterdir()) == []
        assert len(log.read(KEYS[0].id, 0, END_OF_TIME).times) == 121
    append_ticks(log, tick_times(5, 300))
    log.close()
    assert open_log().read(KEYS[0].id, 0, END_OF_TIME).times.tolist() == list(tick_times(5, 300))


@pytest.mark.usefixtures("no_merging")
def test_a_file_removed_during_a_read_is_skipped(open_log, tmp_path):
    """As when retention removes it."""
    log = open_log()
    append_ticks(log, tick_times(5, 240))
    log.flush()
    min((tmp_path / "scores").iterdir()).unlink()
    assert log.read(KEYS[0].id, 0, END_OF_TIME).times.tolist() == list(tick_times(5, 240))[120:]


def test_an_interrupted_merge_shows_no_row_twice(open_log, tmp_path):
    """The new file exists and the old one has not been removed yet."""
    log = open_log()
    append_ticks(log, tick_times(5, 50))
    log.flush()
    (before,) = (tmp_path / "scores").iterdir()
    content = before.read_bytes()
    append_ticks(log, tick_times(5, 100))
    log.close()
    before.write_bytes(content)
    assert open_log().read(KEYS[0].id, 0, END_OF_TIME).times.tolist() == list(tick_times(5, 100))


def test_every_value_needs_a_key(open_log):
    """A value without a key is an error of the caller."""
    with pytest.raises(StoreError, match="slot 2, but only 2 keys"):
        open_log().append(KEYS[:2], make_tick(START, 3))


def test_neither_writing_nor_reading_imports_pandas(open_log, monkeypatch):
    """The conversions of pyarrow would import it, which costs 60 MB."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    log = open_log()
    append_ticks(log, tick_times(5, 240))
    log.close()
    assert len(open_log().read(KEYS[0].id, 0, END_OF_TIME).times) == 240


def test_a_large_window_is_written_early(open_log, tmp_path, monkeypatch):
    """Memory is bounded for any number of series."""
    monkeypatch.setattr("trimtab.engine.store.time_series.score_window.MAX_BYTES", 40 * 44 * 10)
    log = open_log()
    append_ticks(log, tick_times(1, 101))
    assert len(log.read(KEYS[3].id, 0, END_OF_TIME).times) == 101
    assert sum(path.stat().st_size for path in (tmp_path / "scores").iterdir()) > 0
