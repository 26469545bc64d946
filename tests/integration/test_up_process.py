"""`trimtab up` as a process: start, readiness, reload, refusals, stop."""

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.servers.prometheus import free_port, wait_for

TRIMTAB = str(Path(sys.executable).with_name("trimtab"))


class EngineProcess:
    """One `trimtab up` in a folder of its own; settings can be changed while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "trimtab.yaml"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def write_settings(self, **sections: object) -> None:
        """The settings file; host every second, no Prometheus."""
        sources = {"host": {"interval": "1s", "top_processes": 0}, "prometheus": {"enabled": False}}
        base = {"settings": {"data_dir": str(self.data_dir), "log_format": "json"}, "sources": sources}
        self.config.write_text(yaml.safe_dump(base | {"api": {"port": self.port}} | sections))

    @contextmanager
    def running(
        self, env: dict[str, str] | None = None, before: Sequence[str] | None = None
    ) -> Iterator[None]:
        """The process, ready; stopped by SIGTERM, which must end it well."""
        with self.log.open("wb") as log:
            argv = before or [TRIMTAB, "up", "--config", str(self.config)]
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env=env, cwd="/")
        try:
            wait_for(lambda: self.health_status("live") == 200 or self.process.poll() is not None, 60)
            wait_for(lambda: self.health_status("ready") == 200 or self.process.poll() is not None, 120)
            assert self.process.poll() is None, self.log_text()
            yield
        finally:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(5) == 0, self.log_text()

    def health_status(self, which: str) -> int | None:
        """Status of a health page, None where nobody answers."""
        try:
            return httpx.get(f"{self.url}/api/health/{which}", timeout=5, trust_env=False).status_code
        except httpx.HTTPError:
            return None

    def logs_no_requests(self) -> bool:
        """Whether requests leave no line in the log."""
        before = self.log_text()
        self.get("status")
        self.get("status")  # by now the line of the first one is there
        return self.log_text() == before

    def log_text(self) -> str:
        """The log so far."""
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> dict:
        """An API page, by the admin key."""
        key = (self.data_dir / "admin.key").read_text().strip()
        answer = httpx.get(
            f"{self.url}/api/{path}", headers={"Authorization": f"Bearer {key}"}, timeout=5, trust_env=False
        )
        answer.raise_for_status()
        return answer.json()


@pytest.fixture
def up(tmp_path):
    """An engine that is not started."""
    engine = EngineProcess(tmp_path)
    engine.write_settings()
    return engine


def test_up_is_ready_and_stops_well(up):
    """It becomes ready, shows this machine's series, keeps its key to itself, and ends with exit code 0."""
    with up.running():
        wait_for(lambda: up.get("series")["total"] > 10, 20)
        status = up.get("status")
        assert status["ready"]
        assert status["engine"]["memory_bytes"] > 0
        assert status["engine"]["store"] == "ok"
        assert [source["state"] for source in status["sources"]] == ["up"]
        key_file = up.data / "admin.key"
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        assert key_file.read_text().strip() not in up.said()
    assert '"event":"stopped"' in up.said()
    with up.running():
        assert '"event":"going on"' in up.said()


UNWANTED_LIBRARIES = {
    "lightgbm", "matplotlib", "mlflow", "pandas", "prometheus_api_client", "psycopg", "redis", "requests",
    "river", "sklearn", "skops",
}  # fmt: skip
"""Libraries of training, recordings and systems that nobody configured: from 20 to 300 MB each."""
MODULE_LISTING_SCRIPT = """
import gc, signal, sys
from pathlib import Path
from trimtab.engine.cli.main import main

def tell(*_):
    part = Path(sys.argv[3]).with_name("modules.part")
    part.write_text("\\n".join([*sys.modules, f"collects garbage: {gc.isenabled()}"]))
    part.replace(part.with_name("modules"))

signal.signal(signal.SIGUSR1, tell)
main()
"""


