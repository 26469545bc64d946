"""The acting part, put together: tools, ledger, guard, desk, and what happens by the second."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from trimtab.engine.actions.decisions import ActingDesk
from trimtab.engine.actions.executor import Deadlines, Executor
from trimtab.engine.actions.guard.guard_service import Asking
from trimtab.engine.actions.guard.observation import Seeing
from trimtab.engine.actions.guard.situation_builder import Memory as GuardMemory
from trimtab.engine.actions.guarded_series import GuardedSeries
from trimtab.engine.actions.journal import ENGINE, Journal
from trimtab.engine.actions.launcher import Starter
from trimtab.engine.actions.scheduler import Conductor, Times
from trimtab.engine.actions.shadow import Shadowing
from trimtab.engine.actions.undo import Undoing
from trimtab.engine.api.loop_ports import LoopPorts
from trimtab.engine.audit.audit_export import verify
from trimtab.engine.errors import EngineError, LockedError, StoreError
from trimtab.engine.incidents.incident_service import Judging
from trimtab.engine.platform.kernel_warmup import compile_scaling
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.recommendations.inbox_notices import Noticing
from trimtab.engine.recommendations.recommendation_service import Advising
from trimtab.engine.runtime.loop_context import Surroundings
from trimtab.engine.runtime.notification_setup import alerts_to
from trimtab.engine.runtime.published_decisions import IncidentsDesk, ToldDesk
from trimtab.engine.settings import Settings
from trimtab.engine.settings.file_watcher import Reload
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.sources.managed_tools import ToolsSource
from trimtab.engine.store.action_ledger import SqlLedger
from trimtab.engine.store.audit_anchor import ANCHOR
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.store.fenced_writes import Fenced
from trimtab.engine.store.incident_store import SqlIncidents
from trimtab.engine.store.learned_state import StoredMemory
from trimtab.engine.tools.tool_registry import Rack
from trimtab.engine.types import Action, Change, ChangeKind, Value, new_ulid

if TYPE_CHECKING:
    from trimtab.engine.capacity.capacity_service import Scaling

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


class ToldJournal(Journal):
    """A journal whose acknowledged changes stand beside incidents, as those of people do."""

    def __init__(self, ledger: SqlLedger, clock: Clock, incidents: SqlIncidents) -> None:
        super().__init__(ledger, clock)
        self.incidents = incidents

    async def verifying(self, action: Action, told: str) -> Action:
        """The tool acknowledged it: from now on it is a change that may explain what follows."""
        moved = await super().verifying(action, told)
        place = f"{action.subject} of {action.target}"
        title = place if action.is_action else f"{place}: {action.before} -> {action.after}"
        labels = {"tool": action.tool, "target": action.target}
        change = Change(moved.id, self.clock.now(), ChangeKind.ACTION, title, action.by, labels)
        try:
            await asyncio.to_thread(self.incidents.save_change, change)
        except StoreError as error:
            log.warning("a change of ours is not shown beside incidents", action=action.id, error=str(error))
        return moved


@dataclass(slots=True)
class Acting:
    """What acts, and what people ask of it. `run` until it is cancelled, then `close`."""

    around: Surroundings
    judging: Judging
    rack: Rack
    conductor: Conductor
    advising: Advising
    noticing: Noticing
    shadowing: Shadowing
    ports: LoopPorts
    scaling: "Scaling"
    scale: float = 1.0
    started: bool = False
    """Whether the start is in the audit, and what the guard remembered is back."""

    async def run(self) -> None:
        """Step by the second; look for advice, and remember, less often and beside it.

        What fails is tried again. Raises LockedError once another engine has taken over.
        """
        clock = self.around.clock
        if not self.started:
            await self.conductor.start()
            await self.advising.resume()
            self.started = True
        beside = [
            asyncio.create_task(self._each(lambda: LOOK_S * self.scale, self._look)),
            asyncio.create_task(self._each(lambda: REMEMBER_S, self._remember)),
            asyncio.create_task(self._each(self.scaling.interval_s, self.scaling.step)),
        ]
        try:
            while True:
                now = clock.now()
                await self.conductor.step(now)
                for ended in (task for task in beside if task.done()):
                    ended.result()
                await clock.sleep_until(now + int(STEP_S * 1e9))
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def reload(self, settings: Settings) -> None:
        """Go on with other tools and guardrails. Raises StoreError."""
        limits, starter = settings.guardrails, self.conductor.starter
        self.advising.guard.limits = self.advising.seeing.limits = limits
        self.advising.guard.evaluations.keep_s = limits.hold
        self.conductor.times = _times(limits)
        starter.time_scale = limits.time_scale
        starter.executor.deadlines = Deadlines(send_s=limits.action_timeout)
        self.scale = _scale(settings)
        self.scaling.configure(settings.capacity)
        await self.rack.reload(settings.tools)

    async def close(self) -> None:
        """Let go of what is under way and of the tools; what was learnt is on disk afterwards."""
        await self.conductor.close()
        await self.scaling.close()
        try:
            await self._remember()
        except StoreError as error:
            log.error("what was learnt of incidents is not kept", error=str(error))
        await self.rack.close()

    async def _look(self) -> None:
        found = [*await self.advising.look(), *await self.noticing.look()]
        for recommendation in [*found, *await self.shadowing.look(self.advising.off)]:
            self.around.live.tell("recommendation", recommendation)

    async def _remember(self) -> None:
        await self.around.off_loop(self.judging.remember)

    async def _each(self, pause_s: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
        """Do it again and again; a fault of it ends nothing else. Raises LockedError."""
        clock = self.around.clock
        while True:
            begun = clock.now()
            try:
                await work()
            except LockedError:
                raise
            except EngineError as error:
                log.warning("not done now, trying again", error=str(error))
            except Exception:
                log.exception("a fault, trying again")
            await clock.sleep_until(begun + int(pause_s() * 1e9))


async def build(settings: Settings, around: Surroundings, judging: Judging, fenced: Fenced) -> Acting:
    """Put it together; connects to no tool. Raises StoreError."""
    from trimtab.engine.capacity.capacity_service import (
        Scaling,  # numba comes with it, which has to know its folder
    )

    clock, live = around.clock, around.live
    data_dir, limits = settings.settings.data_dir, settings.guardrails
    memory = StoredMemory(fenced)
    rack = await Rack(settings.tools, memory, clock).open()
    ledger = SqlLedger(fenced, data_dir / ANCHOR)
    incidents = HeardIncidents(fenced, judging.heard.append)
    guard = GuardMemory(limits)
    seeing = Seeing(rack, live, around.score_log, incidents, clock, limits)
    asking = Asking(guard, ledger, clock, time.monotonic_ns, seeing)
    journal = ToldJournal(ledger, clock, incidents)
    executor = Executor(journal, rack, clock, Deadlines(send_s=limits.action_timeout))
    starter = Starter(journal, executor, rack, asking, _new_id(clock), limits.time_scale)
    undoing = Undoing(journal, _new_id(clock))

    def tell(action: Action, words: str) -> None:
        log.warning("an action needs people", action=action.id, subject=action.subject, words=words)
        live.tell("action", action)

    guarded = GuardedSeries(ledger, incidents, live, memory)
    conductor = Conductor(starter, undoing, around.score_log, guarded, tell, _times(limits))
    advising = Advising(incidents, ledger, rack, guard, seeing, memory, live, clock, time.monotonic_ns)
    scaling = Scaling(
        settings.capacity, live, around.score_log, memory, clock, around.metrics.capacity, compile_scaling
    )
    around.hear_past, scaling.recorded = scaling.hear, around.recorded
    advising.capacity = scaling.shown
    seeing.scaled = guarded.scaled = advising.scaled
    desk = ToldDesk(ActingDesk(starter, undoing), live)
    ports = LoopPorts(
        incidents, IncidentsDesk(around, judging), ledger, desk, rack,
        take_alerts=alerts_to(around, judging), verify_audit=lambda: _audit_words(ledger),
        waiting=conductor.waiting, set_down=judging.set_down, capacity=scaling.shown,
    )  # fmt: skip
    shadowing = Shadowing(incidents, ledger, around.score_log, clock, asking.in_mode_auto)
    return Acting(
        around, judging, rack, conductor, advising, Noticing(advising), shadowing, ports, scaling,
        _scale(settings),
    )  # fmt: skip


def own_figures(acting: Acting, settings: Settings) -> ToolsSource:
    """The tools as a source; trials look more often."""
    interval_s = max(FIGURES_S * _scale(settings), 1.0)
    return ToolsSource(acting.rack, acting.around.clock, interval_s, acting.advising.memory)


def judge(settings: Settings, store: EventStore) -> Judging:
    """Incidents and who is told of them, as they were when the engine stopped. Raises StoreError."""
    made = Judging(
        store, SqlIncidents(store.fenced), StoredMemory(store.fenced),
        settings.settings.false_alarms_per_week, settings.notify.notifications_per_week,
        window_s=WINDOW_S * _scale(settings), silences=SqlLedger(store.fenced).silences,
    )  # fmt: skip
    made.resume()
    made.set_telling(settings.notify)
    return made


async def note_reload(ledger: Ledger, reload: Reload) -> None:
    """A row of the audit: which settings changed. They hold already, so a store that fails is told only."""
    names = {"now": ", ".join(reload.changed), "at the next start": ", ".join(reload.later)}
    if not any(names.values()):
        return
    try:
        await asyncio.to_thread(ledger.note, "settings reloaded", "settings", ENGINE, dict[str, Value](names))
    except StoreError as error:
        log.error("that the settings were reloaded is not in the audit", error=str(error))


def _audit_words(ledger: SqlLedger) -> str | None:
    found = verify(ledger)
    return "; ".join(str(one) for one in found[:5]) or None


def _times(limits: Guardrails) -> Times:
    return Times(
        plan_s=limits.plan_life, approval_s=limits.approval_life, watch_s=limits.watch,
        bad_checks=limits.bad_checks,
    )  # fmt: skip


def _scale(settings: Settings) -> float:
    """Trials look more often and less far back, as their guardrails are quicker."""
    trials = any(tool.trial for tool in settings.tools.values())
    return max(settings.guardrails.time_scale, 0.1) if trials else 1.0


def _new_id(clock: Clock) -> Callable[[], str]:
    return lambda: new_ulid(clock.now())
