"""Redis tool without permission, connection or answer, on a real server."""

import asyncio
import os
import signal

import pytest

from tests.servers.prometheus import free_port, make_certificates
from tests.servers.redis import start_redis
from trimtab.engine.errors import RefusedError, ToolError, ToolUncertainError
from trimtab.engine.net import addresses
from trimtab.engine.settings.data_store_tools import CacheWarmingSettings
from trimtab.engine.types import ToolState

MB = 2**20


async def test_without_config_it_is_export_only(tmp_path, make_tool):
    """Without CONFIG the tool reads INFO, and a change is written out instead."""
    with start_redis(tmp_path / "r", "--rename-command", "CONFIG", "", "--maxmemory", "10mb") as server:
        tool = make_tool(server)
        status = await tool.status()
        assert (status.state, "unknown command" in status.detail) == (ToolState.EXPORT_ONLY, True)
        assert (await tool.read("cache", "maxmemory")).value == 10 * MB
        assert {knob.name for knob in await tool.knobs("cache")} == {
            "maxmemory", "maxmemory-policy", "hz", "maxclients",
        }  # fmt: skip
        with pytest.raises(RefusedError, match=r"nothing was changed.*maxmemory 20971520"):
            await tool.apply("cache", "maxmemory", 10 * MB, 20 * MB)
        with pytest.raises(ToolError):
            await tool.read("cache", "timeout")


async def test_passwords(tmp_path, make_tool):
    """A wrong password is denied with a hint; its file is read again afterwards."""
    secret = tmp_path / "password"
    with start_redis(tmp_path / "r", password="right") as server:
        for options in ({}, {"password": "wrong"}):
            status = await make_tool(server, **options).status()
            assert status.state is ToolState.DENIED
            assert "check username and password of tools.cache" in status.detail
            assert "wrong" not in status.detail.replace("WRONGPASS", "")
        secret.write_text("wrong\n")
        tool = make_tool(server, password_file=secret)
        assert (await tool.status()).state is ToolState.DENIED
        secret.write_text("right\n")
        assert (await tool.status()).state is ToolState.UP
        secret.unlink()
        missing = await make_tool(server, password_file=secret).status()
        assert "cannot be read: No such file" in missing.detail


async def test_the_grant_is_sufficient_and_minimal(tmp_path, make_tool):
    """The user of `grant` can do what the tool does and nothing else; a reader can only read."""
    warm = CacheWarmingSettings(url="http://127.0.0.1:1/{key}", key="item:{key}", keys=("1",))
    with start_redis(tmp_path / "r", "--maxmemory", "10mb") as server:
        statements = make_tool(server, username="trimtab", warm=warm).grant()
        (line,) = [line for line in statements.splitlines() if line.startswith("ACL SETUSER")]
        server.cli(*(argument.strip("'") for argument in line.split()))
        server.cli("ACL", "SETUSER", "reader", "on", ">pw", "-@all", "+info", "+config|get")
        server.cli("ACL", "SETUSER", "nobody", "on", ">pw", "-@all", "+ping")
        tool = make_tool(server, username="trimtab", password="CHANGE-THIS-PASSWORD", warm=warm)
        assert (await tool.status()).state is ToolState.UP
        assert await tool.knobs("cache")
        await tool.apply("cache", "maxmemory", 10 * MB, 20 * MB)
        assert "resident memory" in await tool.run("cache", "memory_purge", "k")
        assert not await tool._has_key("item:1")
        for forbidden in (("FLUSHALL",), ("GET", "item:1"), ("CONFIG", "REWRITE"), ("EXISTS", "other")):
            with pytest.raises(ToolError, match="lacks a permission"):
                await tool._connection.query(*forbidden)
        reader = make_tool(server, username="reader", password="pw")
        assert (await reader.status()).state is ToolState.EXPORT_ONLY
        with pytest.raises(RefusedError, match="nothing was changed"):
            await reader.apply("cache", "maxmemory", 20 * MB, 10 * MB)
        unknown_user = await make_tool(server, username="nobody", password="pw").status()
        assert (unknown_user.state, "trimtab grant cache" in unknown_user.detail) == (ToolState.DENIED, True)


