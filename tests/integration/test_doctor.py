"""`trimtab doctor` as a process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.prometheus import free_port, start_exporter, start_prometheus, wait_for
from trimtab.engine.cli.command_errors import EXIT_FOUND, EXIT_OK, EXIT_UNREACHABLE
from trimtab.engine.store.lease import FolderLease

TRIMTAB = Path(sys.executable).with_name("trimtab")
GAUGES = "# TYPE queue_depth gauge\n" + "".join(f'queue_depth{{queue="{q}"}} 3\n' for q in range(20))


@pytest.fixture
def doctor(tmp_path):
    """Runs the command in an empty folder; returns exit code, and checks by name."""

    def run(*arguments, settings=""):
        (tmp_path / "trimtab.yaml").write_text(settings or "sources: {host: {enabled: true}}\n")
        port = [] if "--port" in arguments else ["--port", str(free_port())]
        completed = subprocess.run(
            [TRIMTAB, "doctor", "-f", "json", "--data", str(tmp_path / "data"), *port, *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert completed.returncode in {EXIT_OK, EXIT_FOUND, EXIT_UNREACHABLE}, completed.stderr
        return completed.returncode, {row["check"]: row for row in json.loads(completed.stdout)}

    return run


def test_a_fresh_machine_passes_all_checks(doctor, tmp_path):
    """Without a data folder and a Prometheus all checks pass, and nothing is created."""
    code, checks = doctor()
    assert {name: row["state"] for name, row in checks.items() if row["state"] != "ok"} == {}
    assert code == EXIT_OK
    assert "this machine" in checks["host"]["detail"]
    assert not (tmp_path / "data").exists()


def test_an_unreachable_prometheus_is_reported(doctor):
    """An unreachable source gives exit code 3 and its address."""
    url = f"http://127.0.0.1:{free_port()}"
    code, checks = doctor("--prometheus", url)
    assert code == EXIT_UNREACHABLE
    assert checks["prometheus"]["state"] == "unreachable"
    assert url in checks["prometheus"]["detail"]


@pytest.mark.slow
def test_series_over_the_cap_are_listed(doctor, tmp_path):
    """Series over the cap are listed; the duration of a read and the clock skew are reported."""
    with (
        start_exporter(GAUGES) as exporter,
        start_prometheus(tmp_path / "p", {"q": [exporter.address]}) as server,
    ):
        wait_for(lambda: bool(server.query("count(queue_depth) == 20")), 30)
        small = "settings: {max_series: 5}\nsources: {host: {enabled: false}}\n"
        code, checks = doctor("--prometheus", server.url, settings=small)
    assert code == EXIT_FOUND
    assert any("queue_depth" in item for item in checks["prometheus"]["items"])
    assert "a read takes" in checks["prometheus"]["detail"]
    assert checks["clock"]["state"] == "ok"


def test_mistakes_in_the_settings_are_all_listed(doctor):
    """Each mistake in the settings file is one item."""
    code, checks = doctor(settings="api: {prot: 1}\nretention: {days: -3}\n")
    assert code == EXIT_FOUND
    assert len(checks["settings"]["items"]) == 2


def test_settings_that_prevent_the_start_are_found(doctor):
    """An address that `trimtab up` refuses and an unknown detector are found."""
    code, checks = doctor("--host", "0.0.0.0", settings="settings: {detectors: [ew_zscor]}\n")
    assert code == EXIT_FOUND
    assert "other machines" in checks["api"]["detail"]
    assert "ew_zscore" in checks["detectors"]["detail"]


def test_a_port_in_use_is_found(doctor):
    """A port used by another process is found."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, checks = doctor("--port", str(other.getsockname()[1]))
    assert code == EXIT_FOUND
    assert checks["port"]["state"] == "found"


def test_a_running_engine_is_no_problem(doctor, tmp_path):
    """A data folder and port used by a running engine are fine."""
    with FolderLease(tmp_path / "data", lambda: 0), socket.socket() as engine_socket:
        engine_socket.bind(("127.0.0.1", 0))
        engine_socket.listen()
        code, checks = doctor("--port", str(engine_socket.getsockname()[1]))
    assert code == EXIT_OK
    assert (
        f"in use by an engine: process {os.getpid()} on {socket.gethostname()}, since 1970-01-01"
        in (checks["data folder"]["detail"])
    )
