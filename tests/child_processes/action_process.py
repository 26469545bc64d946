"""What the processes do that the tests kill or starve: act on an external tool, and tell what was done.

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

from tests.builders.action_stack import Room
from tests.builders.actions import recommendation_of
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_tools import SIZE_KNOB, FakeTool
from trimtab.engine.actions.executor import Deadlines
from trimtab.engine.actions.scheduler import Times
from trimtab.engine.audit.audit_export import verify
from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import StoreError, ToolError
from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.types import ActionState, KnobReading, Lasts, Mode, Value

QUICK = Times(plan_s=60.0, undo_s=60.0, by_hand_s=0.0, watch_s=0.01, lag_s=0.0, warm_up_s=0.0, recover_s=60.0)
ROUNDS = 2


class OutsideTool(FakeTool):
    """A system of its own: each effect is a durable line in its file, whatever becomes of who asked for it.

    boundary : called before and after each effect
    """

    def __init__(self, path: Path, boundary: Callable[[str], None]) -> None:
        super().__init__("outside", ("outside", "hand", "cache"), knobs=(replace(SIZE_KNOB, warm_up_s=0.0),))
        self.path = path
        self.boundary = boundary

    def lines(self) -> list[list[Any]]:
        """[knob or action, before or key, after]"""
        return effects(self.path)

    def value(self) -> Value:
        """Of its knob `size`, now."""
        return next((after for what, _, after in reversed(self.lines()) if what == "size"), 0)

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


def effects(path: Path) -> list[list[Any]]:
    """What an outside tool was made to do."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def live(folder: Path, life: int, kill_at: tuple[str, int] | None, told: Connection) -> None:
    """One life of an engine, ended by SIGKILL at the n-th boundary of a name; None = when all is done."""
    asyncio.run(_live(folder, life, kill_at, told))


async def _live(folder: Path, life: int, kill_at: tuple[str, int] | None, told: Connection) -> None:
    passed: Counter[str] = Counter()

    def boundary(name: str) -> None:
        passed[name] += 1
        if (name, passed[name]) == kill_at:
            told.send(("killed", name, ""))
            os.kill(os.getpid(), signal.SIGKILL)

    store = open_store(folder / "data", time.time_ns)
    ledger = ActionLedger(store.fenced, folder / "data" / ANCHOR_FILE, boundary)
    tool = OutsideTool(folder / "effects", boundary)
    room = Room(
        ledger, SystemClock(), tool, boundary=boundary, first=life * 1000, times=QUICK,
        deadlines=Deadlines(settle_s=0),
    )  # fmt: skip
    await room.conductor.start()
    for number in range(ROUNDS if kill_at is not None else 0):
        await room.step()
        await _work(room, tool, f"{life}-{number}", life * 1000 + number, told)
    for _ in range(50 if kill_at is None else 0):
        await room.step()
    store.close()
    told.send(("ended", "", ""))


async def _work(room: Room, tool: OutsideTool, name: str, number: int, told: Connection) -> None:
    """A change by hand, taken back; one by itself; a one-click action. Each that returned is told."""
    change = await room.desk.set_knob("outside", "hand", "size", tool.value(), number, "ann", f"set-{name}")
    told.send(("done", change.id, str(change.state)))
    undo = await room.desk.roll_back(change.id, "bob", f"undo-{name}")
    told.send(("done", undo.id, str(undo.state)))
    done = await room.desk.run("outside", "cache", "flush", "ann", f"run-{name}")
    told.send(("done", done.id, str(done.state)))
    made = recommendation_of(
        ulid(number), tool="outside", target="outside", subject="size", before=tool.value(),
        after=number + 500, mode=Mode.AUTO, created=room.clock.now(), expires=room.clock.now() + 10**16,
    )  # fmt: skip
    room.ledger.save_recommendation(made, "recommended", "trimtab")
    told.send(("recommended", made.id, ""))
    await room.step()


def _room(folder: Path) -> tuple[Any, ActionLedger, Room]:
    store = open_store(folder / "data", time.time_ns)
    ledger = ActionLedger(store.fenced, folder / "data" / ANCHOR_FILE)
    return store, ledger, Room(ledger, SystemClock(), FakeTool(), deadlines=Deadlines(settle_s=0))


def _whole(ledger: ActionLedger, room: Room) -> None:
    """Each effect stands in the audit as executing, and the audit is whole."""
    audited = [row for row in ledger.audit_rows(limit=10**6) if row.what == "executing"]
    assert {row.details["after"] for row in audited} >= {after for _, _, after in room.tool.effects}
    assert verify(ledger) == []


async def fill(folder: Path) -> None:
    """Act until the disk is full; then free space and go on."""
    store, ledger, room = _room(folder)
    for number in range(100_000):
        value = room.tool.values["fake", "size"]
        try:
            await room.desk.set_knob("fake", "fake", "size", value, number + 1000, "ann" * 300, f"{number}")
        except StoreError as error:
            print(f"acting: {error}", flush=True)
            break
    else:
        raise AssertionError("the disk never got full")
    _whole(ledger, room)
    (folder / "ballast").unlink()
    await room.step()
    _whole(ledger, room)
    assert {action.state for action in ledger.actions(unfinished=True)} <= {ActionState.VERIFYING}
    value = room.tool.values["fake", "size"]
    assert (
        await room.desk.set_knob("fake", "fake", "size", value, 1, "ann", "k")
    ).state is ActionState.VERIFYING
    _whole(ledger, room)
    print(f"actions: {len(room.tool.effects)}", flush=True)
    store.close()


async def refuse(folder: Path) -> None:
    """Act where the disk becomes read-only, and can be written again later."""
    store, ledger, room = _room(folder)
    assert store.let_go is not None
    store.let_go()  # its lock file is open to be written
    for state in ("rw", "ro", "rw"):
        store.database.close()
        await asyncio.to_thread(_remount, folder, state)
        before = len(room.tool.effects)
        change = room.desk.set_knob("fake", "fake", "size", 100 + before, 101 + before, "ann", f"{before}")
        for work in (change, room.desk.pause("ann", ""), room.desk.resume("ann", "")):
            try:
                await work
                assert state == "rw"
            except StoreError as error:
                assert state == "ro"
                print(f"acting: {error}", flush=True)
        assert len(room.tool.effects) == before + (state == "rw")
    _whole(ledger, room)
    print(f"actions: {len(room.tool.effects)}", flush=True)


def _remount(folder: Path, state: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{state}", folder], check=True)


if __name__ == "__main__":
    asyncio.run({"fill": fill, "refuse": refuse}[sys.argv[1]](Path(sys.argv[2])))
