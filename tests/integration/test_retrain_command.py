"""`trimtab retrain` as a cron job: exit codes, kills, and no unexpected network access."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.engine import TRIMTAB, wait_until
from tests.builders.model_store import load_history
from trimtab.pipelines.model_registry.model_store import ModelStore

HOOK = """
import sys
def report_lookup(event, args):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(args[1], tuple)):
        print("LOOKUP", args, file=sys.stderr, flush=True)
sys.addaudithook(report_lookup)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings, settings, and a hook that reports each address lookup."""
    folder = tmp_path_factory.mktemp("retrain")
    (folder / "past").mkdir()
    load_history(days=28).to_parquet(folder / "past" / "requests.parquet")
    settings = {"schedulers": {"load": {"step": "1h", "horizon": "24h", "fit_window": "400d"}}}
    (folder / "trimtab.yaml").write_text(json.dumps(settings))
    (folder / "sitecustomize.py").write_text(HOOK)
    return folder


def command(folder, data, *more):
    """Return the command line."""
    return [
        sys.executable, str(TRIMTAB), "retrain", "--history", str(folder / "past"), "--data", str(data),
        "--config", str(folder / "trimtab.yaml"), *more,
    ]  # fmt: skip


def run(folder, data, *more):
    """Return exit code, stdout and stderr."""
    completed = subprocess.run(
        command(folder, data, *more), capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    return completed.returncode, completed.stdout, completed.stderr


@pytest.mark.slow
def test_killed_run_is_resumed_without_network_access(folder, tmp_path):
    """A killed run leaves no model, the next one resumes it, and no host is contacted."""
    data = tmp_path / "data"
    process = subprocess.Popen(
        command(folder, data), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ
    )
    runs = data / "training" / "load"
    wait_until(lambda: list(runs.glob("*/history.parquet")), 120.0, 0.1)
    process.kill()
    process.wait(10)
    store = ModelStore(data / "models" / "load")
    assert store.index().versions == {}
    code, out, err = run(folder, data, "--by", "anna")
    assert (code, "is the champion" in out) == (0, True), err
    assert "load: judge\nload: fit\nload: log\nload: gate" in err
    assert "LOOKUP" not in err
    assert len(list(runs.glob("*/run.json"))) == 1
    champion = store.index().champion
    code, out, _ = run(folder, data)
    assert (code, "nothing new" in out) == (0, True)
    assert store.index().champion == champion
    audit = subprocess.run(
        [str(TRIMTAB), "audit", "export", "--data", str(data)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert [json.loads(line)["actor"] for line in audit.stdout.splitlines()] == ["anna"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--history", "up"), 3, "did not answer"),  # no Prometheus at this address
        (("--since", "1d"), 3, "there is no sample of"),  # all samples are older
        (("--history", "./nowhere"), 3, "there is no folder './nowhere'"),  # a missing folder
        (("policy",), 2, "no pipeline 'policy'"),
        # shorter than the horizon
        (("--since", "10m"), 2, "--since '10m': schedulers.load: fit_window is 600 s"),
    ],
)
def test_failed_training_states_the_reason(folder, tmp_path, more, code, message):
    """A missing source exits with 3, invalid use with 2; both state the reason."""
    unreachable = {"sources": {"prometheus": {"url": "http://127.0.0.1:9"}}}
    config = Path(tmp_path / "away.yaml")
    config.write_text(json.dumps(unreachable))
    found, _, err = run(folder, tmp_path / "data", "--config", str(config), *more)
    assert (found, message in err) == (code, True), err
