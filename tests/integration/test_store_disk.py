"""The store on a full and on a read-only disk (small real file systems)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_on_small_disk(folder, command, argument, module="tests.child_processes.store_process"):
    """Run the module in a mount namespace where `folder` is a 2 MB disk; return its output."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed: apt-get install util-linux")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    probe = subprocess.run([unshare, "--mount", *user, "true"], check=False, capture_output=True)
    if probe.returncode != 0:
        pytest.skip(f"no mount namespace here: {probe.stderr.decode().strip()}")
    script = f'mount -t tmpfs -o size=2m tmpfs "$0" && {command} && exec "$1" -W error -m {module} "$2" "$0"'
    completed = subprocess.run(
        [unshare, "--mount", *user, "sh", "-c", script, str(folder), sys.executable, argument],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    return dict(line.split(": ", 1) for line in completed.stdout.splitlines() if ": " in line)


def test_a_full_disk_is_reported_and_corrupts_nothing(tmp_path):
    """Events, ticks, snapshots and scores give advice, stay intact, and work again after space is freed."""
    output = run_on_small_disk(tmp_path, 'head -c 1000000 /dev/zero > "$0/ballast"', "fill")
    for part in ("events", "ticks", "snapshot", "scores"):
        assert "disk is full" in output[part], output
        assert "free space" in output[part]
    assert output["left"] == "[]"


def test_a_read_only_disk_is_reported(tmp_path):
    """The message contains the path and advice."""
    output = run_on_small_disk(tmp_path, 'mount -o remount,ro "$0"', "refuse")
    assert set(output) == {"events", "ticks", "snapshot"}
    for part, message in output.items():
        assert str(tmp_path) in message
        assert "read-only: remount it, or choose another folder" in message, part
