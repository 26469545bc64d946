"""File replay source."""

import asyncio

import numpy as np
import pandas as pd
import pytest

from tests.fakes.ports import FakeClock
from trimtab.engine.errors import SourceError
from trimtab.engine.ports import Source
from trimtab.engine.settings import Files
from trimtab.engine.sources.file_replay import FilesSource, common_interval_ns, tick_numbers
from trimtab.engine.types import Reading

NS = 1_000_000_000
T0 = 1_767_225_600


def write_long_csv(path, rows):
    """A CSV of (series, seconds after T0, value)."""
    pd.DataFrame([(s, T0 + t, y) for s, t, y in rows], columns=["series", "ds", "y"]).to_csv(
        path, index=False
    )
    return path


async def read_all(source: FilesSource) -> list[Reading]:
    """All readings of a source."""
    await source.open()
    readings = []
    while (reading := await source.read()) is not None:
        readings.append(reading)
    return readings


async def test_one_reading_per_tick(tmp_path):
    """Series are merged by time into one reading per tick, NaN without a row, and None at the end."""
    path = write_long_csv(
        tmp_path / "a.csv", [("cpu", 0, 1), ("cpu", 60, 2), ("cpu", 120, 3), ("mem", 60, 9)]
    )
    source = FilesSource(Files(paths=(path,)), FakeClock())
    readings = await read_all(source)
    assert source.interval_s == 60.0
    assert [r.time for r in readings] == [(T0 + s) * NS for s in (0, 60, 120)]
    assert [str(key) for key in readings[0].keys] == ['cpu{file="a.csv"}', 'mem{file="a.csv"}']
    np.testing.assert_equal(np.stack([r.values for r in readings]), [[1, np.nan], [2, 9], [3, np.nan]])
    assert all(r.keys is readings[0].keys for r in readings)
    assert all(r.complete for r in readings)
    assert await source.read() is None
    assert source.detail() == "a.csv: 3 of 3 ticks replayed"


@pytest.mark.parametrize("after", [-1, 0, 59, 60, 119, 120, 999])
async def test_resumes_after_a_tick(tmp_path, after):
    """After a restart exactly the readings up to the last logged tick are skipped."""
    path = write_long_csv(tmp_path / "a.csv", [("cpu", 60 * k, k) for k in range(3)])
    all_readings = await read_all(FilesSource(Files(paths=(path,)), FakeClock()))
    rest = await read_all(FilesSource(Files(paths=(path,)), FakeClock(), start_after=(T0 + after) * NS))
    assert [r.time for r in rest] == [r.time for r in all_readings if r.time > (T0 + after) * NS]


async def test_resumed_at_every_tick_equals_one_run(tmp_path):
    """Stopping and resuming at any tick gives the same readings, also off the grid."""
    rows = [("cpu", t, t) for t in (3, 61, 119, 118, 118, 305, 372)]
    path = write_long_csv(tmp_path / "a.csv", rows)
    all_readings = await read_all(FilesSource(Files(paths=(path,)), FakeClock()))
    assert [float(r.values[0]) for r in all_readings] == [y for _, _, y in rows]
    last, resumed = None, []
    for _ in all_readings:
        source = FilesSource(Files(paths=(path,)), FakeClock(), start_after=last)
        await source.open()
        reading = await source.read()
        resumed.append(reading)
        last = reading.time
    assert [r.time for r in resumed] == [r.time for r in all_readings]


async def test_wide_files_and_equal_names(tmp_path):
    """Columns and entities become series; files of the same name are labelled by path."""
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        pd.DataFrame({"entity": ["web"], "t": [0], "cpu": [1.0], "disk %": [2.0], "label": [1]}).to_csv(
            tmp_path / folder / "a.csv", index=False
        )
    paths = tuple(tmp_path / folder / "a.csv" for folder in ("x", "y"))
    (reading,) = await read_all(FilesSource(Files(paths=paths), FakeClock()))
    assert [str(key) for key in reading.keys] == [
        key
        for path in paths
        for key in (
            f'cpu{{entity="web",file="{path}"}}',
            f'value{{entity="web",file="{path}",series="disk %"}}',
        )
    ]
    assert len({key.id for key in reading.keys}) == 4


async def test_pace(tmp_path):
    """With a speed, recorded time passes that much faster than the clock."""
    path = write_long_csv(tmp_path / "a.csv", [("cpu", 60 * k, k) for k in range(3)])
    clock = FakeClock()
    source = FilesSource(Files(paths=(path,), speed=10), clock)
    await source.open()
    assert (await source.read()).values[0] == 0
    waiting = asyncio.ensure_future(source.read())
    await asyncio.sleep(0)
    clock.tick(5.9)
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.tick(0.1)
    assert (await waiting).values[0] == 1


async def test_bad_file_is_a_source_error(tmp_path):
    """An invalid file is reported with file, line and column."""
    (tmp_path / "a.csv").write_text("ds,y\n1,2\n2,x\n")
    with pytest.raises(SourceError, match=r"files: a.csv, line 3, column 'y': 'x' is not a number"):
        await FilesSource(Files(paths=(tmp_path / "a.csv",)), FakeClock()).open()
    with pytest.raises(SourceError, match="not open"):
        await FilesSource(Files(paths=(tmp_path / "a.csv",)), FakeClock()).read()


async def test_cap(tmp_path):
    """Series beyond the cap are skipped and listed."""
    path = write_long_csv(tmp_path / "a.csv", [(s, 60 * k, k) for s in "abc" for k in range(2)])
    source = FilesSource(Files(paths=(path,)), FakeClock(), max_series=2)
    readings = await read_all(source)
    assert len(readings[0].keys) == 2
    assert list(source.skipped_series()) == ['c{file="a.csv"}']


async def test_implements_the_port(tmp_path):
    """The source implements the port, has no history, and drops its rows on close."""
    path = write_long_csv(tmp_path / "a.csv", [("cpu", 0, 1)])
    source: Source = FilesSource(Files(paths=(path,), interval="5m"), FakeClock())
    await source.open()
    assert source.interval_s == 300.0
    assert [part async for part in source.history(0)] == []
    key = (await source.read()).keys[0]
    assert source.info(key).key is key
    assert not source.is_replacement(key, key)
    await source.close()


TICKS = [
    ([0, 60, 120], [0, 1, 2], "on the grid"),
    ([5, 61, 119, 185], [0, 1, 2, 3], "late and early rows do not share a tick"),
    ([0, 60, 60, 180], [0, 1, 2, 3], "a repeated time moves on"),
    ([0, 60, 0, 60, 600], [0, 1, 2, 3, 10], "a step back moves on, a gap catches up"),
    ([-60, 0], [-1, 0], "before 1970"),
]


@pytest.mark.parametrize(("seconds", "want", "case"), TICKS, ids=[row[2] for row in TICKS])
def test_ticks(seconds, want, case):
    """Each row has its own tick, as near to its time as the order allows."""
    assert tick_numbers(np.array(seconds) * NS, 60 * NS).tolist() == want, case


def test_common_interval():
    """The finest series sets the interval; fewer than two rows set none."""
    times = [np.array([0, 300, 600]) * NS, np.array([0, 60, 120, 900]) * NS, np.array([5]) * NS]
    assert common_interval_ns(times, 7 * NS) == 60 * NS
    assert common_interval_ns([np.array([5])], 7 * NS) == 7 * NS


async def test_no_recording_is_an_error():
    """Without files the error names the setting."""
    with pytest.raises(SourceError, match=r"sources\.files\.paths"):
        await FilesSource(Files(paths=()), FakeClock()).open()
