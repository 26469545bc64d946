"""Actions on a full disk and on a disk that becomes read-only, with real file systems."""

from tests.integration.test_store_disk import run_on_small_disk


def test_on_a_full_disk_no_action_runs_without_its_audit_row(tmp_path):
    """On a full disk actions are refused with advice; they resume automatically once space is free."""
    ballast = 'head -c 1000000 /dev/zero > "$0/ballast"'
    output = run_on_small_disk(tmp_path, ballast, "fill", "tests.child_processes.action_process")
    assert "disk is full" in output["acting"]
    assert int(output["actions"]) > 5


def test_on_a_read_only_disk_no_action_runs(tmp_path):
    """On a read-only disk neither actions nor pauses take effect; once it is writable, both do."""
    output = run_on_small_disk(tmp_path, "true", "refuse", "tests.child_processes.action_process")
    assert "read-only" in output["acting"]
    assert output["actions"] == "2"
