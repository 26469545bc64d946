"""PM2 tool when PM2 is missing, slow, or prints unexpected output."""

import errno
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from trimtab.engine.errors import ToolError, ToolUncertainError
from trimtab.engine.settings.service_tools import Pm2Tool
from trimtab.engine.tools.pm2 import pm2_tool
from trimtab.engine.tools.pm2.pm2_processes import parse_applications
from trimtab.engine.tools.pm2.pm2_tool import Pm2
from trimtab.engine.types import ToolState


def row(pid=10, status="online", memory=50e6, cpu=12.5, name="web", **env):
    """One entry of `pm2 jlist`."""
    about = {"status": status, "exec_mode": "cluster_mode", "restart_time": 2, "pm_uptime": 1_000_000, **env}
    secret = {"env": {"DB_PASSWORD": "hunter2"}}
    return {"pid": pid, "name": name, "pm2_env": about | secret, "monit": {"memory": memory, "cpu": cpu}}


@pytest.fixture
def home():
    """A PM2_HOME with a socket that accepts connections, like a daemon's."""
    with tempfile.TemporaryDirectory(prefix="pm2-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/rpc.sock")
        listener.listen()
        yield Path(folder)


def make_tool(home, code, **settings):
    """A tool whose pm2 command is a piece of Python."""
    options = {"targets": ("web",), **settings}
    return Pm2(
        "pm2",
        Pm2Tool(kind="pm2", command=(sys.executable, "-c", code), home=home, **options),
        lambda: 10**12 * 2,
    )


def printing(text):
    """Return Python code that prints a text."""
    return f"print({text!r})"


async def test_without_a_daemon_none_is_started(tmp_path):
    """Without a daemon the command is not run, because it would start one."""
    marker = tmp_path / "asked"
    tool = make_tool(tmp_path, f"open({str(marker)!r}, 'w')")
    status = await tool.status()
    assert status.state is ToolState.UNREACHABLE
    assert f"no PM2 runs at {tmp_path}" in status.detail
    assert "tools.pm2.home" in status.detail
    assert not marker.exists()


async def test_a_daemon_of_another_user(home, monkeypatch):
    """An inaccessible socket is reported as denied with a remedy."""

    def refuse(path, _):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(pm2_tool, "check_daemon", refuse)  # root may use any socket
    status = await make_tool(home, printing("[]")).status()
    assert (status.state, "as the user that PM2 runs as" in status.detail) == (ToolState.DENIED, True)
    with pytest.raises(ToolError, match="Permission denied; run Trimtab as the user of PM2"):
        await make_tool(home, printing("[]")).metrics("web")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (printing(""), "gives no list"),
        (printing("[PM2] Done"), "gives no list"),
        (printing("[{]"), "gives no list"),
        (printing(json.dumps([row()])[:-20]), "gives no list"),  # cut off
        (printing('[{"name": "web"}]'), r"0\.pm2_env"),
        (printing(json.dumps([row(pm_uptime="soon")])), r"0\.pm2_env\.pm_uptime"),
        ("import sys; sys.exit(1)", "pm2 jlist ended with exit code 1"),
        ("import threading; threading.Event().wait(20)", r"did not end within 0\.5 s"),
    ],
)
async def test_invalid_lists(home, code, message):
    """Invalid output is an error that contains nothing of the applications' environment."""
    tool = make_tool(home, code, timeout=0.5 if "wait" in code else 9.0)
    with pytest.raises(ToolError, match=message) as caught:
        await tool.metrics("web")
    assert "hunter2" not in str(caught.value)
    assert (await tool.status()).state is ToolState.UNREACHABLE


async def test_a_missing_command(home):
    """The error for a missing PM2 names the command."""
    tool = Pm2("pm2", Pm2Tool(kind="pm2", command=("/no/such/pm2",), home=home))
    assert "cannot start /no/such/pm2" in (await tool.status()).detail


ANSWERS = """
import sys, threading
if sys.argv[1] == "jlist":
    print({listed!r})
    sys.exit()
{reload_code}
"""


@pytest.mark.parametrize(
    ("reload_code", "error", "message"),
    [
        ("print('Reload already in progress'); sys.exit(1)", ToolError, "nothing was done"),
        ("print('cannot'); sys.exit(1)", ToolUncertainError, "ended with exit code 1: cannot"),
        ("threading.Event().wait(20)", ToolUncertainError, "did not end within"),
        ("", ToolUncertainError, "1 of 1 instances are online, 1 of them were not replaced"),
    ],
)
async def test_failed_reloads(home, monkeypatch, reload_code, error, message):
    """A reload succeeds only when new processes are online; PM2's own lock means nothing was done."""
    monkeypatch.setattr(Pm2, "_command_timeout_s", lambda *_: 0.5)
    tool = make_tool(home, ANSWERS.format(listed=json.dumps([row()]), reload_code=reload_code), timeout=9.0)
    with pytest.raises(ToolError, match=message) as caught:
        await tool.run("web", "reload", "k")
    assert isinstance(caught.value, ToolUncertainError) == (error is ToolUncertainError)


