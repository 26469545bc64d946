"""Child process that acts on an external tool and reports its actions; tests kill it or fill its disk.

`python -m tests.child_processes.action_process fill|refuse FOLDER` runs it on a full or a read-only disk.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.builders.action_stack import ActionStack
from tests.builders.actions import make_recommendation
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_tools import SIZE_KNOB, FakeTool
from trimtab.engine.actions.executor import Deadlines
from trimtab.engine.actions.scheduler import SchedulerTimes
from trimtab.engine.audit.audit_export import verify_audit
from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import StoreError, ToolError
from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.types import ActionState, KnobReading, Lasts, Mode, Value

QUICK = SchedulerTimes(
    plan_s=60.0, undo_s=60.0, by_hand_s=0.0, watch_s=0.01, lag_s=0.0, warm_up_s=0.0, recover_s=60.0
)
ROUNDS = 2


class ExternalTool(FakeTool):
    """External system: each effect is a durable line in its file, also if the caller crashes.

    boundary : called before and after each effect
    """

    def __init__(self, path: Path, boundary: Callable[[str], None]) -> None:
        super().__init__("outside", ("outside", "hand", "cache"), knobs=(replace(SIZE_KNOB, warm_up_s=0.0),))
        self.path = path
        self.boundary = boundary

    def recorded_effects(self) -> list[list[Any]]:
        """Return the effects as [knob or action, before or key, after]."""
        return read_effects(self.path)

    def value(self) -> Value:
        """Return the current value of its knob `size`."""
        return next((after for what, _, after in reversed(self.recorded_effects()) if what == "size"), 0)

    async def read(self, target: str, knob: str) -> KnobReading:  # noqa: ARG002 - it has one
        return KnobReading(self.value(), True, Lasts.IN_A_FILE)

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> Any:
        self.boundary("tool.asked")
        if self.value() != before:
            raise ToolError(f"it is {self.value()}")
        self._effect([knob, before, after])
        self.values[target, knob] = before
        return await super().apply(target, knob, before, after)

    async def run(self, target: str, action: str, key: str) -> str:  # noqa: ARG002 - it has one
        self.boundary("tool.asked")
        self._effect([action, key, None])
        return "done"

    def _effect(self, line: list[Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.boundary("tool.done")


def read_effects(path: Path) -> list[list[Any]]:
    """Return the recorded effects of an external tool."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_engine(folder: Path, run_number: int, kill_at: tuple[str, int] | None, reports: Connection) -> None:
    """Run an engine until SIGKILL at the n-th boundary of a name; None = until it is finished."""
    asyncio.run(_run_engine(folder, run_number, kill_at, reports))


async def _run_engine(
    folder: Path, run_number: int, kill_at: tuple[str, int] | None, reports: Connection
) -> None:
    passed: Counter[str] = Counter()

    def boundary(name: str) -> None:
        passed[name] += 1
        if (name, passed[name]) == kill_at:
            reports.send(("killed", name, ""))
            os.kill(os.getpid(), signal.SIGKILL)

    store = open_store(folder / "data", time.time_ns)
    ledger = ActionLedger(store.fenced, folder / "data" / ANCHOR_FILE, boundary)
    tool = ExternalTool(folder / "effects", boundary)
    stack = ActionStack(
        ledger, SystemClock(), tool, boundary=boundary, first=run_number * 1000, times=QUICK,
        deadlines=Deadlines(settle_s=0),
    )  # fmt: skip
    await stack.scheduler.start()
    for number in range(ROUNDS if kill_at is not None else 0):
        await stack.step()
        await _work(stack, tool, f"{run_number}-{number}", run_number * 1000 + number, reports)
    for _ in range(50 if kill_at is None else 0):
        await stack.step()
    store.close()
    reports.send(("ended", "", ""))


