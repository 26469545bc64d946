"""The closed loop on a leaking worker under a real PM2: reloaded early, without a failed request."""

from typing import Any

import pytest

from tests.acceptance.engine import EngineProcess, assert_always, trimtab_up
from tests.acceptance.loop import (
    NO_ACTION_FOR_S,
    find_series,
    wait_for_action,
    wait_for_action_end,
    wait_for_audit,
    wait_for_incident,
    wait_for_recommendation,
)
from tests.acceptance.worker import APP_NAME, MEMORY_LIMIT_BYTES, LeakingWorker, start_leaking_worker

pytestmark = [pytest.mark.acceptance, pytest.mark.trials]

INCIDENT_WITHIN_S = 420.0
"""Seconds until the incident: the pattern needs two minutes of rising memory, more on a slow machine."""


def test_auto_mode_reloads_a_leaking_worker(tmp_path):
    """Mode auto: the worker is reloaded before the memory limit, without a failed request."""
    with start_leaking_worker(tmp_path) as worker, start_engine(tmp_path, worker, "auto") as engine:
        before = worker.pids()
        recommendation = wait_for_leak_recommendation(engine, worker)
        action = wait_for_action(engine, recommendation)
        assert (action["by"], action["mode"]) == ("trimtab", "auto")
        assert_reloaded(engine, worker, before, recommendation, action)


def test_approve_mode_reloads_after_an_approval(tmp_path):
    """Mode approve: the worker runs on until an operator approves; then as in mode auto."""
    with start_leaking_worker(tmp_path) as worker, start_engine(tmp_path, worker, "approve") as engine:
        before = worker.pids()
        recommendation = wait_for_leak_recommendation(engine, worker)
        assert_always(lambda: not engine.list_all("actions"), NO_ACTION_FOR_S)
        assert worker.pids() == before
        path = f"recommendations/{recommendation['id']}/approve"
        engine.request("POST", path, key=engine.create_key("ann", "read", "approve"))
        action = wait_for_action(engine, recommendation)
        assert (action["by"], action["mode"]) == ("ann", "approve")
        assert_reloaded(engine, worker, before, recommendation, action)


def test_recommend_mode_reloads_nothing(tmp_path):
    """Mode recommend: the reload is recommended with its command, and nothing is done."""
    with start_leaking_worker(tmp_path) as worker, start_engine(tmp_path, worker, "recommend") as engine:
        before = worker.pids()
        recommendation = wait_for_leak_recommendation(engine, worker)
        assert (recommendation["mode"], recommendation["state"]) == ("recommend", "pending")
        assert f"reload {APP_NAME}" in recommendation["command"]
        assert_always(lambda: not engine.list_all("actions"), NO_ACTION_FOR_S)
        assert (worker.pids(), worker.restart_count()) == (before, 0)


def start_engine(directory, worker: LeakingWorker, mode: str) -> Any:
    """Start an engine that watches the worker."""
    return trimtab_up(directory / "trimtab", worker.settings(mode))


def wait_for_leak_recommendation(engine: EngineProcess, worker: LeakingWorker) -> dict[str, Any]:
    """Return the recommendation against the leak, which comes long before the memory limit."""
    incident = wait_for_incident(engine, "memory_leak", INCIDENT_WITHIN_S)
    used = find_series(engine, "pm2_memory_largest_bytes")["value"]
    print(f"named at {used / MEMORY_LIMIT_BYTES:.0%} of its limit")
    assert (used < MEMORY_LIMIT_BYTES, worker.restart_count()) == (True, 0)
    found = wait_for_recommendation(engine, incident)
    assert (found["tool"], found["target"], found["subject"]) == ("pm2", APP_NAME, "reload")
    assert (found["pattern"], found["proposer"]) == ("memory_leak", "trimtab")
    return found


def assert_reloaded(
    engine: EngineProcess,
    worker: LeakingWorker,
    before: set[int],
    recommendation: dict[str, Any],
    action: dict[str, Any],
) -> None:
    """Each instance is reloaded once by the engine, uses less memory, and no request fails."""
    done = wait_for_action_end(engine, action)
    print(f"{worker.load.answered_count} requests answered, {len(worker.load.errors)} lost")
    assert done["state"] == "kept", done
    assert done["told"].startswith(f"reload of {APP_NAME}: 2 instances")
    assert not worker.pids() & before
    assert worker.restart_count() == 2
    assert worker.load.errors == []
    assert worker.load.answered_count > 1000
    effect = done["outcome"]["effect"]
    assert effect["high"] < effect["before"]
    assert wait_for_audit(engine, done["id"], "kept") == ["proposed", "executing", "verifying", "kept"]
    assert wait_for_audit(engine, recommendation["id"], "closed")[0] == "proposed"