async def test_a_command_without_enough_time_is_not_started(home, monkeypatch):
    """A command that could not end in time is not started."""
    monkeypatch.setattr(pm2_tool, "CHANGE_BUDGET_S", 1.0)
    tool = make_tool(
        home, ANSWERS.format(listed=json.dumps([row()]), reload_code="assert False"), timeout=9.0
    )
    with pytest.raises(ToolError, match="nothing was done"):
        await tool.run("web", "reload", "k")


async def test_a_change_that_does_not_persist_is_uncertain(home):
    """A value that reads as before after the change is uncertain."""
    code = ANSWERS.format(listed=json.dumps([row()]), reload_code="")
    tool = make_tool(home, code, timeout=9.0, max_instances=4)
    with pytest.raises(ToolUncertainError, match="was set to 2 and reads 1"):
        await tool.apply("web", "instances", 1, 2)


def test_metrics_of_running_instances():
    """Memory and CPU are summed over the running instances; unmeasured values are missing."""
    listed = [row(), row(pid=11, memory=70e6, cpu=50, max_memory_restart=10**8), row(pid=0, status="stopped")]
    (web,) = parse_applications(json.dumps(listed), "pm2").values()
    assert web.metrics(now=1_010 * 10**9) == {
        "pm2_instances": 3, "pm2_instances_online": 2, "pm2_restarts_total": 6,
        "pm2_unstable_restarts_total": 0,
        "pm2_memory_bytes": 120e6, "pm2_memory_largest_bytes": 70e6, "pm2_cpu_ratio": 0.625,
        "pm2_uptime_seconds": 10.0, "pm2_memory_limit_bytes": 10**8,
    }  # fmt: skip
    (fresh,) = parse_applications(json.dumps([row(memory=0, cpu=0)]), "pm2").values()
    assert not {"pm2_memory_bytes", "pm2_cpu_ratio"} & set(fresh.metrics(0))


@pytest.mark.parametrize(
    ("knob", "after", "env", "each"),
    [
        ("instances", 3, {}, 3 * 70e6),  # each as large as the largest is now
        ("instances", 3, {"max_memory_restart": 10**8}, 3e8),  # each as large as its limit
        ("max_memory_restart", 2 * 10**8, {}, 4e8),
    ],
)
async def test_memory_outlook(home, knob, after, env, each):
    """The outlook has the memory of all instances and of others, with this machine's limit."""
    me = {"pid": os.getpid(), "pm_uptime": round(psutil.Process().create_time() * 1000)}
    tool = make_tool(home, printing(json.dumps([row(**me, **env), row(pid=11, memory=70e6, **env)])))
    projection = await tool.outlook("web", knob, after)
    assert projection.parts[0] == (f"{after if knob == 'instances' else 2} instances of web", each)
    assert 0 < projection.limit_bytes <= psutil.virtual_memory().total
    assert projection.projected_bytes > each
    assert await tool.outlook("web", knob, None) is None
    assert await tool.outlook("web", "watch", 1) is None


async def test_different_limits(home):
    """Instances with different limits have no single value."""
    tool = make_tool(home, printing(json.dumps([row(), row(max_memory_restart=5)])))
    with pytest.raises(ToolError, match="different memory limits"):
        await tool.read("web", "max_memory_restart")


def test_shell_commands(home):
    """The shell command contains the PM2_HOME."""
    tool = Pm2("pm2", Pm2Tool(kind="pm2", home=home, targets=("my-app",)))
    assert tool.command("my-app", "reload", None) == f"PM2_HOME={home} pm2 reload my-app"
    assert tool.command("my-app", "instances", 3) == f"PM2_HOME={home} pm2 scale my-app 3"
    limit = f"PM2_HOME={home} pm2 reload my-app --max-memory-restart 0"
    assert tool.command("my-app", "max_memory_restart", None) == limit
    assert "rpc.sock" in tool.grant()


@pytest.mark.parametrize("name", ["all", "0", "17", "-f", "/web/"])
def test_ambiguous_target_names_are_refused(name):
    """A target that PM2 reads as a number, pattern, option or `all` is refused."""
    with pytest.raises(ValidationError, match="which PM2 does not read as a name"):
        Pm2Tool(kind="pm2", targets=(name,))
