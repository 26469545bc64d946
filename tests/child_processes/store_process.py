"""Child processes that write to a store until they are killed or the disk is full.

`python -m tests.child_processes.store_process fill|refuse FOLDER` runs on a full or a read-only disk.
"""

import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from tests.builders.series import SECOND, START, anomaly_of, tick_scores
from tests.contracts.event_store_contract import CPU, ulid
from trimtab.engine.errors import StoreError
from trimtab.engine.store import open_store
from trimtab.engine.store.time_series.score_log import ParquetScoreLog
from trimtab.engine.store.time_series.snapshots import FolderSnapshots
from trimtab.engine.types import SeriesKey

KEYS = tuple(SeriesKey.of("host", "m", {"i": str(i)}) for i in range(50))


def tick_values(number: int) -> bytes:
    """The values of the number-th tick."""
    return (np.arange(50.0) * number).tobytes()


def write_anomalies(folder: Path, first: int, connection: Connection) -> None:
    """Open and close anomalies forever; report each id and state once it is saved."""
    store = open_store(folder, time.time_ns)
    for number in range(first, first + 1_000_000):
        store.save_anomaly(anomaly_of(CPU, ulid(number)))
        connection.send((number, False))
        if number % 2:
            store.save_anomaly(anomaly_of(CPU, ulid(number), end=START + number))
            connection.send((number, True))


def log_ticks(folder: Path, first: int, connection: Connection) -> None:
    """Log ticks forever, with occasional snapshots; report each number once it is logged."""
    snapshots = FolderSnapshots(folder / "state").open()
    state = {"sum": np.zeros((50, 2_000))}
    for number in range(first, first + 1_000_000):
        snapshots.log_tick("host", START + number, KEYS, tick_values(number))
        connection.send((number, False))
        if number % 40 == 39:
            state["sum"][:] = number
            snapshots.save("host", START + number, state, {"number": number})
            connection.send((number, True))


def repeat_until_full(work: Callable[[int], None]) -> tuple[int, str]:
    """Repeat until the disk is full; return the number of successes and the error message."""
    for number in range(100_000):
        try:
            work(number)
        except StoreError as error:
            return number, str(error)
    raise AssertionError("the disk never got full")


def _print_result(what: str, message: object) -> None:
    print(f"{what}: {message}", flush=True)


def fill_disk(folder: Path) -> None:
    """Write each kind of data until the disk is full, then free space and continue."""
    store = open_store(folder / "data", time.time_ns)
    saved, message = repeat_until_full(
        lambda n: store.save_anomaly(anomaly_of(CPU, ulid(n), reason="x" * 2000))
    )
    _print_result("events", message)
    assert len(store.anomalies(limit=100_000)) == saved
    snapshots = FolderSnapshots(folder / "state")
    _print_result(
        "ticks", repeat_until_full(lambda n: snapshots.log_tick("host", n, KEYS, tick_values(n)))[1]
    )
    _print_result(
        "snapshot", repeat_until_full(lambda n: snapshots.save("host", n, {"a": np.ones(50_000)}, {}))[1]
    )
    log = ParquetScoreLog(folder / "scores", 14, 10**9, time.time_ns)
    log.append(KEYS, tick_scores("host", START, np.ones(50)))
    _print_result("scores", repeat_until_full(lambda _: log.flush())[1])
    (folder / "ballast").unlink()
    assert store.health_problem() is None
    store.save_anomaly(anomaly_of(CPU, ulid(saved)))
    assert len(store.anomalies(limit=100_000)) == saved + 1
    snapshots.log_tick("host", 10**6, KEYS, tick_values(1))
    snapshots.save("host", 10**6, {"a": np.ones(10)}, {})
    log.append(KEYS, tick_scores("host", START + SECOND, np.ones(50)))
    log.close()
    assert log.read(KEYS[0].id, 0, 1 << 62).times.tolist() == [START, START + SECOND]
    store.database.check_integrity()
    store.close()
    snapshots.close()
    _print_result("left", sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp")))


def write_to_read_only_disk(folder: Path) -> None:
    """Try to start and to write on a read-only disk."""
    tries: dict[str, Callable[[], object]] = {
        "events": lambda: open_store(folder / "data", time.time_ns),
        "ticks": lambda: FolderSnapshots(folder / "state").log_tick("host", 1, KEYS, tick_values(1)),
        "snapshot": lambda: FolderSnapshots(folder / "state").save("host", 1, {}, {}),
    }
    for name, work in tries.items():
        try:
            work()
        except StoreError as error:
            _print_result(name, error)


if __name__ == "__main__":
    {"fill": fill_disk, "refuse": write_to_read_only_disk}[sys.argv[1]](Path(sys.argv[2]))
