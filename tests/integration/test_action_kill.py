"""kill -9 at every write and send of an action: no effect twice, nothing acknowledged lost, nothing stuck."""

import collections
import itertools
import multiprocessing
import random
import signal

import pytest

from tests.child_processes.action_process import read_effects, run_engine
from trimtab.engine.actions.journal import lock_reason
from trimtab.engine.audit.audit_export import verify_audit
from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.types import ActionState, RecommendationState

BOUNDARIES = {
    "ledger.commit": 22, "ledger.committed": 22, "ledger.anchored": 22, "executor.ready": 6,
    "executor.send": 6, "executor.sent": 6, "tool.asked": 6, "tool.done": 6,
}  # fmt: skip
"""Approximate number of passes of each boundary in two rounds of work."""
TOOK_EFFECT = {ActionState.KEPT, ActionState.ROLLED_BACK, ActionState.INCONCLUSIVE}


@pytest.fixture(scope="module")
def forks():
    """Fork server context with the imports preloaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.child_processes.action_process", "trimtab.engine.store.event_store"]
    )
    return context


def run_until_killed(forks, folder, life, kill_at):
    """Run one engine process and return its reports; it ends by the kill or on its own."""
    receiver, sender = forks.Pipe(duplex=False)
    child = forks.Process(target=run_engine, args=(folder, life, kill_at, sender))
    child.start()
    sender.close()
    reports = []
    try:
        while receiver.poll(60):
            reports.append(receiver.recv())
    except EOFError:
        receiver.close()
    child.join(60)
    assert child.exitcode in {0, -signal.SIGKILL}, reports
    assert (child.exitcode == 0) == (reports[-1][0] == "ended")
    return reports


def check_after_kills(forks, folder, kills, seed):
    """Kill many engine processes on one data folder; the ledger must match the effects."""
    rng, killed_at, acknowledged = random.Random(seed), collections.Counter(), {}
    recommended, life = set(), 0
    names = itertools.cycle(BOUNDARIES.items())
    while killed_at.total() < kills:
        life += 1
        boundary, occurrences = next(names)
        kill_at = (boundary, rng.randint(1, occurrences))
        for kind, name, state in run_until_killed(forks, folder, life, kill_at):
            killed_at.update([name] if kind == "killed" else [])
            recommended.update([name] if kind == "recommended" else [])
            acknowledged.update({name: state} if kind == "done" else {})
    run_until_killed(forks, folder, life + 1, None)
    assert set(killed_at) == set(BOUNDARIES), killed_at
    store = open_store(folder / "data", lambda: 0)
    ledger = ActionLedger(store.fenced, folder / "data" / ANCHOR_FILE)
    check(ledger, read_effects(folder / "effects"), acknowledged, recommended)
    store.close()
    return killed_at


def check(ledger, effects, acknowledged, recommended):
    """Check that no effect is repeated, unknown or falsely claimed, and nothing is lost or unfinished."""
    actions = {action.id: action for action in ledger.actions(limit=10**6)}
    times = collections.Counter(map(tuple, effects))
    assert [line for line, occurrences in times.items() if occurrences > 1] == []
    claimed = {
        (a.subject, a.key, None) if a.is_action else (a.subject, a.before, a.after): a
        for a in actions.values()
    }
    assert set(times) <= set(claimed), "an effect that no action claims"
    for line, action in claimed.items():
        assert action.state.is_final, f"stuck: {action}"
        if action.state in TOOK_EFFECT:
            assert line in times, action
        elif action.state is ActionState.FAILED:
            assert line not in times, action
        else:
            assert action.is_action, f"a knob can be read back: {action}"
    assert set(acknowledged) <= set(actions)
    for name, state in acknowledged.items():
        assert state in {"verifying", "kept"} or actions[name].state == state
        assert actions[name].state in TOOK_EFFECT or actions[name].state == state
    stored = {row.id: row.state for row in ledger.recommendations(limit=10**6)}
    assert recommended <= set(stored)
    if set(stored.values()) != {RecommendationState.CLOSED}:
        # An undo killed before it was sent has failed, which locks the target for automatic actions.
        assert lock_reason(ledger.actions(target="outside", limit=10**6)) is not None
        assert set(stored.values()) <= {RecommendationState.CLOSED, RecommendationState.PENDING}
    assert verify_audit(ledger) == []


@pytest.mark.slow
def test_forty_kills(forks, tmp_path):
    """The ledger matches the effects after 40 kills."""
    check_after_kills(forks, tmp_path, 40, seed=1)


@pytest.mark.trials
def test_three_hundred_kills(forks, tmp_path):
    """The ledger matches the effects after 300 kills; prints the kills per boundary."""
    print(check_after_kills(forks, tmp_path, 300, seed=2))
