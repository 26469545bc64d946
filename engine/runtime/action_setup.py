"""Builds and runs the action components: tools, ledger, guard, scheduler and decisions."""

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
from trimtab.engine.platform.kernel_warmup import compile_capacity_kernels
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.recommendations.inbox_notices import Noticing
from trimtab.engine.recommendations.recommendation_service import Advising
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.notification_setup import make_alert_handler
from trimtab.engine.runtime.published_decisions import PublishedDecisions, PublishedIncidentActions
from trimtab.engine.settings import Settings
from trimtab.engine.settings.file_watcher import SettingsChange
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.sources.managed_tools import ToolsSource
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.store.fenced_writes import FencedDatabase
from trimtab.engine.store.incident_store import IncidentStore
from trimtab.engine.store.learned_state import LearnedState
from trimtab.engine.tools.tool_registry import ToolRegistry
from trimtab.engine.types import Action, Change, ChangeKind, Value, new_ulid

if TYPE_CHECKING:
    from trimtab.engine.capacity.capacity_service import Scaling

log = structlog.get_logger(__name__)

STEP_INTERVAL_S, RECOMMENDATION_INTERVAL_S, SAVE_INTERVAL_S = 1.0, 15.0, 300.0
"""Seconds between steps of actions, searches for recommendations, and saves of learned state."""
TOOL_METRICS_INTERVAL_S = 5.0
"""Seconds between reads of the tools' metrics."""
PATTERN_WINDOW_S = 1800.0
"""Seconds that patterns look back."""


class ObservedIncidentStore(IncidentStore):
    """Incident store that also reports each saved change event.

    fenced    : database access of the lease holder
    on_change : called with each saved change event
    """

    def __init__(self, fenced: FencedDatabase, hear: Callable[[Change], None]) -> None:
        super().__init__(fenced)
        self.on_change = hear

    def save_change(self, change: Change) -> None:
        """Insert or update by id."""
        super().save_change(change)
        self.on_change(change)


class ChangeRecordingJournal(Journal):
    """Journal that records each acknowledged action as a change event, shown with incidents."""

    def __init__(self, ledger: ActionLedger, clock: Clock, incidents: IncidentStore) -> None:
        super().__init__(ledger, clock)
        self.incidents = incidents

    async def verifying(self, action: Action, told: str) -> Action:
        """Mark the action as acknowledged by its tool and save it as a change event."""
        moved = await super().verifying(action, told)
        place = f"{action.subject} of {action.target}"
        title = place if action.is_action else f"{place}: {action.before} -> {action.after}"
        labels = {"tool": action.tool, "target": action.target}
        change = Change(moved.id, self.clock.now(), ChangeKind.ACTION, title, action.by, labels)
        try:
            await asyncio.to_thread(self.incidents.save_change, change)
        except StoreError as error:
            log.warning("own_change_not_saved", action=action.id, error=str(error))
        return moved


