"""The acting part, put together: tools, ledger, guard, desk, and what happens by the second."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from ulid import ULID

from trimtab.engine.acting.asking import Asking
from trimtab.engine.acting.audit import verify
from trimtab.engine.acting.conductor import Conductor, Times
from trimtab.engine.acting.deciding import Guarded
from trimtab.engine.acting.desk import ActingDesk
from trimtab.engine.acting.executor import Deadlines, Executor
from trimtab.engine.acting.journal import Journal
from trimtab.engine.acting.situation import Memory as GuardMemory
from trimtab.engine.acting.starting import Starter
from trimtab.engine.acting.undo import Undoing
from trimtab.engine.api.acting import LoopPorts
from trimtab.engine.errors import StoreError
from trimtab.engine.ports import Clock, Source
from trimtab.engine.running.advising import Advising
from trimtab.engine.running.desk import IncidentsDesk, ToldDesk
from trimtab.engine.running.judging import Judging
from trimtab.engine.running.seeing import Seeing
from trimtab.engine.running.surroundings import Surroundings
from trimtab.engine.running.telling import alerts_to
from trimtab.engine.settings import Settings
from trimtab.engine.sources.tools import ToolsSource
from trimtab.engine.store.anchor import ANCHOR
from trimtab.engine.store.events import EventStore
from trimtab.engine.store.fenced import Fenced
from trimtab.engine.store.incident_store import SqlIncidents
from trimtab.engine.store.ledger import SqlLedger
from trimtab.engine.store.memory import StoredMemory
from trimtab.engine.tools.rack import Rack
from trimtab.engine.types import Action, Change

log = structlog.get_logger(__name__)

STEP_S, LOOK_S, REMEMBER_S = 1.0, 15.0, 300.0
"""Between steps of the actions, between looks for advice, between states of what was learnt."""
FIGURES_S = 5.0
"""Between looks at the tools' own figures."""
WINDOW_S = 1800.0
"""How far back patterns look."""


class HeardIncidents(SqlIncidents):
    """Incidents and changes in the store; a change that is kept is heard by the sensing, too."""

    def __init__(self, fenced: Fenced, hear: Callable[[Change], None]) -> None:
        super().__init__(fenced)
        self.hear = hear

    def save_change(self, change: Change) -> None:
        """Insert or update by id."""
        super().save_change(change)
        self.hear(change)


@dataclass(slots=True)
class Acting:
    """What acts, and what people ask of it. `run` until it is cancelled, then `close`."""

    around: Surroundings
    judging: Judging
    rack: Rack
    conductor: Conductor
    advising: Advising
    ports: LoopPorts
    scale: float = 1.0

    async def run(self) -> None:
        """Step by the second; look for advice less often. A store that fails is tried again."""
        clock = self.around.clock
        await self.conductor.start()
        await self.advising.resume()
        look_at = remember_at = clock.now()
        while True:
            now = clock.now()
            await self.conductor.step(now)
            if now >= look_at:
                look_at = now + int(LOOK_S * self.scale * 1e9)
                await self._safely(self._look())
            if now >= remember_at:
                remember_at = now + int(REMEMBER_S * 1e9)
                await self._safely(self.around.off_loop(self.judging.remember))
            await clock.sleep_until(now + int(STEP_S * 1e9))

    async def close(self) -> None:
        """Let go of what is under way and of the tools; what was learnt is on disk afterwards."""
        await self.conductor.close()
        await self._safely(self.around.off_loop(self.judging.remember))
        await self.rack.close()

    async def _look(self) -> None:
        for recommendation in await self.advising.look():
            self.around.live.tell("recommendation", recommendation)

    async def _safely(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StoreError as error:
            log.warning("the store does not take it, trying again", error=str(error))


async def build(settings: Settings, around: Surroundings, judging: Judging, fenced: Fenced) -> Acting:
    """Put it together; connects to no tool. Raises StoreError."""
    clock, live = around.clock, around.live
    data_dir, limits = settings.settings.data_dir, settings.guardrails
    memory = StoredMemory(fenced)
    rack = await Rack(settings.tools, memory, clock).open()
    ledger = SqlLedger(fenced, data_dir / ANCHOR)
    incidents = HeardIncidents(fenced, judging.heard.append)
    guard = GuardMemory(limits)
    seeing = Seeing(rack, live, around.score_log, incidents, clock, limits)
    asking = Asking(guard, ledger, clock, time.monotonic_ns, seeing)
    journal = Journal(ledger, clock)
    executor = Executor(journal, rack, clock, Deadlines(send_s=limits.action_timeout))
    starter = Starter(journal, executor, rack, asking, _new_id(clock), limits.time_scale)
    undoing = Undoing(journal, _new_id(clock))

    def tell(action: Action, words: str) -> None:
        log.warning("an action needs people", action=action.id, subject=action.subject, words=words)
        live.tell("action", action)

    def guarded(_: Action) -> Sequence[Guarded]:
        return ()

    times = Times(
        plan_s=limits.plan_life, approval_s=limits.approval_life, watch_s=limits.watch,
        bad_checks=limits.bad_checks,
    )  # fmt: skip
    conductor = Conductor(starter, undoing, around.score_log, guarded, tell, times)
    advising = Advising(incidents, ledger, rack, guard, seeing, memory, live, clock, time.monotonic_ns)
    desk = ToldDesk(ActingDesk(starter, undoing), live)
    ports = LoopPorts(
        incidents, IncidentsDesk(around, judging), ledger, desk, rack,
        take_alerts=alerts_to(around, judging), verify_audit=lambda: _audit_words(ledger),
        waiting=conductor.waiting,
    )  # fmt: skip
    return Acting(around, judging, rack, conductor, advising, ports, _scale(settings))


def own_figures(acting: Acting, settings: Settings) -> list[Source]:
    """The tools as a source, where there are any; trials look more often."""
    if not settings.tools:
        return []
    return [ToolsSource(acting.rack, acting.around.clock, max(FIGURES_S * _scale(settings), 1.0))]


def judge(settings: Settings, store: EventStore) -> Judging:
    """Incidents and who is told of them, as they were when the engine stopped. Raises StoreError."""
    made = Judging(
        store, SqlIncidents(store.fenced), StoredMemory(store.fenced),
        settings.settings.false_alarms_per_week, settings.notify.notifications_per_week,
        window_s=WINDOW_S * _scale(settings),
    )  # fmt: skip
    made.resume()
    made.set_telling(settings.notify)
    return made


def _audit_words(ledger: SqlLedger) -> str | None:
    found = verify(ledger)
    return "; ".join(str(one) for one in found[:5]) or None


def _scale(settings: Settings) -> float:
    """Trials look more often and less far back, as their guardrails are quicker."""
    trials = any(tool.trial for tool in settings.tools.values())
    return max(settings.guardrails.time_scale, 0.1) if trials else 1.0


def _new_id(clock: Clock) -> Callable[[], str]:
    return lambda: str(ULID.from_timestamp(clock.now() / 1e9))