def test_watching_a_machine_loads_nothing_that_is_for_other_work(up):
    """With its page and a series asked for, libraries that only other work needs are not in the process."""
    told = up.folder / "modules"
    with up.running(before=[sys.executable, "-c", MODULE_LISTING_SCRIPT, "up", "--config", str(up.config)]):
        wait_for(lambda: up.get("series")["total"] > 10, 20)
        one = up.get("series")["items"][0]["id"]
        for page in (
            "status",
            "anomalies",
            "incidents",
            "recommendations",
            "forecasts",
            "models",
            "capacity",
        ):
            up.get(page)
        up.get(f"series/{one}/scores")
        up.process.send_signal(signal.SIGUSR1)
        wait_for(told.exists, 20)
    loaded = {name.split(".")[0] for name in told.read_text().splitlines()}
    assert {"numba", "fastapi", "sqlalchemy", "collects garbage: True"} <= loaded
    assert not loaded & UNWANTED_LIBRARIES


def test_a_changed_file_is_applied_and_an_invalid_one_is_refused(up):
    """P17: log level, budget and sources change while it runs; a mistake changes nothing and is told."""
    with up.running():
        up.config.write_text(up.config.read_text().replace("log_format", "log_fromat"))
        wait_for(lambda: "log_fromat" in str(up.get("status")["engine"].get("settings")), 20)
        assert up.get("status")["sources"][0]["interval_s"] == 1.0
        assert not up.is_silent()
        general = {"data_dir": str(up.data), "log_format": "json", "log_level": "warning"}
        files = up.folder / "r.csv"
        files.write_text("time,a\n" + "".join(f"{1_767_225_600 + 60 * k},{k % 7}\n" for k in range(50)))
        sources = {
            "host": {"interval": "2s"},
            "prometheus": {"enabled": False},
            "files": {"paths": ["r.csv"]},
        }
        up.write(settings=general, sources=sources, api={"port": up.port, "allowed_hosts": ["x"]})
        wait_for(lambda: {s["name"] for s in up.get("status")["sources"]} == {"files", "host"}, 20)
        wait_for(lambda: up.get("status")["sources"][1]["interval_s"] == 2.0, 20)
        wait_for(lambda: up.get("series?source=files")["total"] == 1, 20)
        wait_for(up.is_silent, 20)
        assert re.search(r"takes effect at the next start.*|api.allowed_hosts", up.said())
        up.write(settings=general)
        wait_for(lambda: [s["name"] for s in up.get("status")["sources"]] == ["host"], 20)


def run_to_end(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)


def test_a_second_engine_on_the_folder_is_refused(up):
    """Another `up` on the same data folder ends with exit code 2 and says who works there."""
    with up.running():
        argv = [TRIMTAB, "up", "--config", str(up.config), "--port", "0"]
        second = run_to_end(argv)
        assert second.returncode == 2
        assert str(up.process.pid) in second.stderr


def test_a_port_that_is_taken_is_said(up):
    """A port in use ends it with exit code 2 and what to do."""
    with up.running():
        argv = [TRIMTAB, "up", "--config", str(up.config), "--data", str(up.folder / "other")]
        second = run_to_end(argv)
        assert second.returncode == 2
        assert "is in use" in second.stderr


RUN_AS_NOBODY = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
]  # fmt: skip
"""Becomes another user, who may read what Python and this checkout are made of, wherever they stand."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; this user is none")
def test_it_runs_as_nobody_without_a_home(up):
    """Not as root, without HOME, with nothing writable but its data folder, it starts and stops well."""
    up.data.mkdir()
    os.chown(up.data, 65534, 65534)
    env = {name: value for name, value in os.environ.items() if name not in {"HOME", "NUMBA_CACHE_DIR"}}
    env |= {
        "TRIMTAB_SETTINGS__DATA_DIR": str(up.data),
        "TRIMTAB_API__PORT": str(up.port),
        "TRIMTAB_SOURCES__HOST__INTERVAL": "1s",
        "TRIMTAB_SOURCES__PROMETHEUS__ENABLED": "false",
    }
    with up.running(env, [*RUN_AS_NOBODY, TRIMTAB, "up"]):
        assert list((up.data / "cache" / "kernels").glob("*/compiled-*"))
        assert {path.stat().st_uid for path in up.data.rglob("*")} == {65534}