@dataclass(slots=True)
class ActionComponents:
    """Everything that recommends and acts. Call `run` until it is cancelled, then `close`.

    time_scale : factor on the search interval; below 1 for trial tools
    """

    context: LoopContext
    incident_service: Judging
    tools: ToolRegistry
    scheduler: Conductor
    recommendations: Advising
    inbox_notices: Noticing
    shadow_recorder: Shadowing
    ports: LoopPorts
    capacity: "Scaling"
    time_scale: float = 1.0
    is_started: bool = False
    """Whether the start is in the audit and the guard state is restored."""

    async def run(self) -> None:
        """Step the actions every second; search for recommendations and save learned state in the background.

        Failed work is retried. Raises LockedError once another engine has taken over.
        """
        clock = self.context.clock
        if not self.is_started:
            await self.scheduler.start()
            await self.recommendations.resume()
            self.is_started = True
        beside = [
            asyncio.create_task(
                self._repeat(
                    lambda: RECOMMENDATION_INTERVAL_S * self.time_scale, self._update_recommendations
                )
            ),
            asyncio.create_task(self._repeat(lambda: SAVE_INTERVAL_S, self._save_learned_state)),
            asyncio.create_task(self._repeat(self.capacity.interval_s, self.capacity.step)),
        ]
        try:
            while True:
                now = clock.now()
                await self.scheduler.step(now)
                for ended in (task for task in beside if task.done()):
                    ended.result()
                await clock.sleep_until(now + int(STEP_INTERVAL_S * 1e9))
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def reload(self, settings: Settings) -> None:
        """Apply changed tools and guard rules. Raises StoreError."""
        limits, starter = settings.guardrails, self.scheduler.starter
        self.recommendations.guard.limits = self.recommendations.seeing.limits = limits
        self.recommendations.guard.evaluations.keep_s = limits.hold
        self.scheduler.times = _action_times(limits)
        starter.time_scale = limits.time_scale
        starter.executor.deadlines = Deadlines(send_s=limits.action_timeout)
        self.time_scale = _time_scale(settings)
        self.capacity.configure(settings.capacity)
        await self.tools.reload(settings.tools)

    async def close(self) -> None:
        """Stop running work, save learned state and close the tools."""
        await self.scheduler.close()
        await self.capacity.close()
        try:
            await self._save_learned_state()
        except StoreError as error:
            log.error("incident_memory_not_saved", error=str(error))
        await self.tools.close()

    async def _update_recommendations(self) -> None:
        found = [*await self.recommendations.look(), *await self.inbox_notices.look()]
        for recommendation in [*found, *await self.shadow_recorder.look(self.recommendations.off)]:
            self.context.live.publish("recommendation", recommendation)

    async def _save_learned_state(self) -> None:
        await self.context.run_in_worker(self.incident_service.remember)

    async def _repeat(self, pause_s: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
        """Repeat the work forever; errors are logged and retried. Raises LockedError.

        pause_s : returns the seconds between two starts
        """
        clock = self.context.clock
        while True:
            begun = clock.now()
            try:
                await work()
            except LockedError:
                raise
            except EngineError as error:
                log.warning("background_work_failed", error=str(error))
            except Exception:
                log.exception("background_work_crashed")
            await clock.sleep_until(begun + int(pause_s() * 1e9))


async def build_action_components(
    settings: Settings, around: LoopContext, judging: Judging, fenced: FencedDatabase
) -> ActionComponents:
    """Build the action components; connects to no tool. Raises StoreError."""
    from trimtab.engine.capacity.capacity_service import (
        Scaling,  # imports numba, which must know its cache folder first
    )

    clock, live = around.clock, around.live
    data_dir, limits = settings.settings.data_dir, settings.guardrails
    memory = LearnedState(fenced)
    rack = await ToolRegistry(settings.tools, memory, clock).open()
    ledger = ActionLedger(fenced, data_dir / ANCHOR_FILE)
    incidents = ObservedIncidentStore(fenced, judging.heard.append)
    guard = GuardMemory(limits)
    seeing = Seeing(rack, live, around.score_log, incidents, clock, limits)
    asking = Asking(guard, ledger, clock, time.monotonic_ns, seeing)
    journal = ChangeRecordingJournal(ledger, clock, incidents)
    executor = Executor(journal, rack, clock, Deadlines(send_s=limits.action_timeout))
    starter = Starter(journal, executor, rack, asking, _id_factory(clock), limits.time_scale)
    undoing = Undoing(journal, _id_factory(clock))

    def tell(action: Action, words: str) -> None:
        log.warning("action_needs_operator", action=action.id, subject=action.subject, words=words)
        live.publish("action", action)

    guarded = GuardedSeries(ledger, incidents, live, memory)
    conductor = Conductor(starter, undoing, around.score_log, guarded, tell, _action_times(limits))
    advising = Advising(incidents, ledger, rack, guard, seeing, memory, live, clock, time.monotonic_ns)
    scaling = Scaling(
        settings.capacity,
        live,
        around.score_log,
        memory,
        clock,
        around.metrics.set_wanted_replicas,
        compile_capacity_kernels,
    )
    around.on_history, scaling.recorded = scaling.hear, around.read_history
    advising.capacity = scaling.shown
    seeing.scaled = guarded.scaled = advising.scaled
    desk = PublishedDecisions(ActingDesk(starter, undoing), live)
    ports = LoopPorts(
        incidents, PublishedIncidentActions(around, judging), ledger, desk, rack,
        on_alerts=make_alert_handler(around, judging), verify_audit=lambda: _audit_problem(ledger),
        blocked_reasons=conductor.waiting, configured_silences=judging.set_down, capacity=scaling.shown,
    )  # fmt: skip
    shadowing = Shadowing(incidents, ledger, around.score_log, clock, asking.in_mode_auto)
    return ActionComponents(
        around, judging, rack, conductor, advising, Noticing(advising), shadowing, ports, scaling,
        _time_scale(settings),
    )  # fmt: skip


def build_tools_source(acting: ActionComponents, settings: Settings) -> ToolsSource:
    """Return the tools' metrics as a source; trial tools are read more often."""
    interval_s = max(TOOL_METRICS_INTERVAL_S * _time_scale(settings), 1.0)
    return ToolsSource(acting.tools, acting.context.clock, interval_s, acting.recommendations.memory)


def build_incident_service(settings: Settings, store: EventStore) -> Judging:
    """Build the incident service with its state from before the restart. Raises StoreError."""
    made = Judging(
        store, IncidentStore(store.fenced), LearnedState(store.fenced),
        settings.settings.false_alarms_per_week, settings.notify.notifications_per_week,
        window_s=PATTERN_WINDOW_S * _time_scale(settings), silences=ActionLedger(store.fenced).silences,
    )  # fmt: skip
    made.resume()
    made.set_telling(settings.notify)
    return made


async def audit_reload(ledger: Ledger, reload: SettingsChange) -> None:
    """Append an audit row with the changed settings, which are in force already; log a failing store."""
    names = {"now": ", ".join(reload.applied_now), "at the next start": ", ".join(reload.needs_restart)}
    if not any(names.values()):
        return
    try:
        await asyncio.to_thread(
            ledger.append_audit, "settings reloaded", "settings", ENGINE, dict[str, Value](names)
        )
    except StoreError as error:
        log.error("reload_not_audited", error=str(error))


def _audit_problem(ledger: ActionLedger) -> str | None:
    found = verify(ledger)
    return "; ".join(str(one) for one in found[:5]) or None


def _action_times(limits: Guardrails) -> Times:
    return Times(
        plan_s=limits.plan_life, approval_s=limits.approval_life, watch_s=limits.watch,
        bad_checks=limits.bad_checks,
    )  # fmt: skip


def _time_scale(settings: Settings) -> float:
    """Return the factor on intervals and windows; below 1 with trial tools, whose guard rules are faster."""
    trials = any(tool.trial for tool in settings.tools.values())
    return max(settings.guardrails.time_scale, 0.1) if trials else 1.0


def _id_factory(clock: Clock) -> Callable[[], str]:
    return lambda: new_ulid(clock.now())
