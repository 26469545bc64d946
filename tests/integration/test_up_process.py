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
    """One `trimtab up` in its own folder; settings can change while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "trimtab.yaml"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def write_settings(self, **sections: object) -> None:
        """Write the settings file: host source every second, no Prometheus."""
        sources = {"host": {"interval": "1s", "top_processes": 0}, "prometheus": {"enabled": False}}
        base = {"settings": {"data_dir": str(self.data_dir), "log_format": "json"}, "sources": sources}
        self.config.write_text(yaml.safe_dump(base | {"api": {"port": self.port}} | sections))

    @contextmanager
    def running(
        self, env: dict[str, str] | None = None, before: Sequence[str] | None = None
    ) -> Iterator[None]:
        """Run the process for the block, once ready; SIGTERM must end it with exit code 0."""
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
        """Return the status of a health page; None = no answer."""
        try:
            return httpx.get(f"{self.url}/api/health/{which}", timeout=5, trust_env=False).status_code
        except httpx.HTTPError:
            return None

    def logs_no_requests(self) -> bool:
        """Return whether requests write no line to the log."""
        before = self.log_text()
        self.get("status")
        self.get("status")  # the log line of the first request is written by now
        return self.log_text() == before

    def log_text(self) -> str:
        """Return the log so far."""
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> dict:
        """Return the JSON of an API page, requested with the admin key."""
        key = (self.data_dir / "admin.key").read_text().strip()
        answer = httpx.get(
            f"{self.url}/api/{path}", headers={"Authorization": f"Bearer {key}"}, timeout=5, trust_env=False
        )
        answer.raise_for_status()
        return answer.json()


@pytest.fixture
def engine(tmp_path):
    """An engine that is not started."""
    process = EngineProcess(tmp_path)
    process.write_settings()
    return process


def test_the_engine_becomes_ready_and_stops(engine):
    """The engine becomes ready, shows this machine's series, keeps its key secret and exits with 0."""
    with engine.running():
        wait_for(lambda: engine.get("series")["total"] > 10, 20)
        status = engine.get("status")
        assert status["ready"]
        assert status["engine"]["memory_bytes"] > 0
        assert status["engine"]["store"] == "ok"
        assert [source["state"] for source in status["sources"]] == ["up"]
        key_file = engine.data_dir / "admin.key"
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        assert key_file.read_text().strip() not in engine.log_text()
    assert '"event":"stopped"' in engine.log_text()
    with engine.running():
        assert '"event":"state_restored"' in engine.log_text()


UNWANTED_LIBRARIES = {
    "lightgbm", "matplotlib", "mlflow", "pandas", "prometheus_api_client", "psycopg", "redis", "requests",
    "river", "sklearn", "skops",
}  # fmt: skip
"""Libraries of training, recordings and unconfigured systems: 20 to 300 MB each."""
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


def test_watching_a_machine_loads_no_unneeded_library(engine):
    """Watching a machine and viewing its pages loads no library of other work."""
    modules_file = engine.folder / "modules"
    with engine.running(
        before=[sys.executable, "-c", MODULE_LISTING_SCRIPT, "up", "--config", str(engine.config)]
    ):
        wait_for(lambda: engine.get("series")["total"] > 10, 20)
        series_id = engine.get("series")["items"][0]["id"]
        for page in (
            "status",
            "anomalies",
            "incidents",
            "recommendations",
            "forecasts",
            "models",
            "capacity",
        ):
            engine.get(page)
        engine.get(f"series/{series_id}/scores")
        engine.process.send_signal(signal.SIGUSR1)
        wait_for(modules_file.exists, 20)
    loaded = {name.split(".")[0] for name in modules_file.read_text().splitlines()}
    assert {"numba", "fastapi", "sqlalchemy", "collects garbage: True"} <= loaded
    assert not loaded & UNWANTED_LIBRARIES


def test_a_changed_file_is_applied_and_an_invalid_one_is_refused(engine):
    """P17: log level, budget and sources change while running; an invalid file is reported and ignored."""
    with engine.running():
        engine.config.write_text(engine.config.read_text().replace("log_format", "log_fromat"))
        wait_for(lambda: "log_fromat" in str(engine.get("status")["engine"].get("settings")), 20)
        assert engine.get("status")["sources"][0]["interval_s"] == 1.0
        assert not engine.logs_no_requests()
        general = {"data_dir": str(engine.data_dir), "log_format": "json", "log_level": "warning"}
        files = engine.folder / "r.csv"
        files.write_text("time,a\n" + "".join(f"{1_767_225_600 + 60 * k},{k % 7}\n" for k in range(50)))
        sources = {
            "host": {"interval": "2s"},
            "prometheus": {"enabled": False},
            "files": {"paths": ["r.csv"]},
        }
        engine.write_settings(
            settings=general, sources=sources, api={"port": engine.port, "allowed_hosts": ["x"]}
        )
        wait_for(lambda: {s["name"] for s in engine.get("status")["sources"]} == {"files", "host"}, 20)
        wait_for(lambda: engine.get("status")["sources"][1]["interval_s"] == 2.0, 20)
        wait_for(lambda: engine.get("series?source=files")["total"] == 1, 20)
        wait_for(engine.logs_no_requests, 20)
        assert re.search(r"api\.allowed_hosts.*settings_apply_at_next_start", engine.log_text())
        engine.write_settings(settings=general)
        wait_for(lambda: [s["name"] for s in engine.get("status")["sources"]] == ["host"], 20)


def run_to_end(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)


def test_a_second_engine_on_the_folder_is_refused(engine):
    """A second engine on the same data folder ends with exit code 2 and names the first one's process."""
    with engine.running():
        argv = [TRIMTAB, "up", "--config", str(engine.config), "--port", "0"]
        second = run_to_end(argv)
        assert second.returncode == 2
        assert str(engine.process.pid) in second.stderr


def test_a_port_in_use_is_reported(engine):
    """A port in use ends the engine with exit code 2 and advice."""
    with engine.running():
        argv = [TRIMTAB, "up", "--config", str(engine.config), "--data", str(engine.folder / "other")]
        second = run_to_end(argv)
        assert second.returncode == 2
        assert "is in use" in second.stderr


RUN_AS_NOBODY = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
]  # fmt: skip
"""Runs a command as another user who may still read Python and this checkout."""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a process as another user")
def test_it_runs_as_nobody_without_a_home(engine):
    """The engine runs without root, without HOME, and with its data folder as the only writable one."""
    engine.data_dir.mkdir()
    os.chown(engine.data_dir, 65534, 65534)
    env = {name: value for name, value in os.environ.items() if name not in {"HOME", "NUMBA_CACHE_DIR"}}
    env |= {
        "TRIMTAB_SETTINGS__DATA_DIR": str(engine.data_dir),
        "TRIMTAB_API__PORT": str(engine.port),
        "TRIMTAB_SOURCES__HOST__INTERVAL": "1s",
        "TRIMTAB_SOURCES__PROMETHEUS__ENABLED": "false",
    }
    with engine.running(env, [*RUN_AS_NOBODY, TRIMTAB, "up"]):
        assert list((engine.data_dir / "cache" / "kernels").glob("*/compiled-*"))
        assert {path.stat().st_uid for path in engine.data_dir.rglob("*")} == {65534}
