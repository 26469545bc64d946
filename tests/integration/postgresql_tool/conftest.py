"""PostgreSQL server, admin session and tool fixtures; settings are reset after each test."""

import pytest

from tests.servers.postgresql import start_postgresql
from tests.servers.postgresql_admin import AdminSession
from tests.servers.prometheus import wait_for
from trimtab.engine.settings.data_store_tools import PostgresqlTool
from trimtab.engine.tools.postgresql.postgresql_tool import Postgresql


@pytest.fixture(scope="package")
def url():
    """A real server for all tests of the tool."""
    with start_postgresql() as url:
        yield url


@pytest.fixture
def admin(url):
    """A superuser session; settings are reset afterwards."""
    admin = AdminSession(url)
    yield admin
    admin.run("ALTER SYSTEM RESET ALL")
    admin.run("SELECT pg_reload_conf()")
    wait_for(admin.is_reset, 10)
    admin.connection.close()


@pytest.fixture
async def make_tool(url, admin):  # noqa: ARG001 - what a test sets is reset after it
    """A function that makes a tool, which is closed at the end."""
    made = []

    def make(**options) -> Postgresql:
        made.append(
            Postgresql("db", PostgresqlTool(**{"kind": "postgresql", "url": url, "timeout": 3, **options}))
        )
        return made[-1]

    yield make
    for tool in made:
        await tool.close()


@pytest.fixture
def make_role(admin):
    """A function that creates a role by SQL; all roles are dropped at the end."""
    made = []

    def make(role, statements):
        made.append(role)
        for statement in statements:
            admin.run(statement)

    yield make
    for role in made:
        admin.run(f"DROP OWNED BY {role}")
        admin.run(f"DROP ROLE {role}")
