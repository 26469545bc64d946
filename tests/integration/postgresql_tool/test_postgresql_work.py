"""Actions and commands of the PostgreSQL tool, on a real server."""

import asyncio
import shutil

import psycopg
import pytest
from psycopg import errors

from tests.servers.postgresql_admin import MB, as_role, wait_for_value, wait_until
from trimtab.engine.errors import NotFoundError
from trimtab.engine.settings.data_store_tools import SessionFilter

LASTS = """SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND application_name = 'report'
           AND query ~ '^SELECT pg_sleep' AND query_start < clock_timestamp() - interval '0.4 s'"""


async def test_idle_in_transaction(make_tool, admin):
    """The oldest named session that is idle long enough is ended; younger and unnamed ones are not."""
    old, older = (
        SessionFilter.model_construct(older_than=seconds, applications=("shop",), users=())
        for seconds in (0.3, 60.0)
    )
    tool = make_tool(idle_in_transaction=old)
    assert [action.name for action in await tool.actions("db")] == [
        "analyze",
        "terminate_idle_in_transaction",
    ]
    with admin.open_client("shop") as named, admin.open_client("other") as unnamed:
        for client in (named, unnamed):
            client.execute("SELECT 1")
        patient = make_tool(idle_in_transaction=older)
        assert "nothing to do" in await patient.run("db", "terminate_idle_in_transaction", "k")
        await asyncio.sleep(0.5)
        result = await tool.run("db", "terminate_idle_in_transaction", "k")
        assert result.startswith(f"terminated session {named.info.backend_pid} of tester (shop)")
        unnamed.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            named.execute("SELECT 1")
        assert "nothing to do" in await tool.run("db", "terminate_idle_in_transaction", "k")


async def test_a_long_query(make_tool, admin):
    """The longest query of a named session is cancelled, and its session stays open."""
    rule = SessionFilter.model_construct(older_than=0.3, applications=("report",), users=())
    tool = make_tool(long_query=rule)
    with admin.open_client("report", autocommit=True) as client:
        sleeping = asyncio.create_task(asyncio.to_thread(client.execute, "SELECT pg_sleep(20)"))
        await wait_until(lambda: asyncio.to_thread(admin.value, LASTS))
        assert (await tool.run("db", "cancel_long_query", "k")).startswith("cancelled session")
        with pytest.raises(errors.QueryCanceled):
            await sleeping
        assert client.execute("SELECT 1").fetchone() == (1,)


async def test_analyze(make_tool, admin, url, make_role):
    """Stale tables are analysed; those of other owners are counted; slow ones are skipped."""
    admin.run("CREATE TABLE stale AS SELECT generate_series(1, 1000) AS x")
    admin.run("SELECT pg_stat_force_next_flush()")
    try:
        make_role("less", ["CREATE ROLE less LOGIN"])
        result = await make_tool(url=as_role(url, "less")).run("db", "analyze", "k")
        assert result.startswith("0 of 1 stale tables have fresh statistics, 1 need their owner")
        assert await make_tool().run("db", "analyze", "k") == "1 of 1 stale tables have fresh statistics"
        assert admin.value("SELECT last_analyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'stale'")
        assert await make_tool().run("db", "analyze", "k") == "0 of 0 stale tables have fresh statistics"
    finally:
        admin.run("DROP TABLE stale")
    with pytest.raises(NotFoundError, match="has no action 'vacuum_full'"):
        await make_tool().run("db", "vacuum_full", "k")


async def test_shell_commands(make_tool, url):
    """The psql command does the same as the tool."""
    psql = shutil.which("psql")
    tool = make_tool()
    line = tool.command("db", "work_mem", 8 * MB)
    commands = "-c 'ALTER SYSTEM SET work_mem = '\"'\"'8MB'\"'\"'' -c 'SELECT pg_reload_conf()'"
    assert line == f"psql {url} {commands}"
    assert "RESET work_mem" in tool.command("db", "work_mem", None)
    assert tool.command("db", "analyze", None) == f"psql {url} -c ANALYZE"
    if psql is None:
        pytest.skip("psql is not installed: apt-get install postgresql-client")
    process = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    await wait_for_value(tool, "work_mem", 8 * MB)
