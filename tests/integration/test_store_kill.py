"""The store under kill -9 at random moments."""

import os
import random
import sqlite3
import time
from contextlib import closing

import pytest

from tests.builders.series import START
from tests.child_processes.killed_child import make_fork_context, run_and_kill
from tests.child_processes.store_process import KEYS, log_ticks, tick_values, write_anomalies
from tests.contracts.event_store_contract import ulid
from trimtab.engine.store import open_store
from trimtab.engine.store.time_series.snapshots import FolderSnapshots

KILLS = int(os.environ.get("TRIMTAB_KILLS", "20"))
LONGEST_LIFE_S = 0.12


@pytest.fixture(scope="module")
def fork_context():
    """A forkserver context with preloaded imports, so that children start fast."""
    return make_fork_context("tests.child_processes.store_process", "trimtab.engine.store.event_store")


@pytest.mark.slow
def test_no_acknowledged_anomaly_is_lost(fork_context, tmp_path):
    """No opening or closing is lost over many kills, and the integrity check passes each time."""
    chance, opened, closed, first = random.Random(7), set(), set(), 0
    for _ in range(KILLS):
        reports = run_and_kill(fork_context, write_anomalies, (tmp_path, first), chance, LONGEST_LIFE_S)
        opened |= {number for number, is_closed in reports if not is_closed}
        closed |= {number for number, is_closed in reports if is_closed}
        first = max(opened) + 10
        with closing(sqlite3.connect(tmp_path / "trimtab.db")) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = open_store(tmp_path, time.time_ns)
    stored = {anomaly.id: anomaly.end for anomaly in store.anomalies(limit=1_000_000)}
    store.close()
    assert {ulid(number) for number in opened} <= set(stored)
    assert all(stored[ulid(number)] == START + number for number in closed)
    assert store.epoch == KILLS + 1
    assert len(opened) > KILLS


@pytest.mark.slow
def test_no_logged_tick_is_lost(fork_context, tmp_path):
    """The newest valid snapshot and later ticks reach the last acknowledged tick without a gap."""
    chance, first = random.Random(8), 0
    for _ in range(KILLS):
        reports = run_and_kill(fork_context, log_ticks, (tmp_path, first), chance, LONGEST_LIFE_S)
        newest = max(number for number, _ in reports)
        saved = max((number for number, is_snapshot in reports if is_snapshot), default=-1)
        snapshots = FolderSnapshots(tmp_path / "state").open()
        loaded = snapshots.load("host")
        since = -1 if loaded is None else loaded[2]["number"]
        assert since >= saved
        assert loaded is None or (loaded[1]["sum"] == since).all()
        ticks = list(snapshots.ticks_since("host"))
        numbers = [tick[0] - START for tick in ticks]
        assert numbers == list(range(since + 1, since + 1 + len(numbers)))
        assert newest in {since, *numbers}
        assert all(tick == (START + n, KEYS, tick_values(n)) for n, tick in zip(numbers, ticks, strict=True))
        first = max([since, *numbers]) + 1
    assert first > KILLS
