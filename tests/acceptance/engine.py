"""`trimtab up` as a child process, and helpers that query its API."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.servers.prometheus import ServerProcess, free_port, responds_with_200

TRIMTAB = Path(sys.executable).with_name("trimtab")
READY_TIMEOUT_S = 240.0


@dataclass
class EngineProcess(ServerProcess):
    """The engine as a child process.

    data_dir   : its data folder; settings file and log are in the parent folder
    key        : admin key
    started_at : monotonic time of the start, seconds
    startup_s  : seconds from the start until it was ready
    """

    data_dir: Path = field(default_factory=Path)
    key: str = ""
    started_at: float = 0.0
    startup_s: float = 0.0

    def start_and_wait(self) -> None:
        """Start the engine, wait until it is ready and read its key."""
        self.started_at = time.monotonic()
        self.start(READY_TIMEOUT_S)
        self.startup_s = time.monotonic() - self.started_at
        self.key = (self.data_dir / "admin.key").read_text().strip()

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a GET request."""
        return self.request("GET", path, params=query)

    def request(self, method: str, path: str, key: str = "", **more: Any) -> Any:
        """Return the JSON of a request with the admin key or another key."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        answer = httpx.request(
            method, f"{self.url}/api/{path}", headers=headers, timeout=40, trust_env=False, **more
        )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def create_key(self, name: str, *scopes: str) -> str:
        """Create a key on the command line."""
        scope_options = [argument for scope in scopes for argument in ("--scope", scope)]
        return self.run_command("key", "create", name, *scope_options).stdout.strip()

    def run_command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another `trimtab` command with the same settings; it must succeed."""
        argv = [TRIMTAB, *words, "--config", self.data_dir.parent / "trimtab.yaml"]
        completed = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed

    def list_all(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return all items of a list, page by page."""
        items: list[dict[str, Any]] = []
        after = None
        while after is not None or not items:
            page = self.get(path, limit=500, **query, **({"after": after} if after else {}))
            items += page["items"]
            after = page["next"]
            if after is None:
                break
        return items

    def source_status(self, name: str) -> dict[str, Any]:
        """Return the status of a source."""
        result: dict[str, Any] = next(s for s in self.get("status")["sources"] if s["name"] == name)
        return result

    def login_link(self) -> str:
        """Return a link that logs a browser in."""
        return self.run_command("key", "login").stdout.strip()


@contextmanager
def trimtab_up(
    directory: Path, settings: dict[str, Any], more: Sequence[str] = ()
) -> Iterator[EngineProcess]:
    """Run `trimtab up` with these settings and its data in directory/data; yields when it is ready."""
    directory.mkdir(parents=True, exist_ok=True)
    port, data, config = free_port(), directory / "data", directory / "trimtab.yaml"
    general = {"data_dir": str(data), **settings.get("settings", {})}
    config.write_text(yaml.safe_dump({**settings, "settings": general, "api": {"port": port}}))
    engine = EngineProcess(
        argv=[str(TRIMTAB), "up", "--config", str(config), *more], port=port, log=directory / "trimtab.log",
        is_ready=responds_with_200(f"http://127.0.0.1:{port}/api/health/ready"), data_dir=data,
    )  # fmt: skip
    try:
        engine.start_and_wait()
        yield engine
    finally:
        engine.stop()


@contextmanager
def busy_core(core: int) -> Iterator[subprocess.Popen[bytes]]:
    """Keep one core busy with `yes`."""
    hog = subprocess.Popen(["taskset", "-c", str(core), "yes"], stdout=subprocess.DEVNULL)
    try:
        yield hog
    finally:
        hog.kill()
        hog.wait(10)


def wait_until(check: Callable[[], Any], timeout_s: float, pause_s: float = 0.5) -> Any:
    """Return the first truthy result of `check()`; fail after `timeout_s`.

    Polls slowly, because the watched machine is the one that polls.
    """
    end = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (result := check()):
        assert time.monotonic() < end, f"still false after {timeout_s:.0f} s"
        pause.wait(pause_s)
    return result


def assert_always(check: Callable[[], Any], for_s: float, pause_s: float = 1.0) -> None:
    """Fail as soon as `check()` is falsy within `for_s` seconds."""
    end = time.monotonic() + for_s
    pause = threading.Event()
    while (left_s := end - time.monotonic()) > 0:
        assert check(), f"became false {left_s:.0f} s before the end"
        pause.wait(pause_s)


def unix_seconds(iso: str) -> float:
    """Return the Unix time of an API time."""
    return datetime.fromisoformat(iso).timestamp()


def available_cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))
