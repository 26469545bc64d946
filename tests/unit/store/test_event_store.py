"""The event store on SQLite (or on TRIMTAB_TEST_DATABASE_URL), and SQLite specifics."""

import os
import sqlite3
import threading

import pytest
import sqlalchemy as sa

from tests.builders.series import anomaly_of
from tests.contracts.event_store_contract import CPU, EventStoreContract, ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import StoreError
from trimtab.engine.store import open_store, tables
from trimtab.engine.store.database import Database
from trimtab.engine.types import ApiKey, SeriesInfo

GIVEN_URL = os.environ.get("TRIMTAB_TEST_DATABASE_URL")


class TestEventStore(EventStoreContract):
    @pytest.fixture
    def url(self, tmp_path):
        if GIVEN_URL is None:
            return f"sqlite:///{tmp_path}/events.db"
        database = Database(GIVEN_URL)
        with database.write_transaction() as connection:
            tables.metadata.drop_all(connection)
            connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
        database.close()
        return GIVEN_URL


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path, FakeClock().now)
    yield opened
    opened.close()


def test_sqlite_survives_power_loss(store):
    """WAL, synchronous=FULL, foreign keys and a busy timeout are set on every connection."""
    with store.database.read_transaction() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert pragmas == ["wal", 2, 1, 10_000]


@pytest.mark.usefixtures("store")
def test_the_database_is_for_its_owner_only(tmp_path):
    """The file mode is 0600, because it contains key hashes."""
    assert (tmp_path / "trimtab.db").stat().st_mode & 0o077 == 0


def test_errors_contain_no_secret_and_no_parameter(store):
    """A refused row is reported without its values, an invalid URL without its password."""
    store.save_key(ApiKey("a", "n", "p", "hash-of-a-key", (), 1))
    with pytest.raises(StoreError) as refused:
        store.save_key(ApiKey("b", "n", "p", "hash-of-a-key", (), 1))
    assert "hash-of-a-key" not in str(refused.value) + str(refused.value.__cause__)
    for url in ("postgresql://me:hunter22@localhost:1/x", "not a url: hunter22"):
        with pytest.raises(StoreError) as refused:
            Database(url).revision()
        assert "hunter22" not in str(refused.value) + str(refused.value.__cause__)


def test_many_threads_write_and_read_at_once(store):
    """Writers wait for each other, readers never wait."""
    errors = []

    def work(first):
        try:
            for i in range(first, first + 20):
                store.save_anomaly(anomaly_of(CPU, ulid(i)))
                assert store.anomaly(ulid(i)).id == ulid(i)
        except Exception as error:  # the main thread asserts that there was none
            errors.append(error)

    threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(store.anomalies(limit=1000)) == 80


def test_a_full_database_is_reported_and_recovers(store):
    """A write without space is rolled back; `health_problem` reports it until there is space."""
    store.save_anomaly(anomaly_of(CPU, ulid(1)))
    with store.database.read_transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"disk is full; free space on this disk"):
        store.save_anomalies(anomaly_of(CPU, ulid(i), reason="x" * 500) for i in range(2, 500))
    assert [a.id for a in store.anomalies()] == [ulid(1)]
    with store.database.read_transaction() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert store.health_problem() is None
    store.save_anomaly(anomaly_of(CPU, ulid(2)))


def test_a_failing_write_shows_in_health(store):
    """The reason is checked again each time, and disappears when a write works."""
    store.save_anomaly(anomaly_of(CPU, ulid(1)))
    with sqlite3.connect(store.database.sqlite_path) as raw:
        raw.execute(
            "CREATE TRIGGER no BEFORE UPDATE ON lease BEGIN SELECT RAISE(FAIL, 'disk I/O error'); END"
        )
        raw.execute(
            "CREATE TRIGGER nor BEFORE INSERT ON series BEGIN SELECT RAISE(FAIL, 'disk I/O error'); END"
        )
    raw.close()
    with pytest.raises(StoreError, match="kernel log"):
        store.save_series([SeriesInfo(CPU)])
    assert "kernel log" in store.health_problem()
    with sqlite3.connect(store.database.sqlite_path) as raw:
        raw.execute("DROP TRIGGER no")
    raw.close()
    assert store.health_problem() is None


def test_a_missing_file_shows_in_health(store):
    """The database file was removed under a running engine."""
    store.database.sqlite_path.unlink()
    assert "no longer exists" in store.health_problem()


def test_a_damaged_file_is_refused(tmp_path):
    """The message contains advice."""
    store = open_store(tmp_path, FakeClock().now)
    store.save_anomalies(anomaly_of(CPU, ulid(i)) for i in range(500))
    store.close()
    path = tmp_path / "trimtab.db"
    content = bytearray(path.read_bytes())
    content[8192:90_000] = b"\x55" * (90_000 - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged: move it away, or restore"):
        open_store(tmp_path, FakeClock().now)
    path.write_bytes(b"no database at all " * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(tmp_path, FakeClock().now)


def test_a_database_of_another_program_is_refused(tmp_path):
    """Its tables are not changed."""
    with sqlite3.connect(tmp_path / "trimtab.db") as raw:
        raw.execute("CREATE TABLE theirs (a)")
    raw.close()
    with pytest.raises(StoreError, match="another program"):
        open_store(tmp_path, FakeClock().now)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url):
    """An in-memory database is not durable."""
    with pytest.raises(StoreError, match="not durable"):
        open_store(url, FakeClock().now)


def test_odd_folder_names_work(tmp_path):
    """Spaces, question marks, percent signs and hashes are allowed."""
    folder = tmp_path / "a b?c%d#e"
    for epoch in (1, 2):
        store = open_store(folder, FakeClock().now)
        store.save_anomaly(anomaly_of(CPU, ulid(epoch)))
        assert store.epoch == epoch
        store.close()
    assert sorted(path.name for path in folder.iterdir()) == ["epoch", "trimtab.db", "trimtab.lock"]
