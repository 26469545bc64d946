"""Action stack for tests: a real ledger in a folder, a fake tool, a fake guard and a fake clock."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.builders.actions import make_recommendation
from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_tools import FakeTool, FakeToolbox
from tests.fakes.ports import FakeClock, FakeScoreLog
from trimtab.engine.actions.decision_contracts import GuardedMetric
from trimtab.engine.actions.decisions import Decisions
from trimtab.engine.actions.executor import Deadlines, Executor
from trimtab.engine.actions.journal import Journal
from trimtab.engine.actions.launcher import ActionLauncher
from trimtab.engine.actions.scheduler import ActionScheduler
from trimtab.engine.actions.undo import Undo
from trimtab.engine.ports import Ledger
from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.types import Action, Effect, Mode, Recommendation

SERIES = "s1"
EFFECT = Effect(SERIES, "hit ratio", "", 0.5, 0.9, 0.8, 0.95)
RAISE = {"tool": "fake", "target": "fake", "subject": "size", "effect": EFFECT, "mode": Mode.AUTO}


@dataclass(frozen=True, slots=True)
class FakeDecision:
    """A guard decision."""

    verdict: str = "allow"
    guard: str = ""
    reason: str = ""
    until: int | None = None


@dataclass
class FakeGuard:
    """Fake guard that returns `decision` and records the requests."""

    decision: FakeDecision = field(default_factory=FakeDecision)
    needs_auto_mode: bool = True
    requests: list[tuple[Recommendation | Action, bool]] = field(default_factory=list)

    async def __call__(self, proposal: Recommendation | Action, person: bool) -> FakeDecision:
        self.requests.append((proposal, person))
        if (
            self.decision.verdict == "allow"
            and self.needs_auto_mode
            and not person
            and proposal.mode != "auto"
        ):
            return FakeDecision("approve", "mode", "an operator must approve")
        return self.decision


class ActionStack:
    """Journal, executor, launcher, scheduler and decisions, wired as in the engine."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Any,
        tool: Any,
        guarded_metrics: Sequence[GuardedMetric] = (),
        **more: Any,
    ) -> None:
        numbers = itertools.count(more.get("first", 1))
        self.ledger, self.clock, self.tool = ledger, clock, tool
        self.guard = FakeGuard()
        self.toolbox = FakeToolbox(tool)
        self.scores = FakeScoreLog()
        self.notifications: list[str] = []
        boundary = more.get("boundary", lambda _: None)
        journal = Journal(ledger, clock)
        deadlines = more.get("deadlines", Deadlines(send_s=0.2, read_s=0.2, settle_s=0))
        self.executor = Executor(journal, self.toolbox, clock, deadlines, boundary)
        self.launcher = ActionLauncher(
            journal,
            self.executor,
            self.toolbox,
            self.guard,
            lambda: ulid(next(numbers)),
            more.get("time_scale", 1.0),
        )
        undo = Undo(journal, self.launcher.new_id)
        self.decisions = Decisions(self.launcher, undo)
        self.scheduler = ActionScheduler(
            self.launcher, undo, self.scores, lambda _: guarded_metrics,
            lambda _, text: self.notifications.append(text),
            more.get("times"),
        )  # fmt: skip

    async def step(self) -> None:
        """Run one scheduler step and wait for its tasks."""
        await self.scheduler.step(self.clock.now())
        await self.scheduler.wait_until_idle()

    async def run_for(
        self, seconds: float, level: float = 0.5, every: float = 15.0, noise: float = 0.0
    ) -> None:
        """Advance the clock, with a sample and a step every `every` seconds; level NaN = no samples."""
        for _ in range(round(seconds / every)):
            self.clock.tick(every)
            if not np.isnan(level):
                row = (self.clock.now(), level + noise, 0.0, 0.5, 0.4, 0.6)
                self.scores.rows.setdefault(SERIES, []).append(row)
            await self.step()

    def add_history(self, level: float = 0.5, seconds: float = 600.0) -> None:
        """Add samples every 15 s up to now."""
        now = self.clock.now()
        times = range(now - round(seconds * SECOND), now, 15 * SECOND)
        self.scores.rows[SERIES] = [(time, level, 0.0, 0.5, 0.4, 0.6) for time in times]


def make_fake_tool(**more: Any) -> FakeTool:
    """Return the tool `fake` with a knob `size` explicitly set to 100, and an action `flush`."""
    tool = FakeTool(**more)
    tool.explicitly_set.add(("fake", "size"))
    return tool


@contextmanager
def open_ledger(folder: Path) -> Iterator[Any]:
    """Open a ledger in a folder; its `clock` is a fake one."""
    clock = FakeClock()
    store = open_store(folder, clock.now)
    ledger: Any = ActionLedger(store.fenced, folder / ANCHOR_FILE)
    ledger.clock = clock
    yield ledger
    store.close()


def save_recommendation(stack: ActionStack, number: int = 500, **changed: Any) -> Recommendation:
    """Store an automatic recommendation to change `size`."""
    made = make_recommendation(ulid(number), **{**RAISE, **changed})
    stack.ledger.save_recommendation(made, "recommended", "trimtab")
    return made


def only_action(stack: ActionStack) -> Action:
    """Return the only action that is not an undo."""
    (action,) = [action for action in stack.ledger.actions() if action.undoes is None]
    return action


async def wait_until(condition: Callable[[], object]) -> None:
    """Let threads and tasks run until the condition is true."""
    while not condition():  # noqa: ASYNC110 - the condition has no event
        await asyncio.sleep(0.001)