async def _work(stack: ActionStack, tool: ExternalTool, name: str, number: int, reports: Connection) -> None:
    """Make a manual change, roll it back, run a tool action, recommend a change; report each result."""
    change = await stack.decisions.set_knob(
        "outside", "hand", "size", tool.value(), number, "ann", f"set-{name}"
    )
    reports.send(("done", change.id, str(change.state)))
    undo = await stack.decisions.roll_back(change.id, "bob", f"undo-{name}")
    reports.send(("done", undo.id, str(undo.state)))
    done = await stack.decisions.run("outside", "cache", "flush", "ann", f"run-{name}")
    reports.send(("done", done.id, str(done.state)))
    made = make_recommendation(
        ulid(number), tool="outside", target="outside", subject="size", before=tool.value(),
        after=number + 500, mode=Mode.AUTO, created=stack.clock.now(), expires=stack.clock.now() + 10**16,
    )  # fmt: skip
    stack.ledger.save_recommendation(made, "recommended", "trimtab")
    reports.send(("recommended", made.id, ""))
    await stack.step()


def _open_stack(folder: Path) -> tuple[Any, ActionLedger, ActionStack]:
    store = open_store(folder / "data", time.time_ns)
    ledger = ActionLedger(store.fenced, folder / "data" / ANCHOR_FILE)
    return store, ledger, ActionStack(ledger, SystemClock(), FakeTool(), deadlines=Deadlines(settle_s=0))


def _check_audit(ledger: ActionLedger, stack: ActionStack) -> None:
    """Check that each effect has an `executing` audit row and that the audit is intact."""
    audited = [row for row in ledger.audit_rows(limit=10**6) if row.what == "executing"]
    assert {row.details["after"] for row in audited} >= {after for _, _, after in stack.tool.effects}
    assert verify_audit(ledger) == []


async def act_until_disk_full(folder: Path) -> None:
    """Act until the disk is full, then free space and continue."""
    store, ledger, stack = _open_stack(folder)
    for number in range(100_000):
        value = stack.tool.values["fake", "size"]
        try:
            await stack.decisions.set_knob(
                "fake", "fake", "size", value, number + 1000, "ann" * 300, f"{number}"
            )
        except StoreError as error:
            print(f"acting: {error}", flush=True)
            break
    else:
        raise AssertionError("the disk never got full")
    _check_audit(ledger, stack)
    (folder / "ballast").unlink()
    await stack.step()
    _check_audit(ledger, stack)
    assert {action.state for action in ledger.actions(unfinished=True)} <= {ActionState.VERIFYING}
    value = stack.tool.values["fake", "size"]
    assert (
        await stack.decisions.set_knob("fake", "fake", "size", value, 1, "ann", "k")
    ).state is ActionState.VERIFYING
    _check_audit(ledger, stack)
    print(f"actions: {len(stack.tool.effects)}", flush=True)
    store.close()


async def act_on_read_only_disk(folder: Path) -> None:
    """Act while the disk becomes read-only and writable again."""
    store, ledger, stack = _open_stack(folder)
    assert store.on_close is not None
    store.on_close()  # the open lock file would prevent the remount
    for state in ("rw", "ro", "rw"):
        store.database.close()
        await asyncio.to_thread(_remount, folder, state)
        before = len(stack.tool.effects)
        change = stack.decisions.set_knob(
            "fake", "fake", "size", 100 + before, 101 + before, "ann", f"{before}"
        )
        for work in (change, stack.decisions.pause("ann", ""), stack.decisions.resume("ann", "")):
            try:
                await work
                assert state == "rw"
            except StoreError as error:
                assert state == "ro"
                print(f"acting: {error}", flush=True)
        assert len(stack.tool.effects) == before + (state == "rw")
    _check_audit(ledger, stack)
    print(f"actions: {len(stack.tool.effects)}", flush=True)


def _remount(folder: Path, state: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{state}", folder], check=True)


if __name__ == "__main__":
    asyncio.run(
        {"fill": act_until_disk_full, "refuse": act_on_read_only_disk}[sys.argv[1]](Path(sys.argv[2]))
    )
