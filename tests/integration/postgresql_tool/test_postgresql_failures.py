"""PostgreSQL tool with an unreachable, frozen or dying server."""

import asyncio
import os
import signal

import pytest

from tests.servers.postgresql_admin import wait_until
from tests.servers.prometheus import make_certificates
from trimtab.engine.errors import ToolUncertainError
from trimtab.engine.types import ToolState


async def test_unreachable(make_tool):
    """Without a server it is unreachable, with the address."""
    status = await make_tool(url="postgresql://tester@127.0.0.1:1/postgres").status()
    assert status.state is ToolState.UNREACHABLE
    assert "127.0.0.1:1 cannot be reached" in status.detail


async def test_a_frozen_session(make_tool):
    """A frozen backend times out: a change is uncertain, the next call works."""
    tool = make_tool(timeout=0.4)
    (row,) = await tool._session.query("SELECT pg_backend_pid() AS pid")
    os.kill(row["pid"], signal.SIGSTOP)
    try:
        status = await tool.status()
        assert status.state is ToolState.UNREACHABLE
        assert "gave no answer within 0.4 s" in status.detail
    finally:
        os.kill(row["pid"], signal.SIGCONT)
    assert (await tool.status()).state is ToolState.UP
    (row,) = await tool._session.query("SELECT pg_backend_pid() AS pid")
    tool._session.query = _nothing
    os.kill(row["pid"], signal.SIGSTOP)
    try:
        with pytest.raises(ToolUncertainError, match="it may have taken effect"):
            await tool._session.execute("SELECT pg_reload_conf()")
    finally:
        os.kill(row["pid"], signal.SIGCONT)


async def test_a_frozen_server(make_tool, admin):
    """A server without answers is unreachable in time."""
    postmaster = admin.server_pid()
    os.kill(postmaster, signal.SIGSTOP)
    try:
        status = await make_tool(timeout=0.4).status()
    finally:
        os.kill(postmaster, signal.SIGCONT)
    assert status.state is ToolState.UNREACHABLE
    assert "gave no answer within 0.4 s" in status.detail


async def test_a_session_killed_during_a_change(make_tool, admin):
    """A session killed during a change makes the change uncertain."""
    tool = make_tool()
    (row,) = await tool._session.query("SELECT pg_backend_pid() AS pid")
    change = asyncio.create_task(tool._session.execute("SELECT pg_sleep(5)"))
    await asyncio.sleep(0.3)
    admin.run("SELECT pg_terminate_backend(%s)", row["pid"])
    with pytest.raises(ToolUncertainError, match="was lost"):
        await change
    assert (await tool.status()).state is ToolState.UP


async def _nothing(*_values):
    return []


async def test_cancelled_callers_leave_no_session(make_tool, admin):
    """Cancelled callers leave no session and no task."""
    tool = make_tool()
    await tool.status()
    tasks = [asyncio.create_task(tool._session.query("SELECT pg_sleep(3)")) for _ in range(5)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (await tool.status()).state is ToolState.UP
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trimtab' AND query !~ 'pg_sleep'"
    assert admin.value(ours) == 1


async def test_tls(make_tool, admin, tmp_path):
    """Over TLS the server must match the CA."""
    certificates = make_certificates(tmp_path / "tls")
    admin.enable_tls(certificates.server_cert, certificates.server_key)
    try:

        async def trusted():
            return (await make_tool(tls={"ca_file": certificates.ca}).status()).state is ToolState.UP

        await wait_until(trusted)
        stranger = await make_tool(tls={"ca_file": certificates.client_cert}).status()
        assert stranger.state is ToolState.UNREACHABLE
        assert "certificate" in stranger.detail
        assert (await make_tool(tls={"insecure_skip_verify": True}).status()).state is ToolState.UP
    finally:
        admin.run("ALTER SYSTEM RESET ssl")
