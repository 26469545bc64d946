"""Speed of opening, writing and reading the store: `make bench`."""

import numpy as np
import pytest

from tests.builders.series import SECOND, START, anomaly_of
from tests.contracts.event_store_contract import CPU, ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.store import open_store
from trimtab.engine.store.time_series.score_log import ParquetScoreLog
from trimtab.engine.store.time_series.snapshots import FolderSnapshots
from trimtab.engine.types import SeriesKey, TickScores

ANOMALIES = 100_000
SIX_HOURS_NS = 6 * 3600 * SECOND


@pytest.fixture(scope="module")
def full_folder(tmp_path_factory):
    """Return a data folder with 100,000 anomalies."""
    folder = tmp_path_factory.mktemp("full")
    store = open_store(folder, FakeClock().now)
    for first in range(0, ANOMALIES, 10_000):
        numbers = range(first, first + 10_000)
        store.save_anomalies(
            anomaly_of(CPU, ulid(n), end=START + n, labels={"core": str(n)}) for n in numbers
        )
    store.close()
    return folder


def test_open_full_store(benchmark, full_folder):
    """Opening a full store, including its integrity check, takes less than 5 s."""
    benchmark.pedantic(lambda: open_store(full_folder, FakeClock().now).close(), rounds=5)
    assert benchmark.stats["max"] < 5.0


@pytest.mark.parametrize(
    "query", [{}, {"open_only": True}, {"search": "cpu nothing"}, {"series_id": CPU.id, "after": ulid(500)}]
)
def test_read_page_of_full_store(benchmark, full_folder, query):
    """Reading a page takes less than 0.5 s, also if every row is scanned."""
    store = open_store(full_folder, FakeClock().now)
    benchmark(lambda: store.anomalies(**query))
    store.close()
    assert benchmark.stats["median"] < 0.5


def test_save_anomaly(benchmark, full_folder):
    """Time of one transaction on disk."""
    store = open_store(full_folder, FakeClock().now)
    benchmark.pedantic(lambda: store.save_anomaly(anomaly_of(CPU, ulid(1))), rounds=100)
    store.close()


@pytest.fixture(scope="module", params=[200, 500])
def scores_of_six_hours(request, tmp_path_factory):
    """Return a score log with six hours of 5-second ticks, and its series."""
    n = request.param
    keys = tuple(SeriesKey.of("host", "m", {"i": str(i)}) for i in range(n))
    log = ParquetScoreLog(tmp_path_factory.mktemp("scores"), 14, 10**10, FakeClock().now).open()
    random = np.random.default_rng(1)
    level = random.lognormal(0, 3, n)
    for time in range(START, START + SIX_HOURS_NS, 5 * SECOND):
        value = np.round(level * random.normal(1, 0.05, n), 3)
        score = np.abs(random.standard_normal(n))
        log.append(
            keys, TickScores("host", time, value, score, level, level * 0.9, level * 1.1, np.full(n, -1))
        )
    log.flush()
    return log, keys


def test_read_six_hours_of_a_series(benchmark, scores_of_six_hours):
    """Reading 4,320 rows from 36 files takes less than 50 ms."""
    log, keys = scores_of_six_hours
    chosen = iter(np.random.default_rng(2).integers(len(keys), size=100_000).tolist())
    rows = benchmark(lambda: log.read(keys[next(chosen)].id, START, START + SIX_HOURS_NS))
    assert len(rows.times) == 4320
    assert benchmark.stats["median"] < 0.05


@pytest.mark.parametrize("n", [500, 20_000])
def test_log_tick(benchmark, tmp_path, n):
    """Time to append one tick to the log, before it is scored."""
    snapshots = FolderSnapshots(tmp_path)
    keys = tuple(SeriesKey.of("host", "m", {"i": str(i)}) for i in range(n))
    values = np.ones(n).tobytes()
    times = iter(range(1_000_000))
    benchmark(lambda: snapshots.log_tick("host", next(times), keys, values))
    snapshots.close()
