"""PostgreSQL tool with more and fewer rights, on a real server."""

import psycopg
import pytest
from psycopg import errors

from tests.servers.postgresql_admin import MB, PASSWORD, as_role, wait_until
from trimtab.engine.errors import RefusedError
from trimtab.engine.settings.data_store_tools import SessionFilter
from trimtab.engine.types import ToolState


async def test_the_grant_is_sufficient_and_minimal(make_tool, url, make_role):
    """The role of `grant` can do what the tool does and nothing else."""
    rule = SessionFilter(older_than=10, applications=("shop",))
    options = {"idle_in_transaction": rule, "long_query": rule}
    make_role("trimtab", [make_tool(**options).grant()])
    tool = make_tool(url=as_role(url, "trimtab"), password=PASSWORD, **options)
    status = await tool.status()
    assert (status.state, status.detail) == (ToolState.UP, status.detail)
    assert (await tool.metrics("db"))["pg_up"] == 1.0
    before = (await tool.read("db", "work_mem")).value
    await tool.apply("db", "work_mem", before, 8 * MB)
    assert (await tool.apply("db", "work_mem", 8 * MB, None)).after == before
    assert "nothing to do" in await tool.run("db", "terminate_idle_in_transaction", "k")
    with psycopg.connect(as_role(url, "trimtab"), autocommit=True) as session:
        for forbidden in (
            "ALTER SYSTEM SET fsync = off",
            "CREATE TABLE x (y int)",
            "CREATE ROLE z",
            "SELECT * FROM pg_authid",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(forbidden)


LESS = [
    # a role that can only log in
    (["CREATE ROLE less LOGIN"], ToolState.EXPORT_ONLY, r"less may not execute pg_reload_conf\(\)"),
    # no right to any parameter
    (
        ["CREATE ROLE less LOGIN", "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO less"],
        ToolState.EXPORT_ONLY, "has ALTER SYSTEM on no parameter",
    ),
    # it can set a value, but not read where the current one is set
    (
        ["CREATE ROLE less LOGIN", "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO less",
         "GRANT ALTER SYSTEM ON PARAMETER work_mem TO less"],
        ToolState.EXPORT_ONLY, "is not in pg_read_all_settings",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "state", "message"), LESS)
async def test_with_too_few_rights_it_is_export_only(make_tool, url, make_role, statements, state, message):
    """Missing rights are named, and a change is returned as SQL for a role that has them."""
    make_role("less", statements)
    tool = make_tool(url=as_role(url, "less"))
    status = await tool.status()
    assert status.state is state
    with pytest.raises(RefusedError, match=rf"{message}.*was changed.*SET work_mem = '8MB'"):
        await tool.apply("db", "work_mem", 4 * MB, 8 * MB)


async def test_without_alter_system_it_is_export_only(make_tool, monkeypatch):
    """PostgreSQL 17 can forbid ALTER SYSTEM to every role: the tool is export-only."""
    tool = make_tool()
    rows = tool._session.query

    async def query_like_version_17(query, values=()):
        result = await rows(query, values)
        return [{**row, "allowed": "off"} for row in result] if "allow_alter_system" in str(query) else result

    monkeypatch.setattr(tool._session, "query", query_like_version_17)
    status = await tool.status()
    assert status.state is ToolState.EXPORT_ONLY
    assert "allow_alter_system is off" in status.detail
    with pytest.raises(RefusedError, match="ALTER SYSTEM SET work_mem = '8MB'"):
        await tool.apply("db", "work_mem", 4 * MB, 8 * MB)


async def test_rights_to_single_parameters(make_tool, url, make_role):
    """A role with one parameter can set that one; the error for others names the privilege."""
    make_role("one", [
        "CREATE ROLE one LOGIN", "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO one",
        "GRANT pg_monitor TO one", "GRANT ALTER SYSTEM ON PARAMETER jit TO one",
    ])  # fmt: skip
    tool = make_tool(url=as_role(url, "one"))
    assert (await tool.status()).state is ToolState.UP
    await tool.apply("db", "jit", True, False)
    with pytest.raises(RefusedError, match="missing privilege"):
        await tool.apply("db", "work_mem", 4 * MB, 8 * MB)


async def test_hidden_sessions_are_not_counted(make_tool, url, admin, make_role):
    """When sessions are hidden from our role their metrics are missing."""
    make_role("less", ["CREATE ROLE less LOGIN"])
    with admin.open_client("shop"):
        figures = await make_tool(url=as_role(url, "less")).metrics("db")
    assert not [name for name in figures if name.startswith("pg_stat_activity")]
    assert figures["pg_settings_max_connections"] == 40


async def test_passwords(make_tool, url, admin, make_role, tmp_path):
    """A wrong or missing password is denied with a hint that does not contain it."""
    make_role("locked", ["CREATE ROLE locked LOGIN PASSWORD 'right'"])
    secret = tmp_path / "password"
    secret.write_text("right\n")
    role_url = as_role(url, "locked")
    with admin.with_config_line("hba_file", first="host all locked 127.0.0.1/32 scram-sha-256"):

        async def password_is_required():
            return (await make_tool(url=role_url).status()).state is ToolState.DENIED

        await wait_until(password_is_required)
        for options in ({}, {"password": "hunter2"}):
            status = await make_tool(url=role_url, **options).status()
            assert status.state is ToolState.DENIED
            assert "check username, password and database of tools.db" in status.detail
            assert "hunter2" not in status.detail
        assert (await make_tool(url=role_url, password_file=secret).status()).state is ToolState.EXPORT_ONLY
        status = await make_tool(url=role_url, password_file=tmp_path / "none").status()
        assert (status.state, "cannot be read" in status.detail) == (ToolState.UNREACHABLE, True)
    for wrong_url in (as_role(url, "nobody"), url.replace("/postgres", "/nothing")):
        assert (await make_tool(url=wrong_url).status()).state is ToolState.DENIED
