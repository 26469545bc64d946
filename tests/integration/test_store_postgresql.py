"""The event store on a real PostgreSQL."""

import itertools

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.builders.series import anomaly_of
from tests.contracts.action_ledger_contract import ActionLedgerContract
from tests.contracts.event_store_contract import CPU, EventStoreContract, ulid
from tests.fakes.ports import FakeClock
from tests.servers.postgresql import start_postgresql
from trimtab.engine.errors import LockedError, NewerStateError, StoreError
from trimtab.engine.store import open_store, tables
from trimtab.engine.store.database import Database

NUMBER = itertools.count()


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'trimtab[postgresql]'")
    with start_postgresql() as url:
        yield url


@pytest.fixture
def url(server):
    name = f"test_{next(NUMBER)}"
    admin = sa.create_engine(Database(server).parsed_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return server.removesuffix("postgres") + name


class TestPostgresqlStore(EventStoreContract):
    """The event store contract; `url` is a new database on the server."""


class TestPostgresqlLedger(ActionLedgerContract):
    """The ledger contract."""


def test_the_newest_engine_takes_over(url):
    """Each start gets a larger epoch; the previous engine cannot write any more."""
    first = open_store(url, FakeClock().now)
    second = open_store(url, FakeClock().now)
    assert (first.epoch, second.epoch) == (1, 2)
    with pytest.raises(LockedError, match="taken over"):
        first.save_anomaly(anomaly_of(CPU, ulid(1)))
    second.save_anomaly(anomaly_of(CPU, ulid(1)))
    first.close()
    second.close()


def test_migrations_match_the_table_definitions(url):
    """Migrations produce the tables of the code on PostgreSQL."""
    open_store(url, FakeClock().now).close()
    engine = sa.create_engine(Database(url).parsed_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_newer_tables_are_refused(url):
    """Tables of a newer version are refused and not changed."""
    store = open_store(url, FakeClock().now)
    with store.database.write_transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0099'"))
    store.close()
    with pytest.raises(NewerStateError, match="0099"):
        open_store(url, FakeClock().now)


def test_an_unavailable_server_is_reported_without_the_password():
    """The message contains advice but no password."""
    with pytest.raises(StoreError, match="check that the database server runs") as refused:
        open_store("postgresql://tester:hunter22@127.0.0.1:1/postgres", FakeClock().now)
    assert "hunter22" not in str(refused.value)
