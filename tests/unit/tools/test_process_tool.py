"""Process tool: lookup, allowed signals, restart command and the command runner."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from pydantic import ValidationError

from tests.servers.prometheus import wait_for
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.settings.service_tools import ProcessTool, WatchedProcess
from trimtab.engine.tools import command_runner
from trimtab.engine.tools.command_runner import CommandTimeoutError, run_command
from trimtab.engine.tools.process import process_tool as process_module
from trimtab.engine.tools.process.process_lookup import ProcessIdentity, find_process, send_signal
from trimtab.engine.tools.process.process_tool import Process
from trimtab.engine.types import Risk, ToolState

WORKER = """
import os, signal, sys, threading
def log_signal(number, frame):
    with open(sys.argv[2], "a") as log:
        log.write(signal.Signals(number).name + "\\n")
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2") + (("SIGTERM",) if "--stubborn" in sys.argv else ()):
    signal.signal(getattr(signal, name), log_signal)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.replace(sys.argv[1] + ".new", sys.argv[1])
threading.Event().wait(60)
"""
RESTART = """
import os, signal, subprocess, sys
with open(sys.argv[1]) as file:
    os.kill(int(file.read()), signal.SIGKILL)
subprocess.Popen([sys.executable, *sys.argv[2:]], start_new_session=True)
"""


class WorkerProcess:
    """A process with a PID file that records each signal and can be restarted."""

    def __init__(self, folder):
        self.pid_file, self.log = folder / "worker.pid", folder / "signals"
        self.script, self.restart = folder / "worker.py", folder / "restart.py"
        self.script.write_text(WORKER)
        self.restart.write_text(RESTART)
        self.arguments = [str(self.script), str(self.pid_file), str(self.log)]
        self.children = []

    def start(self, *more):
        """Start one process that is ready for signals."""
        self.pid_file.unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, *self.arguments, *more])
        self.children.append(child)
        wait_for(self.pid_file.exists, 20)
        return child

    @property
    def pid(self):
        """Pid of the process that wrote the PID file last."""
        return int(self.pid_file.read_text())

    def end(self):
        """Kill all started processes by pid."""
        for child in self.children:
            child.kill()
            child.wait(10)
        with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
            last = psutil.Process(self.pid)
            if str(self.script) in last.cmdline():
                last.kill()

    def tool(self, **options):
        """A tool for the process, by its PID file by default."""
        watched = options if "name" in options else {"pid_file": self.pid_file, **options}
        return Process("local", ProcessTool(kind="process", processes={"worker": WatchedProcess(**watched)}))


@pytest.fixture
def worker(tmp_path):
    """A worker that is not started yet."""
    process = WorkerProcess(tmp_path)
    yield process
    process.end()


async def test_allowed_signals(worker):
    """An allowed signal arrives; another one is refused and does not arrive."""
    child = worker.start()
    tool = worker.tool(signals=("HUP", "USR1"))
    assert [action.name for action in await tool.actions("worker")] == ["hup", "usr1"]
    assert await tool.run("worker", "hup", "k") == f"SIGHUP sent to process {child.pid}"
    wait_for(lambda: worker.log.exists() and worker.log.read_text() == "SIGHUP\n", 10)
    for action in ("usr2", "term", "kill", "restart", "HUP"):
        with pytest.raises(RefusedError, match=f"'{action}' is not allowed for worker"):
            await tool.run("worker", action, "k")
    with pytest.raises(RefusedError, match=r"'db' is not one of tools\.local\.targets"):
        await tool.run("db", "hup", "k")
    assert (child.poll(), worker.log.read_text()) == (None, "SIGHUP\n")


async def test_term_waits_until_the_process_has_ended(worker):
    """TERM returns when the process is gone; it reduces capacity and has a high risk."""
    child = worker.start()
    tool = worker.tool(signals=("TERM",))
    (term,) = await tool.actions("worker")
    assert (term.risk, term.reduces) == (Risk.HIGH, True)
    assert await tool.run("worker", "term", "k") == f"process {child.pid} has ended"
    assert child.wait(5) == -signal.SIGTERM
    with pytest.raises(NotFoundError, match=r"worker is not running: there is no process"):
        await tool.run("worker", "term", "k")


async def test_a_process_that_ignores_term_is_uncertain(worker):
    """A process that ignores TERM is never killed, and the outcome is uncertain."""
    child = worker.start("--stubborn")
    tool = worker.tool(signals=("TERM",), stop_timeout=0.3)
    with pytest.raises(ToolUncertainError, match=r"still runs 0\.3 s after"):
        await tool.run("worker", "term", "k")
    assert child.poll() is None


async def test_metrics(worker):
    """Memory, CPU, descriptors, threads and start time by the names of process-exporter."""
    child = worker.start()
    metrics = await worker.tool().metrics("worker")
    short = {name.removeprefix("namedprocess_namegroup_"): value for name, value in metrics.items()}
    assert short["num_procs"] == 1
    assert 1e6 < short['memory_bytes{memtype="resident"}'] < short['memory_bytes{memtype="virtual"}']
    assert 0 <= short['cpu_seconds_total{mode="user"}'] < 60
    assert short["num_threads"] >= 1
    assert 0 < short["worst_fd_ratio"] < 1
    assert abs(short["oldest_start_time_seconds"] - time.time()) < 60
    assert short["open_filedesc"] >= 3
    child.kill()
    child.wait(10)
    assert await worker.tool().metrics("worker") == {"namedprocess_namegroup_num_procs": 0.0}


async def test_a_reused_pid(worker):
    """A process younger than the PID file has a reused pid and is left alone."""
    child = worker.start()
    os.utime(worker.pid_file, (time.time() - 3600,) * 2)
    with pytest.raises(NotFoundError, match="its pid was reused"):
        await worker.tool(signals=("TERM",)).run("worker", "term", "k")
    assert child.poll() is None


def test_a_signal_never_reaches_a_reused_pid(worker):
    """A pid reused between lookup and signal is recognised by its start time."""
    child = worker.start()
    found = find_process("worker", WatchedProcess(pid_file=worker.pid_file))
    with pytest.raises(ConflictError, match="has ended; nothing was sent"):
        send_signal("worker", ProcessIdentity(found.pid, found.start_time_s - 5), signal.SIGTERM)
    assert child.poll() is None
    child.kill()
    child.wait(10)
    with pytest.raises(ConflictError, match="has ended"):
        send_signal("worker", found, signal.SIGTERM)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ToolError, "holds no process id"),
        ("many", ToolError, "holds no process id"),
        ("12 13", ToolError, "holds no process id"),
        ("-5", ToolError, "holds -5, which is no process id"),
        ("0", ToolError, "holds 0"),
        (str(2**40), ToolError, "which is no process id"),
        ("1", RefusedError, "is process 1, init"),
        pytest.param(str(os.getpid()), RefusedError, "Trimtab itself", id="its own"),
    ],
)
async def test_invalid_pid_files(worker, text, error, message):
    """An invalid process id, init and Trimtab itself are refused, and nothing is signalled."""
    worker.pid_file.write_text(text)
    with pytest.raises(error, match=message):
        await worker.tool(signals=("HUP",)).run("worker", "hup", "k")


async def test_lookup_by_name_needs_one_match(worker):
    """By name and command exactly one process must match."""
    first = worker.start()
    name = psutil.Process(first.pid).name()
    by_name = worker.tool(name=name, command=f"{worker.script} .*signals", signals=("USR1",))
    assert await by_name.run("worker", "usr1", "k") == f"SIGUSR1 sent to process {first.pid}"
    second = worker.start()
    with pytest.raises(ToolError, match=f"2 processes match .*{second.pid}.*make the command more specific"):
        await by_name.run("worker", "usr1", "k")
    with pytest.raises(NotFoundError, match="no process has the name 'no-such'"):
        await worker.tool(name="no-such", signals=("USR1",)).run("worker", "usr1", "k")
    both = WatchedProcess(pid_file=worker.pid_file, command="something else")
    with pytest.raises(ToolError, match="it does not match name and command"):
        find_process("worker", both)
    status = await by_name.status()
    assert (status.state, "2 processes match" in status.detail) == (ToolState.UP, True)


async def test_a_restart(worker):
    """Restart runs the command without a shell and returns with the new process."""
    old = worker.start()
    command = (
        sys.executable,
        str(worker.restart),
        str(worker.pid_file),
        *worker.arguments,
        "; touch x",
        "$HOME",
    )
    tool = worker.tool(restart=command)
    result = await tool.run("worker", "restart", "k")
    assert result == f"restarted: process {old.pid} -> {worker.pid}"
    assert worker.pid != old.pid
    assert psutil.Process(worker.pid).cmdline()[-2:] == ["; touch x", "$HOME"]


FAILING = "import sys; print('no unit', file=sys.stderr); sys.exit(3)"
KILLING = "import os, sys, signal; os.kill({pid}, signal.SIGKILL); sys.exit(3)"
HANGING = "import threading; threading.Event().wait(60)"


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (FAILING, ToolError, "ended with exit code 3: no unit; process .* still runs"),  # nothing was changed
        (KILLING, ToolUncertainError, "ended with exit code 3"),  # the old process has ended
        (HANGING, ToolUncertainError, "did not end within"),
        ("pass", ToolUncertainError, "no new process appeared"),  # exits with 0 without restarting anything
    ],
)
async def test_failed_restarts(worker, monkeypatch, code, error, message):
    """A failed command is certain only while the old process still runs."""
    monkeypatch.setattr(process_module, "RESTART_BUDGET_S", 1.5)
    child = worker.start()
    tool = worker.tool(restart=(sys.executable, "-c", code.replace("{pid}", str(child.pid))))
    with pytest.raises(error, match=message) as caught:
        await tool.run("worker", "restart", "k")
    assert isinstance(caught.value, ToolUncertainError) == (error is ToolUncertainError)


async def test_a_missing_program(worker):
    """A command that cannot be started changes nothing."""
    worker.start()
    with pytest.raises(ToolError, match="cannot start /no/such/program") as caught:
        await worker.tool(restart=("/no/such/program",)).run("worker", "restart", "k")
    assert not isinstance(caught.value, ToolUncertainError)


async def test_no_knobs_and_shell_commands(worker):
    """Processes have only actions; each has a shell command."""
    tool = worker.tool(signals=("HUP",), restart=("systemctl", "restart", "a b"))
    assert await tool.knobs("worker") == ()
    for call in (tool.read("worker", "nice"), tool.apply("worker", "nice", 0, 1)):
        with pytest.raises(NotFoundError, match="no knob 'nice'"):
            await call
    assert tool.command("worker", "restart", None) == "systemctl restart 'a b'"
    assert tool.command("worker", "hup", None) == f'kill -HUP "$(cat {worker.pid_file})"'
    by_name = worker.tool(name="nginx", command="master process", signals=("HUP",))
    assert by_name.command("worker", "hup", None) == "pkill -HUP -f 'master process'"
    assert "worker" in tool.grant()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "set pid_file, or name"),
        ({"command": "x"}, "set pid_file, or name"),
        ({"name": "x", "command": "("}, "not a regular expression"),
        ({"name": "x", "signals": ["KILL"]}, "HUP"),
        ({"name": "x", "restart": [""]}, "empty string"),
        ({"name": "x", "stop_timeout": "1m"}, "less than or equal to 25"),
    ],
)
def test_invalid_settings(options, message):
    """An unidentifiable process, another signal or an invalid expression is refused."""
    with pytest.raises(ValidationError, match=message):
        WatchedProcess(**options)
    with pytest.raises(ValidationError, match="which is not defined in processes"):
        ProcessTool(kind="process", targets=("b",), processes={"a": {"name": "x"}})


async def run_python(code, limit_s=20.0, environ=None):
    """Run Python code as a command."""
    return await run_command([sys.executable, "-c", code], limit_s, environ)


async def test_trimtab_variables_are_not_inherited(monkeypatch):
    """Variables with our prefix are not passed on; given ones are."""
    monkeypatch.setenv("TRIMTAB_API__ADMIN_KEY", "s3cret")
    ran = await run_python(
        "import os; print(sorted(n for n in os.environ if n.startswith('TRIM')))", 20, {"TRIM": "1"}
    )
    assert (ran.exit_code, ran.stdout.strip()) == (0, "['TRIM']")


async def test_output_is_limited(monkeypatch):
    """Output above the limit is discarded, and the command ends normally."""
    monkeypatch.setattr(command_runner, "MAX_OUTPUT_BYTES", 1_000)
    ran = await run_python("import sys; sys.stdout.write('x' * 5_000_000)")
    assert ran.exit_code == 0
    assert 1_000 <= len(ran.stdout) < 200_000


async def test_a_command_that_leaves_a_daemon():
    """A daemon that keeps the output open neither blocks the caller nor is killed."""
    daemon = "import threading; print('begun', flush=True); threading.Event().wait(30)"
    started = time.monotonic()
    ran = await run_python(
        "import subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-c', {daemon!r}], start_new_session=True)\n"
        "print(p.pid, flush=True)"
    )
    assert time.monotonic() - started < 15
    daemon_process = psutil.Process(int(ran.stdout.split()[0]))
    assert daemon_process.is_running()
    daemon_process.kill()


async def test_a_hanging_command_is_killed_with_its_children():
    """At the deadline the command's process group is killed."""
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import threading; threading.Event().wait(60)'])\n"
        "open(sys.argv[1], 'w').write(str(p.pid))\n"
        "p.wait()"
    )
    reader, writer = os.pipe()
    with pytest.raises(CommandTimeoutError, match="did not end within 1 s"):
        await run_command([sys.executable, "-c", code, f"/proc/{os.getpid()}/fd/{writer}"], 1.0)
    os.close(writer)
    pid = int(os.read(reader, 20))
    os.close(reader)
    async with asyncio.timeout(10):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 - it is no child of ours
            await asyncio.sleep(0.02)