async def test_tls(tmp_path, make_tool):
    """Over TLS the server must match the CA; a client certificate is sent when configured."""
    certs = make_certificates(tmp_path / "tls")
    files = {"cert": certs.server_cert, "key": certs.server_key, "ca-cert": certs.ca}
    flags = [argument for name, file in files.items() for argument in (f"--tls-{name}-file", str(file))]
    tls_port = free_port()
    with start_redis(tmp_path / "r", "--tls-port", str(tls_port), *flags) as server:
        url = f"rediss://127.0.0.1:{tls_port}"
        known = {"ca_file": certs.ca, "cert_file": certs.client_cert, "key_file": certs.client_key}
        assert (await make_tool(server, url=url, tls=known, timeout=9).status()).state is ToolState.UP
        for tls in ({}, {"ca_file": certs.ca}, {"ca_file": certs.client_cert}):
            assert (await make_tool(server, url=url, tls=tls).status()).state is ToolState.UNREACHABLE


async def test_unreachable(server, make_tool):
    """A stopped Redis is unreachable with its address, and is used again after it returns."""
    tool = make_tool(server)
    assert (await tool.status()).state is ToolState.UP
    server.stop(signal.SIGKILL)
    status = await tool.status()
    assert status.state is ToolState.UNREACHABLE
    assert f"127.0.0.1:{server.port} cannot be reached" in status.detail
    server.start()
    assert (await tool.status()).state is ToolState.UP


async def test_refused_addresses(server, make_tool, monkeypatch):
    """A host with a link-local or metadata address is not connected to."""
    monkeypatch.setattr(addresses, "is_refused", lambda address: address == "127.0.0.1")
    status = await make_tool(server).status()
    assert status.state is ToolState.UNREACHABLE
    assert "a link-local or metadata address" in status.detail


async def test_a_frozen_server(server, make_tool):
    """A frozen Redis is unreachable in time, and a change sent to it is uncertain."""
    tool = make_tool(server, timeout=0.3)
    await tool.read("cache", "maxmemory")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ToolUncertainError, match="it may have taken effect"):
            await tool._set_value("maxmemory", "20971520")
        status = await tool.status()
        assert status.state is ToolState.UNREACHABLE
        assert "gave no answer within 0.3 s" in status.detail
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert (await tool.status()).state is ToolState.UP


async def test_a_server_killed_during_a_change(server, make_tool):
    """A Redis that dies during a change makes the change uncertain."""
    tool = make_tool(server)
    await tool.read("cache", "maxmemory")
    os.kill(server.pid, signal.SIGSTOP)
    change = asyncio.create_task(tool._set_value("maxmemory", "20971520"))
    await asyncio.sleep(0.1)
    server.process.kill()
    with pytest.raises(ToolUncertainError, match="was lost"):
        await change


async def test_a_change_that_cannot_be_read_back(server, make_tool):
    """An acknowledged change that reads differently, or not at all, is uncertain."""
    tool = make_tool(server)
    with pytest.raises(ToolUncertainError, match="maxmemory reads 10485760 after it was set to 1"):
        await tool._verify_value("maxmemory", 1)
    server.stop(signal.SIGKILL)
    with pytest.raises(ToolUncertainError, match="could not be read back"):
        await tool._verify_value("maxmemory", 10 * MB)


async def test_concurrent_and_cancelled_callers_share_connections(server, make_tool):
    """Fifty callers share three connections, and cancelled ones leave none open."""
    tool = make_tool(server)
    await asyncio.gather(*(tool.metrics("cache") for _ in range(50)))
    for _ in range(20):
        task = asyncio.create_task(tool.metrics("cache"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await tool.metrics("cache"))["redis_connected_clients"] <= 4
