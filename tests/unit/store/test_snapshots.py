"""Snapshots and tick logs after a stop, a crash or damage."""

import errno
import os
import struct
from math import isnan, nan

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.builders.series import SECOND, START
from trimtab.engine.errors import NewerStateError, StoreError
from trimtab.engine.store.time_series import tick_log
from trimtab.engine.store.time_series.snapshots import FolderSnapshots
from trimtab.engine.types import SeriesKey

KEYS = tuple(SeriesKey.of("host", "m", {"i": str(i), "name": 'ü"\\'}) for i in range(4))
STATE = {
    "mean": np.arange(12.0).reshape(3, 4),
    "seasons": np.ones((5, 4), np.float32).T,  # not in memory order
    "count": np.array([1, -2], np.int64),
    "flags": np.array([True, False]),
    "small": np.array(7, np.uint8),
    "none": np.empty((0, 3)),
}
META = {"keys": ["a", None], "budget": 1.5, "unknown": nan}


class FakeMonotonicClock:
    """A monotonic clock that is moved by the test."""

    def __init__(self):
        self.ns = 0

    def __call__(self):
        return self.ns


@pytest.fixture
def open_snapshots(tmp_path):
    """Open snapshots on one folder; calling it again simulates a restart."""
    return lambda: FolderSnapshots(tmp_path / "state", FakeMonotonicClock()).open()


def tick_values(number, n=4):
    return (np.arange(n) + number).astype(np.float64).tobytes()


def log_ticks(snapshots, numbers, keys=KEYS, source="host"):
    for number in numbers:
        snapshots.log_tick(source, START + number * SECOND, keys, tick_values(number, len(keys)))


