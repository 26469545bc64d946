"""The acting part as a test needs it: a real ledger in a folder, a fake tool, a clock that stands."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.builders.actions import recommendation_of
from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_tools import FakeTool, FakeToolbox
from tests.fakes.ports import FakeClock, FakeScoreLog
from trimtab.engine.actions.decision_contracts import Guarded
from trimtab.engine.actions.decisions import ActingDesk
from trimtab.engine.actions.executor import Deadlines, Executor
from trimtab.engine.actions.journal import Journal
from trimtab.engine.actions.launcher import Starter
from trimtab.engine.actions.scheduler import Conductor
from trimtab.engine.actions.undo import Undoing
from trimtab.engine.ports import Ledger
from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.types import Action, Effect, Mode, Recommendation

SERIES = "s1"
EFFECT = Effect(SERIES, "hit ratio", "", 0.5, 0.9, 0.8, 0.95)
RAISE = {"tool": "fake", "target": "fake", "subject": "size", "effect": EFFECT, "mode": Mode.AUTO}


@dataclass(frozen=True, slots=True)
class Word:
    """A decision of the guard."""

    verdict: str = "allow"
    guard: str = ""
    reason: str = ""
    until: int | None = None


@dataclass
class Guard:
    """Says what a test tells it to, and remembers what it was asked."""

    says: Word = field(default_factory=Word)
    by_mode: bool = True
    asked: list[tuple[Recommendation | Action, bool]] = field(default_factory=list)

    async def __call__(self, proposal: Recommendation | Action, person: bool) -> Word:
        self.asked.append((proposal, person))
        if self.says.verdict == "allow" and self.by_mode and not person and proposal.mode != "auto":
            return Word("approve", "mode", "a person has to agree")
        return self.says


class Room:
    """Everything wired, as the engine does it."""

    def __init__(
        self, ledger: Ledger, clock: Any, tool: Any, guarded: Sequence[Guarded] = (), **more: Any
    ) -> None:
        numbers = itertools.count(more.get("first", 1))
        self.ledger, self.clock, self.tool = ledger, clock, tool
        self.guard = Guard()
        self.toolbox = FakeToolbox(tool)
        self.scores = FakeScoreLog()
        self.told: list[str] = []
        boundary = more.get("boundary", lambda _: None)
        journal = Journal(ledger, clock)
        deadlines = more.get("deadlines", Deadlines(send_s=0.2, read_s=0.2, settle_s=0))
        self.executor = Executor(journal, self.toolbox, clock, deadlines, boundary)
        self.starter = Starter(
            journal,
            self.executor,
            self.toolbox,
            self.guard,
            lambda: ulid(next(numbers)),
            more.get("time_scale", 1.0),
        )
        undoing = Undoing(journal, self.starter.new_id)
        self.desk = ActingDesk(self.starter, undoing)
        self.conductor = Conductor(
            self.starter, undoing, self.scores, lambda _: guarded, lambda _, words: self.told.append(words),
            more.get("times"),
        )  # fmt: skip

    async def step(self) -> None:
        """One step, and all that it set going."""
        await self.conductor.step(self.clock.now())
        await self.conductor.settled()

    async def live(self, seconds: float, level: float = 0.5, every: float = 15.0, noise: float = 0.0) -> None:
        """So much time passes, a sample and a step each `every` seconds; NaN = no samples."""
        for _ in range(round(seconds / every)):
            self.clock.tick(every)
            if not np.isnan(level):
                row = (self.clock.now(), level + noise, 0.0, 0.5, 0.4, 0.6)
                self.scores.rows.setdefault(SERIES, []).append(row)
            await self.step()

    def past(self, level: float = 0.5, seconds: float = 600.0) -> None:
        """Samples from before, one each 15 s."""
        now = self.clock.now()
        times = range(now - round(seconds * SECOND), now, 15 * SECOND)
        self.scores.rows[SERIES] = [(time, level, 0.0, 0.5, 0.4, 0.6) for time in times]


def fake_redis(**more: Any) -> FakeTool:
    """A tool `fake` with a knob `size` of 100 that somebody set, and an action `flush`."""
    tool = FakeTool(**more)
    tool.explicitly_set.add(("fake", "size"))
    return tool


@contextmanager
def open_ledger(folder: Path) -> Iterator[Any]:
    """A ledger in that folder; its `clock` is a fake one."""
    clock = FakeClock()
    store = open_store(folder, clock.now)
    ledger: Any = ActionLedger(store.fenced, folder / ANCHOR_FILE)
    ledger.clock = clock
    yield ledger
    store.close()


def recommended(room: Room, number: int = 500, **changed: Any) -> Recommendation:
    """An automatic change of `size` that stands in the ledger."""
    made = recommendation_of(ulid(number), **{**RAISE, **changed})
    room.ledger.save_recommendation(made, "recommended", "trimtab")
    return made


def only_action(room: Room) -> Action:
    """The one that is not an undoing."""
    (action,) = [action for action in room.ledger.actions() if action.undoes is None]
    return action


async def until(true: Callable[[], object]) -> None:
    """Let threads and tasks run until it is."""
    while not true():  # noqa: ASYNC110 - what it waits for tells nobody
        await asyncio.sleep(0.001)
