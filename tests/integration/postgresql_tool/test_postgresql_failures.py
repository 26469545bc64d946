"""The PostgreSQL tool where the server is away, stands still or breaks off."""

import asyncio
import os
import signal

import pytest

from tests.servers.postgresql_admin import wait_until
from tests.servers.prometheus import make_certificates
from trimtab.engine.errors import ToolUncertainError
from trimtab.engine.types import ToolState


async def test_unreachable(tools):
    """Where nobody listens it is unreachable, and says where it was sought."""
    status = await tools(url="postgresql://tester@127.0.0.1:1/postgres").status()
    assert status.state is ToolState.UNREACHABLE
    assert "127.0.0.1:1 cannot be reached" in status.detail


async def test_a_frozen_session(tools):
    """A backend that stands still unreachable in time: then a change is uncertain, the next call fine."""
    tool = tools(timeout=0.4)
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
        with pytest.raises(ToolUncertainError, match="it may have taken effect is not known"):
            await tool._session.execute("SELECT pg_reload_conf()")
    finally:
        os.kill(row["pid"], signal.SIGCONT)


async def test_a_frozen_server(tools, admin):
    """A server that accepts connections and says nothing is unreachable in time."""
    postmaster = admin.server_pid()
    os.kill(postmaster, signal.SIGSTOP)
    try:
        status = await tools(timeout=0.4).status()
    finally:
        os.kill(postmaster, signal.SIGCONT)
    assert status.state is ToolState.UNREACHABLE
    assert "gave no answer within 0.4 s" in status.detail


async def test_a_session_killed_in_the_change(tools, admin):
    """A session that is ended while it changes something leaves the change uncertain."""
    tool = tools()
    (row,) = await tool._session.query("SELECT pg_backend_pid() AS pid")
    change = asyncio.create_task(tool._session.execute("SELECT pg_sleep(5)"))
    await asyncio.sleep(0.3)
    admin.run("SELECT pg_terminate_backend(%s)", row["pid"])
    with pytest.raises(ToolUncertainError, match="was lost"):
        await change
    assert (await tool.status()).state is ToolState.UP


async def _nothing(*_values):
    return []


async def test_cancelled_callers_leave_nothing(tools, admin):
    """Callers that are cancelled in their turn or before it leave no session and no task behind."""
    tool = tools()
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


async def test_tls(tools, admin, tmp_path):
    """Over TLS the server must be who the CA says."""
    made = make_certificates(tmp_path / "tls")
    admin.enable_tls(made.server_cert, made.server_key)
    try:

        async def trusted():
            return (await tools(tls={"ca_file": made.ca}).status()).state is ToolState.UP

        await wait_until(trusted)
        stranger = await tools(tls={"ca_file": made.client_cert}).status()
        assert stranger.state is ToolState.UNREACHABLE
        assert "certificate" in stranger.detail
        assert (await tools(tls={"insecure_skip_verify": True}).status()).state is ToolState.UP
    finally:
        admin.run("ALTER SYSTEM RESET ssl")