def logged_numbers(snapshots, source="host"):
    """The numbers of the ticks since the newest snapshot."""
    return [(time - START) // SECOND for time, _, _ in snapshots.ticks_since(source)]


def segments(tmp_path, source="host"):
    return sorted((tmp_path / "state" / source).glob("ticks-*.log"))


def test_an_empty_folder(open_snapshots):
    """No snapshot, no ticks."""
    snapshots = open_snapshots()
    assert snapshots.load("host") is None
    assert list(snapshots.ticks_since("host")) == []


def test_a_snapshot_is_loaded_as_saved(open_snapshots):
    """Time, every array with type and shape, and metadata; NaN stays NaN."""
    open_snapshots().save("host", START, STATE, META)
    time, arrays, meta = open_snapshots().load("host")
    assert time == START
    assert set(arrays) == set(STATE)
    for name, array in STATE.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert np.array_equal(arrays[name], array)
    assert isnan(meta.pop("unknown"))
    assert meta == {"keys": ["a", None], "budget": 1.5}


def test_ticks_have_the_keys_of_their_time(open_snapshots):
    """Series appear, disappear and reuse slots; values are bit-identical."""
    tables = [KEYS[:2], KEYS[:2], KEYS, (KEYS[3], KEYS[1]), (), KEYS[2:]]
    snapshots = open_snapshots()
    for number, keys in enumerate(tables):
        snapshots.log_tick("host", START + number, keys, tick_values(number, len(keys)))
    snapshots.close()
    loaded = list(open_snapshots().ticks_since("host"))
    assert loaded == [(START + i, keys, tick_values(i, len(keys))) for i, keys in enumerate(tables)]


def test_only_ticks_after_the_snapshot_are_replayed(open_snapshots):
    """Before and after a restart."""
    snapshots = open_snapshots()
    log_ticks(snapshots, range(10))
    snapshots.save("host", START + 6 * SECOND, {}, {})
    assert logged_numbers(snapshots) == [7, 8, 9]
    log_ticks(snapshots, [10])
    assert logged_numbers(open_snapshots()) == [7, 8, 9, 10]


def test_ticks_logged_during_a_read_are_not_read(open_snapshots):
    """A replay that logs its ticks terminates."""
    snapshots = open_snapshots()
    log_ticks(snapshots, range(5))
    read = 0
    for time, keys, raw in snapshots.ticks_since("host"):
        snapshots.log_tick("host", time, keys, raw)
        read += 1
    assert read == 5


def test_two_snapshots_and_their_ticks_are_kept(open_snapshots, tmp_path):
    """So that the newest may be damaged; older ones are removed."""
    snapshots = open_snapshots()
    for number in range(60):
        log_ticks(snapshots, [number])
        if number % 10 == 9:
            snapshots.save("host", START + number * SECOND, STATE, {"n": number})
    remaining = sorted((tmp_path / "state" / "host").glob("snapshot-*"))
    assert len(remaining) == 2
    assert len(segments(tmp_path)) <= 3
    remaining[1].write_bytes(remaining[1].read_bytes()[:-100])
    with capture_logs() as lines:
        snapshots = open_snapshots()
        assert snapshots.load("host")[2] == {"n": 49}
        assert logged_numbers(snapshots) == list(range(50, 60))
    assert lines[0]["event"] == "damaged_snapshot_skipped"
    assert lines[0]["snapshot"] == str(remaining[1])


@pytest.mark.parametrize("place", range(8))
def test_a_flipped_bit_in_a_snapshot_is_detected(open_snapshots, tmp_path, place):
    """In the arrays, their names, or the metadata."""
    open_snapshots().save("host", START, STATE, META)
    (path,) = (tmp_path / "state" / "host").glob("snapshot-*")
    content = bytearray(path.read_bytes())
    content[(2 * place + 1) * len(content) // 16] ^= 4
    path.write_bytes(content)
    with capture_logs() as lines:
        assert open_snapshots().load("host") is None
    assert [line["event"] for line in lines] == ["damaged_snapshot_skipped"]


def test_a_truncated_log_yields_its_complete_ticks(open_snapshots, tmp_path):
    """Truncated at any byte; after a restart new ticks follow them."""
    log_ticks(open_snapshots(), range(3))
    (path,) = segments(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        snapshots = open_snapshots()
        with capture_logs():
            before = logged_numbers(snapshots)
            assert before == list(range(len(before)))
            log_ticks(snapshots, [7])
        assert logged_numbers(snapshots) == [*before, 7]
        snapshots.close()
        for extra in segments(tmp_path):
            if extra != path:
                extra.unlink()
    assert len(before) == 2


def test_a_flipped_bit_in_the_log_loses_the_rest_of_its_segment(open_snapshots, tmp_path):
    """Ticks of the next segment are read, and the loss is logged."""
    snapshots = open_snapshots()
    log_ticks(snapshots, range(3))
    snapshots.close()
    log_ticks(snapshots, range(3, 6))
    first, _ = segments(tmp_path)
    content = bytearray(first.read_bytes())
    content[-5] ^= 1
    first.write_bytes(content)
    with capture_logs() as lines:
        assert logged_numbers(open_snapshots()) == [0, 1, 3, 4, 5]
    assert lines[0]["event"] == "incomplete_tick_record_skipped"


def test_ticks_are_on_the_disk_within_ten_seconds(tmp_path, monkeypatch):
    """A tick at least 5 s after the last sync causes a sync; faster ticks share one."""
    synced, elapsed = [], FakeMonotonicClock()
    monkeypatch.setattr(tick_log.os, "fdatasync", lambda _: synced.append(elapsed.ns // SECOND))
    snapshots = FolderSnapshots(tmp_path, elapsed)
    for second in range(1, 31):
        elapsed.ns = second * SECOND
        log_ticks(snapshots, [second])
    assert synced == [5, 10, 15, 20, 25, 30]
    synced.clear()
    for second in (60, 75, 90):  # slow ticks are synced individually
        elapsed.ns = second * SECOND
        log_ticks(snapshots, [second])
    assert synced == [60, 75, 90]
    snapshots.sync()
    snapshots.close()
    assert synced == [60, 75, 90, 90, 90]


def test_the_log_is_bounded_without_snapshots(open_snapshots, tmp_path, monkeypatch):
    """The oldest segments are removed and this is logged."""
    monkeypatch.setattr(tick_log, "SEGMENT_BYTES", 2_000)
    monkeypatch.setattr(tick_log, "MAX_BYTES", 10_000)
    snapshots = open_snapshots()
    with capture_logs() as lines:
        log_ticks(snapshots, range(1000))
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 14_000
    assert lines[0]["event"] == "logged_ticks_dropped"
    left = logged_numbers(snapshots)
    assert left == list(range(left[0], 1000))


def test_sources_do_not_mix(open_snapshots, tmp_path):
    """Names that look like paths stay inside the folder."""
    snapshots = open_snapshots()
    for source in ("host", "..", "a/b"):
        log_ticks(snapshots, [1], source=source)
        snapshots.save(source, START, STATE, {"of": source})
    for source in ("host", "..", "a/b"):
        assert snapshots.load(source)[2] == {"of": source}
        assert logged_numbers(snapshots, source) == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["%2E%2E", "a%2Fb", "host"]


def test_newer_formats_are_refused(open_snapshots, tmp_path):
    """A newer segment or snapshot is refused at the start, and nothing is changed."""
    log_ticks(open_snapshots(), [1])
    (path,) = segments(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(tick_log.HEADER, tick_log.MAGIC + struct.pack("<H", 3)))
    with pytest.raises(NewerStateError, match="format 3, this version supports 2"):
        open_snapshots()
    path.write_bytes(content)
    open_snapshots().save("host", START, {}, {})
    (snapshot,) = path.parent.glob("snapshot-*")
    snapshot.write_bytes(snapshot.read_bytes().replace(b'"format":"1"', b'"format":"2"'))
    for ask in (open_snapshots, lambda: FolderSnapshots(tmp_path / "state").load("host")):
        with pytest.raises(NewerStateError, match="format 2, this version supports 1"):
            ask()


def test_temporary_files_are_removed(open_snapshots, tmp_path):
    """By the next engine at its start."""
    open_snapshots().save("host", START, STATE, META)
    leftover = tmp_path / "state" / "host" / "snapshot-00000009-1.safetensors.77.tmp"
    leftover.write_bytes(b"half")
    assert open_snapshots().load("host")[0] == START
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("arrays", "meta", "message"),
    [
        ({"names": np.array(["a"])}, {}, "array 'names' has dtype <U1"),
        ({"when": np.array(["2026"], "datetime64[ns]")}, {}, "array 'when' has dtype datetime64"),
        ({"big": np.ones(2, ">f8")}, {}, "array 'big' has dtype >f8"),
        ({}, {"x": np.float64(1) + 1j}, "metadata cannot be written as JSON"),
    ],
)
def test_an_unsupported_array_is_refused_by_name(open_snapshots, tmp_path, arrays, meta, message):
    """No file remains."""
    with pytest.raises(StoreError, match=message):
        open_snapshots().save("host", START, arrays, meta)
    assert list((tmp_path / "state" / "host").iterdir()) == []


def test_values_and_keys_must_match(open_snapshots):
    """Eight bytes per key."""
    with pytest.raises(StoreError, match="24 bytes for 4 keys"):
        open_snapshots().log_tick("host", START, KEYS, tick_values(0, 3))


def test_a_full_disk_leaves_the_tick_log_intact(open_snapshots, tmp_path, monkeypatch):
    """The error has advice; later ticks are logged, and only the refused one is missing."""
    snapshots = open_snapshots()
    log_ticks(snapshots, range(3))
    write, calls = os.write, []

    def half(descriptor, data):
        calls.append(len(data))
        if len(calls) % 2 == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(tick_log.os, "write", half)
        for number in (3, 4):
            with pytest.raises(StoreError, match="the disk is full: free space"):
                log_ticks(snapshots, [number])
    log_ticks(snapshots, [5, 6])
    assert logged_numbers(snapshots) == [0, 1, 2, 5, 6]
    assert logged_numbers(open_snapshots()) == [0, 1, 2, 5, 6]
    assert all(path.stat().st_size > 0 for path in segments(tmp_path))


def test_a_full_disk_leaves_the_previous_snapshot(open_snapshots, tmp_path, monkeypatch):
    """No temporary file remains."""
    snapshots = open_snapshots()
    snapshots.save("host", START, STATE, META)
    monkeypatch.setattr("os.fsync", _full)
    with pytest.raises(StoreError, match="the disk is full: free space"):
        snapshots.save("host", START + 1, STATE, META)
    assert len(list((tmp_path / "state" / "host").iterdir())) == 1
    assert open_snapshots().load("host")[0] == START


def _full(_):
    raise OSError(errno.ENOSPC, "No space left on device")
