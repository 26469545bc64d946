"""PM2 tool with a real PM2 and a service of two instances under load."""

import json
import sys
import tempfile
from pathlib import Path

import pytest

from tests.servers.pm2 import LoadGenerator, install_pm2, start_pm2
from tests.servers.prometheus import free_port
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError
from trimtab.engine.settings.service_tools import Pm2Tool
from trimtab.engine.tools.pm2.pm2_tool import Pm2
from trimtab.engine.types import Lasts, ToolState

MB = 2**20


@pytest.fixture(scope="session")
def pm2_command(tmp_path_factory):
    """The pm2 command, installed once."""
    return install_pm2(tmp_path_factory.mktemp("pm2"))


@pytest.fixture(scope="module")
def server(pm2_command):
    """A PM2 with `web` in cluster mode, two instances, and `single` in fork mode."""
    with (
        tempfile.TemporaryDirectory(prefix="pm2-") as short,
        start_pm2(pm2_command, Path(short) / "h") as tool,
    ):
        tool.start("web", "-i", "2")
        tool.pm2("start", "sleep", "--name", "single", "--interpreter", "none", "--", "600")
        yield tool


def make_tool(server, **settings):
    """A tool for that PM2."""
    options = {"targets": ("web", "single", "gone", "leaky"), "max_instances": 3, "timeout": 9.0, **settings}
    return Pm2("pm2", Pm2Tool(kind="pm2", command=(server.command,), home=server.home, **options))


async def test_status_and_metrics(server):
    """Version, instances and metrics come from PM2; an unknown application is reported."""
    tool = make_tool(server)
    status = await tool.status()
    assert status.state is ToolState.UP
    assert int(status.version.partition(".")[0]) >= 5
    assert (
        status.detail == "web: 2 of 2 online; single: 1 of 1 online; "
        "PM2 has no application gone; PM2 has no application leaky"
    )
    metrics = await tool.metrics("web")
    assert (metrics["pm2_instances"], metrics["pm2_instances_online"]) == (2, 2)
    assert 20e6 < metrics["pm2_memory_largest_bytes"] < metrics["pm2_memory_bytes"] < 1e9
    assert 0 <= metrics["pm2_uptime_seconds"] < 300
    assert "pm2_memory_limit_bytes" not in metrics
    with pytest.raises(NotFoundError, match="PM2 has no application 'gone'; it has"):
        await tool.metrics("gone")


async def test_reloads_lose_no_request(server):
    """Five reloads under load replace both instances each time, and no request is lost."""
    tool = make_tool(server)
    with LoadGenerator(server.port) as load:
        for _ in range(5):
            result = await tool.run("web", "reload", "key")
            assert result.startswith("reload of web: 2 instances, pids ")
    print(
        f"5 reloads, {load.answered_count} requests answered, {len(load.errors)} lost, "
        f"{len(load.pids)} processes"
    )
    assert load.errors == []
    assert load.answered_count > 100
    assert len(load.pids) >= 8


@pytest.mark.slow
async def test_scaling_loses_no_request(server):
    """Scaling up and down under load loses no request."""
    tool = make_tool(server)
    with LoadGenerator(server.port) as load:
        assert (await tool.apply("web", "instances", 2, 3)).lasts is Lasts.UNTIL_RESTART
        assert (await tool.read("web", "instances")).value == 3
        assert (await tool.apply("web", "instances", 3, 2)).after == 2
    assert load.errors == []
    assert load.answered_count > 20
    assert (await tool.metrics("web"))["pm2_instances_online"] == 2


@pytest.mark.slow
async def test_a_memory_limit_can_be_undone(server):
    """A limit is set by a graceful reload, and undoing it removes the limit."""
    tool = make_tool(server)
    before = await tool.read("web", "max_memory_restart")
    assert (before.value, before.set_here) == (None, False)
    with LoadGenerator(server.port) as load:
        change = await tool.apply("web", "max_memory_restart", None, 400 * MB)
        assert (change.after, "pm2 save" in change.permanent) == (400 * MB, True)
        assert (await tool.metrics("web"))["pm2_memory_limit_bytes"] == 400 * MB
        assert (await tool.apply("web", "max_memory_restart", 400 * MB, None)).after is None
    assert load.errors == []
    assert not (await tool.read("web", "max_memory_restart")).set_here


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "knob", "before", "after", "error", "message"),
    [
        ("web", "instances", 5, 3, ConflictError, "is 2, not 5; nothing was changed"),
        ("web", "instances", 2, 4, RefusedError, "instances of web must be 1 to 3, not 4"),
        ("web", "instances", 2, 0, RefusedError, "must be 1 to 3, not 0"),
        ("web", "instances", 2, None, RefusedError, "a whole number, not None"),
        ("web", "instances", 2, True, RefusedError, "a whole number, not True"),
        ("web", "max_memory_restart", None, 33 * MB, RefusedError, "PM2 would restart it"),
        ("web", "max_memory_restart", None, 2**60, RefusedError, "must be 33554432 to"),
        ("web", "watch", None, 1, NotFoundError, "has no knob 'watch'"),
        ("single", "instances", 1, 2, NotFoundError, "only cluster mode has instances"),
        ("other", "instances", 1, 2, RefusedError, "not one of tools.pm2.targets"),
    ],
)
async def test_refused_changes(server, target, knob, before, after, error, message):
    """An unexpected current value, a value out of bounds and a limit below the use change nothing."""
    with pytest.raises(error, match=message):
        await make_tool(server).apply(target, knob, before, after)


@pytest.mark.slow
async def test_knobs_and_actions_by_mode(server):
    """Fork mode has no knob `instances`, and its reload has a higher risk."""
    tool = make_tool(server)
    assert [knob.name for knob in await tool.knobs("web")] == ["instances", "max_memory_restart"]
    (single,) = await tool.knobs("single")
    assert (single.name, single.restart_needed) == ("max_memory_restart", True)
    reload, restart = await tool.actions("single")
    assert (reload.risk, restart.name) == (restart.risk, "restart")
    with pytest.raises(NotFoundError, match="no action 'delete'"):
        await tool.run("web", "delete", "k")


@pytest.mark.slow
async def test_a_restart(server):
    """Restart replaces the process."""
    result = await make_tool(server).run("single", "restart", "k")
    assert result.startswith("restart of single: 1 instances, pids ")


@pytest.mark.slow
async def test_a_python_service_reloads_without_a_gap(server):
    """Two Python processes on one port with ready signal and draining lose no request."""
    port, root = free_port(), Path(__file__).parents[2]
    app = {
        "name": "leaky", "script": sys.executable, "interpreter": "none", "cwd": str(root), "instances": 2,
        "args": ["-m", "tests.services.leaky_service", "--port", str(port), "--database-ms", "1"],
        "exec_mode": "fork", "wait_ready": True, "listen_timeout": 20_000, "kill_timeout": 5_000,
    }  # fmt: skip
    ecosystem = server.home / "ecosystem.config.cjs"
    ecosystem.write_text(f"module.exports = {json.dumps({'apps': [app]})}")
    server.pm2("start", str(ecosystem))
    tool = make_tool(server)
    with LoadGenerator(port, "/items/3") as load:
        for _ in range(2):
            await tool.run("leaky", "reload", "key")
    print(
        f"2 reloads, {load.answered_count} requests answered, {len(load.errors)} lost, "
        f"{len(load.pids)} processes"
    )
    assert load.errors == []
    assert load.answered_count > 100
    assert len(load.pids) >= 4
    server.pm2("delete", "leaky")
