"""A full disk and a read-only one, real ones: small file systems of the test's own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_on_small_disk(folder, then, argument, module="tests.child_processes.store_process"):
    """Run the module in a mount namespace of its own where `folder` is a disk of 2 MB; what it printed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed: apt-get install util-linux")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    probe = subprocess.run([unshare, "--mount", *user, "true"], check=False, capture_output=True)
    if probe.returncode != 0:
        pytest.skip(f"no mount namespace here: {probe.stderr.decode().strip()}")
    script = f'mount -t tmpfs -o size=2m tmpfs "$0" && {then} && exec "$1" -W error -m {module} "$2" "$0"'
    done = subprocess.run(
        [unshare, "--mount", *user, "sh", "-c", script, str(folder), sys.executable, argument],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)


def test_a_full_disk_is_told_and_nothing_is_left_half_written(tmp_path):
    """Events, ticks, snapshots and scores say what to do, stay whole, and go on once there is room."""
    said = run_on_small_disk(tmp_path, 'head -c 1000000 /dev/zero > "$0/ballast"', "fill")
    for what in ("events", "ticks", "snapshot", "scores"):
        assert "disk is full" in said[what], said
        assert "free space" in said[what]
    assert said["left"] == "[]"


def test_a_read_only_disk_is_told(tmp_path):
    """With the path, and what to do."""
    said = run_on_small_disk(tmp_path, 'mount -o remount,ro "$0"', "refuse")
    assert set(said) == {"events", "ticks", "snapshot"}
    for what, message in said.items():
        assert str(tmp_path) in message
        assert "read-only: remount it, or choose another folder" in message, what
