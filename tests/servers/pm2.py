"""A real PM2 for tests: installed by npm into its own directory, stopped by its own command."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.servers.prometheus import find_binary, free_port

NODE_SERVICE = """
const http = require('http');
let stopping = false;
const server = http.createServer((request, response) => {
  response.setHeader('Connection', 'close');
  setTimeout(() => response.end(String(process.pid)), 5);
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => process.send && process.send('ready'));
process.on('SIGINT', () => {
  if (stopping) return;
  stopping = true;
  server.close();
  setTimeout(() => process.exit(0), 300);
});
"""
"""On SIGINT it closes its listener, finishes open requests, then stops."""


def install_pm2(folder: Path) -> str:
    """Return the path of the command pm2; skip when npm cannot install it."""
    find_binary("node")
    argv = [
        find_binary("npm"),
        "install",
        "--prefix",
        str(folder),
        "--no-audit",
        "--no-fund",
        "--silent",
        "pm2",
    ]
    completed = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if completed.returncode != 0:
        pytest.skip(f"npm cannot install pm2: {completed.stderr.strip()[-200:]}")
    return str(folder / "node_modules" / ".bin" / "pm2")


@dataclass
class Pm2Server:
    """A PM2 with its own home; its daemon runs from the first `start` on."""

    command: str
    home: Path
    port: int = field(default_factory=free_port)

    def pm2(self, *words: str) -> str:
        """Run pm2, which must succeed, and return its output."""
        environ = {**os.environ, "PM2_HOME": str(self.home), "PORT": str(self.port), "NO_COLOR": "1"}
        argv = [self.command, *words]
        completed = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout

    def start(self, name: str, *more: str) -> None:
        """Start the service under a name and wait until it is ready."""
        script = self.home / "service.js"
        script.write_text(NODE_SERVICE)
        self.pm2("start", str(script), "--name", name, "--wait-ready", *more)


@contextmanager
def start_pm2(command: str, home: Path) -> Iterator[Pm2Server]:
    """Start a PM2 and stop it in any case. The home is short because Unix sockets are created in it."""
    home.mkdir(parents=True)
    server = Pm2Server(command, home)
    try:
        yield server
    finally:
        if (home / "pm2.pid").exists():
            server.pm2("kill")
        shutil.rmtree(home, ignore_errors=True)


class LoadGenerator:
    """Sends requests from threads, each on a new connection; counts answers and errors."""

    def __init__(self, port: int, path: str = "/", threads: int = 2, pause_s: float = 0.0) -> None:
        self.port = port
        self.path = path
        self.pause_s = pause_s
        self.answered_count = 0
        self.errors: list[str] = []
        self.pids: set[str] = set()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send_requests, daemon=True) for _ in range(threads)]

    def _send_requests(self) -> None:
        while not self._stop.wait(self.pause_s):
            connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                connection.request("GET", self.path, headers={"Connection": "close"})
                answer = connection.getresponse()
                pid = answer.read().decode()[-8:]
                problem = "" if answer.status == 200 and pid else f"HTTP {answer.status}"
            except (OSError, HTTPException) as error:
                pid, problem = "", f"{type(error).__name__}: {error}"
            finally:
                connection.close()
            with self._lock:
                if problem:
                    self.errors.append(problem)
                else:
                    self.answered_count += 1
                    self.pids.add(pid)

    def __enter__(self) -> "LoadGenerator":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)
