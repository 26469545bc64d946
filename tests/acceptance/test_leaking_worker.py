"""The whole loop on a leaking worker under a real PM2: named early, and reloaded without a lost request."""

from typing import Any

import pytest

from tests.acceptance.engine import Engine, always, trimtab_up
from tests.acceptance.loop import WAITS_S, advised, audited, begun, ended, figure, seen
from tests.acceptance.worker import LIMIT, NAME, Worker, leaking_worker

pytestmark = [pytest.mark.acceptance, pytest.mark.trials]

NAMED_S = 420.0
"""Two minutes of rising memory are needed, which many a slow machine needs longer for."""


def test_without_a_person(tmp_path):
    """Mode auto: the leak is recognised before the memory limit, the worker reloaded, and no request lost."""
    with leaking_worker(tmp_path) as worker, engine_of(tmp_path, worker, "auto") as engine:
        before = worker.pids()
        recommendation = leaking(engine, worker)
        action = begun(engine, recommendation)
        assert (action["by"], action["mode"]) == ("trimtab", "auto")
        is_reloaded(engine, worker, before, recommendation, action)


def test_with_an_approval(tmp_path):
    """Mode approve: the worker runs on until a person approves, and then the same as by auto."""
    with leaking_worker(tmp_path) as worker, engine_of(tmp_path, worker, "approve") as engine:
        before = worker.pids()
        recommendation = leaking(engine, worker)
        always(lambda: not engine.every("actions"), WAITS_S)
        assert worker.pids() == before
        path = f"recommendations/{recommendation['id']}/approve"
        engine.ask("POST", path, key=engine.new_key("ann", "read", "approve"))
        action = begun(engine, recommendation)
        assert (action["by"], action["mode"]) == ("ann", "approve")
        is_reloaded(engine, worker, before, recommendation, action)


def test_a_recommendation_is_all_that_mode_recommend_gives(tmp_path):
    """The reload is advised, with its command, and nothing is done."""
    with leaking_worker(tmp_path) as worker, engine_of(tmp_path, worker, "recommend") as engine:
        before = worker.pids()
        recommendation = leaking(engine, worker)
        assert (recommendation["mode"], recommendation["state"]) == ("recommend", "pending")
        assert f"reload {NAME}" in recommendation["command"]
        always(lambda: not engine.every("actions"), WAITS_S)
        assert (worker.pids(), worker.restarts()) == (before, 0)


def engine_of(directory, worker: Worker, mode: str) -> Any:
    """An engine that watches it."""
    return trimtab_up(directory / "trimtab", worker.settings(mode))


def leaking(engine: Engine, worker: Worker) -> dict[str, Any]:
    """What is advised against the leak, which is named while its limit is far."""
    incident = seen(engine, "memory_leak", NAMED_S)
    used = figure(engine, "pm2_memory_largest_bytes")["value"]
    print(f"named at {used / LIMIT:.0%} of its limit")
    assert (used < LIMIT, worker.restarts()) == (True, 0)
    found = advised(engine, incident)
    assert (found["tool"], found["target"], found["subject"]) == ("pm2", NAME, "reload")
    assert (found["pattern"], found["proposer"]) == ("memory_leak", "trimtab")
    return found


def is_reloaded(
    engine: Engine,
    worker: Worker,
    before: set[int],
    recommendation: dict[str, Any],
    action: dict[str, Any],
) -> None:
    """Each instance once, by the engine and not by the limit, to less memory, kept, no request lost."""
    done = ended(engine, action)
    print(f"{worker.load.answered} requests answered, {len(worker.load.lost)} lost")
    assert done["state"] == "kept", done
    assert done["told"].startswith(f"reload of {NAME}: 2 instances")
    assert not worker.pids() & before
    assert worker.restarts() == 2
    assert worker.load.lost == []
    assert worker.load.answered > 1000
    effect = done["outcome"]["effect"]
    assert effect["high"] < effect["before"]
    assert audited(engine, done["id"], "kept") == ["proposed", "executing", "verifying", "kept"]
    assert audited(engine, recommendation["id"], "closed")[0] == "proposed"
