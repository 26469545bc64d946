"""Lease: one engine per data folder, and an increasing epoch."""

import json
import multiprocessing
import os
import socket

import pytest

from tests.contracts.event_store_contract import ids_of
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import LockedError, StoreError
from trimtab.engine.store import join_store, open_store
from trimtab.engine.store.lease import FolderLease, current_holder
from trimtab.engine.types import ApiKey

NOW = FakeClock().now


def test_a_second_engine_is_refused(tmp_path):
    """The message names process, folder and advice."""
    with FolderLease(tmp_path, NOW), pytest.raises(LockedError) as refused:
        FolderLease(tmp_path, NOW).acquire()
    message = str(refused.value)
    assert f"process {os.getpid()}" in message
    assert str(tmp_path) in message
    assert f"kill {os.getpid()}" in message
    assert "--data DIR" in message
    assert "2026-01-01" in message


def test_the_current_holder_is_described(tmp_path):
    """None without a holder; a holder without identity is described without one."""
    assert current_holder(tmp_path) is None
    with FolderLease(tmp_path, NOW) as lease:
        message = str(current_holder(tmp_path))
        assert message == f"process {os.getpid()} on {socket.gethostname()}, since 2026-01-01T00:00:00.000Z"
        lease.lock_file.write_text("")
        assert str(current_holder(tmp_path)) == "another process, which has not written its identity yet"
    assert current_holder(tmp_path) is None


def test_the_epoch_grows_with_every_holder(tmp_path):
    """The epoch also exceeds the database's epoch if the counter file was lost."""
    epochs = []
    for beyond in (0, 0, 7, 0):
        lease = FolderLease(tmp_path / "data", NOW)
        epochs.append(lease.acquire(beyond))
        lease.release()
    assert epochs == [1, 2, 8, 9]


def test_a_lost_counter_continues_from_the_database(tmp_path):
    """No epoch is used twice."""
    open_store(tmp_path, NOW).close()
    open_store(tmp_path, NOW).close()
    (tmp_path / "epoch").unlink()
    store = open_store(tmp_path, NOW)
    assert store.epoch == 3
    store.close()


def test_a_damaged_counter_is_reported(tmp_path):
    """The message has content and advice; the folder is released."""
    (tmp_path / "epoch").write_text("seven")
    with pytest.raises(StoreError, match="contains 'seven' instead of a number; remove the file"):
        FolderLease(tmp_path, NOW).acquire()
    (tmp_path / "epoch").unlink()
    with FolderLease(tmp_path, NOW) as lease:
        assert lease.epoch == 1


def test_a_lock_without_identity_is_a_lock(tmp_path):
    """The holder has locked the file but not yet written its identity."""
    with FolderLease(tmp_path, NOW) as lease:
        lease.lock_file.write_text("")
        with pytest.raises(LockedError, match="another process"):
            FolderLease(tmp_path, NOW).acquire()


def test_a_removed_lock_file_allows_a_newer_epoch(tmp_path):
    """The newer epoch then prevents the first engine from writing."""
    first = open_store(tmp_path, NOW)
    (tmp_path / "trimtab.lock").unlink()
    second = open_store(tmp_path, NOW)
    with pytest.raises(LockedError, match="taken over"):
        first.save_key(ApiKey("k", "n", "p", "h", (), 1))
    second.save_key(ApiKey("k", "n", "p", "h", (), 1))
    first.close()
    second.close()


def test_a_failed_start_releases_the_lease(tmp_path):
    """Nothing stays locked after an error."""
    (tmp_path / "trimtab.db").write_bytes(b"rubbish " * 1000)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            open_store(tmp_path, NOW)
    (tmp_path / "trimtab.db").unlink()
    open_store(tmp_path, NOW).close()


def _hold_lease(folder, connection):
    lease = FolderLease(folder, NOW)
    connection.send(lease.acquire())
    connection.recv()


def test_a_killed_holder_releases_the_lease(tmp_path):
    """The lock ends with its process, whatever the file contains."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    child = context.Process(target=_hold_lease, args=(tmp_path, sender))
    child.start()
    assert receiver.poll(60)
    assert receiver.recv() == 1
    with pytest.raises(LockedError, match=f"process {child.pid}"):
        FolderLease(tmp_path, NOW).acquire()
    child.kill()
    child.join(60)
    assert json.loads((tmp_path / "trimtab.lock").read_text())["pid"] == child.pid
    with FolderLease(tmp_path, NOW) as lease:
        assert lease.epoch == 2


def test_a_command_joins_a_running_engine(tmp_path):
    """Without an engine the command creates the tables itself."""
    store = join_store(tmp_path / "new", NOW)
    store.save_key(ApiKey("k", "n", "p", "h", (), 1))
    engine = open_store(tmp_path / "new", NOW)
    assert ids_of(engine.keys()) == ["k"]
    store.save_key(ApiKey("l", "n", "p", "i", (), 2))
    assert ids_of(engine.keys()) == ["k", "l"]
    store.close()
    engine.close()
