"""A leaking worker under a real PM2, with load on it, and settings of an engine that watches it."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.pm2 import LoadGenerator, Pm2Server, install_pm2, start_pm2
from tests.servers.prometheus import free_port

MIB = 2**20
MEMORY_LIMIT_BYTES = 400 * MIB
"""PM2 restarts an instance that takes more."""
LEAK_BYTES = 40_000
"""Bytes leaked per request."""
APP_NAME = "leaky"


@dataclass(frozen=True)
class LeakingWorker:
    """The application with two instances, and its load."""

    pm2: Pm2Server
    load: LoadGenerator

    def instances(self) -> list[dict[str, Any]]:
        """Return the instances as PM2 lists them."""
        processes: list[dict[str, Any]] = json.loads(self.pm2.pm2("jlist").splitlines()[-1])
        return [process for process in processes if process["name"] == APP_NAME]

    def pids(self) -> set[int]:
        """Return the process ids of the running instances."""
        return {process["pid"] for process in self.instances()}

    def restart_count(self) -> int:
        """Return the restarts and reloads of all instances since their start."""
        return sum(process["pm2_env"]["restart_time"] for process in self.instances())

    def settings(self, mode: str) -> dict[str, Any]:
        """Return settings of an engine that watches the worker, ten times as fast.

        The engine then reads every second, and PM2 answers more slowly on a busy machine, so late samples are
        allowed.
        """
        tool = {
            "command": [self.pm2.command], "home": str(self.pm2.home), "targets": [APP_NAME], "timeout": 9.0,
            "mode": mode, "trial": True,
        }  # fmt: skip
        return {
            "sources": {"host": {"enabled": False}},
            "tools": {"pm2": tool},
            "guardrails": {"time_scale": 0.1, "fresh_intervals": 10.0, "window_present": 0.5},
        }


@contextmanager
def start_leaking_worker(directory: Path) -> Iterator[LeakingWorker]:
    """Start PM2, the leaking application and constant load. PM2's home needs a short path."""
    command, port = install_pm2(directory / "pm2"), free_port()
    app = {
        "name": APP_NAME, "script": sys.executable, "interpreter": "none",
        "cwd": str(Path(__file__).parents[2]),
        "args": ["-m", "tests.services.leaky_service", "--port", str(port), "--leak-bytes", str(LEAK_BYTES)],
        "instances": 2, "exec_mode": "fork", "wait_ready": True, "listen_timeout": 20_000,
        "kill_timeout": 5_000, "max_memory_restart": MEMORY_LIMIT_BYTES,
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="pm2-") as short_dir,
        start_pm2(command, Path(short_dir) / "h") as pm2,
    ):
        ecosystem = pm2.home / "ecosystem.config.cjs"
        ecosystem.write_text(f"module.exports = {json.dumps({'apps': [app]})}")
        pm2.pm2("start", str(ecosystem))
        with LoadGenerator(port, "/items/3", pause_s=0.04) as load:
            yield LeakingWorker(pm2, load)
