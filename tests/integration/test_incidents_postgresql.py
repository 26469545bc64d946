"""The incident store on a real PostgreSQL."""

import itertools

import pytest
import sqlalchemy as sa

from tests.contracts.incident_store_contract import IncidentStoreContract
from tests.servers.postgresql import start_postgresql
from trimtab.engine.store.database import Database

NUMBER = itertools.count()


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'trimtab[postgresql]'")
    with start_postgresql() as url:
        yield url


class TestIncidentsOnPostgresql(IncidentStoreContract):
    @pytest.fixture
    def url(self, server):
        """A new database on the server."""
        name = f"incidents_{next(NUMBER)}"
        admin = sa.create_engine(Database(server).parsed_url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return server.removesuffix("postgres") + name
