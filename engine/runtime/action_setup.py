"""Builds and runs the action components: tools, ledger, guard, scheduler and decisions."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from trimtab.engine.actions.decisions import Decisions
from trimtab.engine.actions.executor import Deadlines, Executor
from trimtab.engine.actions.guard.guard_service import GuardService
from trimtab.engine.actions.guard.observation import TargetObserver
from trimtab.engine.actions.guard.situation_builder import SituationBuilder
from trimtab.engine.actions.guarded_series import GuardedSeries
from trimtab.engine.actions.journal import ENGINE, Journal
from trimtab.engine.actions.launcher import ActionLauncher
from trimtab.engine.actions.scheduler import ActionScheduler, SchedulerTimes
from trimtab.engine.actions.shadow import ShadowRecorder
from trimtab.engine.actions.undo import Undo
from trimtab.engine.api.loop_ports import LoopPorts
from trimtab.engine.audit.audit_export import verify_audit
from trimtab.engine.errors import EngineError, LockedError, StoreError
from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.platform.kernel_warmup import compile_capacity_kernels
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.recommendations.inbox_notices import InboxNotices
from trimtab.engine.recommendations.recommendation_service import RecommendationService
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
    from trimtab.engine.capacity.capacity_service import CapacityService

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

    def __init__(self, fenced: FencedDatabase, on_change: Callable[[Change], None]) -> None:
        super().__init__(fenced)
        self.on_change = on_change

    def save_change(self, change: Change) -> None:
        """Insert or update by id."""
        super().save_change(change)
        self.on_change(change)


class ChangeRecordingJournal(Journal):
    """Journal that records each acknowledged action as a change event, shown with incidents."""

    def __init__(self, ledger: ActionLedger, clock: Clock, incidents: IncidentStore) -> None:
        super().__init__(ledger, clock)
        self.incidents = incidents

    async def mark_verifying(self, action: Action, tool_message: str) -> Action:
        """Mark the action as acknowledged by its tool and save it as a change event."""
        verifying_action = await super().mark_verifying(action, tool_message)
        subject = f"{action.subject} of {action.target}"
        title = subject if action.is_action else f"{subject}: {action.before} -> {action.after}"
        labels = {"tool": action.tool, "target": action.target}
        change = Change(verifying_action.id, self.clock.now(), ChangeKind.ACTION, title, action.by, labels)
        try:
            await asyncio.to_thread(self.incidents.save_change, change)
        except StoreError as error:
            log.warning("own_change_not_saved", action=action.id, error=str(error))
        return verifying_action


@dataclass(slots=True)
class ActionComponents:
    """Everything that recommends and acts. Call `run` until it is cancelled, then `close`.

    time_scale : factor on the search interval; below 1 for trial tools
    """

    context: LoopContext
    incident_service: IncidentService
    tools: ToolRegistry
    scheduler: ActionScheduler
    recommendations: RecommendationService
    inbox_notices: InboxNotices
    shadow_recorder: ShadowRecorder
    ports: LoopPorts
    capacity: "CapacityService"
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
        background_tasks = [
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
                for ended in (task for task in background_tasks if task.done()):
                    ended.result()
                await clock.sleep_until(now + int(STEP_INTERVAL_S * 1e9))
        finally:
            for task in background_tasks:
                task.cancel()
            await asyncio.gather(*background_tasks, return_exceptions=True)

    async def reload(self, settings: Settings) -> None:
        """Apply changed tools and guard rules. Raises StoreError."""
        limits, launcher = settings.guardrails, self.scheduler.launcher
        self.recommendations.situation_builder.limits = self.recommendations.observer.limits = limits
        self.recommendations.situation_builder.proposals.keep_s = limits.hold
        self.scheduler.times = _action_times(limits)
        launcher.time_scale = limits.time_scale
        launcher.executor.deadlines = Deadlines(send_s=limits.action_timeout)
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
        found = [*await self.recommendations.update(), *await self.inbox_notices.update()]
        for recommendation in [*found, *await self.shadow_recorder.update(self.recommendations.switched_off)]:
            self.context.live.publish("recommendation", recommendation)

    async def _save_learned_state(self) -> None:
        await self.context.run_in_worker(self.incident_service.save_state)

    async def _repeat(self, pause_s: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
        """Repeat the work forever; errors are logged and retried. Raises LockedError.

        pause_s : returns the seconds between two starts
        """
        clock = self.context.clock
        while True:
            started = clock.now()
            try:
                await work()
            except LockedError:
                raise
            except EngineError as error:
                log.warning("background_work_failed", error=str(error))
            except Exception:
                log.exception("background_work_crashed")
            await clock.sleep_until(started + int(pause_s() * 1e9))


async def build_action_components(
    settings: Settings, context: LoopContext, incident_service: IncidentService, fenced: FencedDatabase
) -> ActionComponents:
    """Build the action components; connects to no tool. Raises StoreError."""
    from trimtab.engine.capacity.capacity_service import (
        CapacityService,  # imports numba, which must know its cache folder first
    )

    clock, live = context.clock, context.live
    data_dir, limits = settings.settings.data_dir, settings.guardrails
    state_store = LearnedState(fenced)
    tools = await ToolRegistry(settings.tools, state_store, clock).open()
    ledger = ActionLedger(fenced, data_dir / ANCHOR_FILE)
    incidents = ObservedIncidentStore(fenced, incident_service.pending_changes.append)
    situation_builder = SituationBuilder(limits)
    observer = TargetObserver(tools, live, context.score_log, incidents, clock, limits)
    guard_service = GuardService(situation_builder, ledger, clock, time.monotonic_ns, observer)
    journal = ChangeRecordingJournal(ledger, clock, incidents)
    executor = Executor(journal, tools, clock, Deadlines(send_s=limits.action_timeout))
    launcher = ActionLauncher(journal, executor, tools, guard_service, _id_factory(clock), limits.time_scale)
    undo = Undo(journal, _id_factory(clock))

    def report_to_operator(action: Action, message: str) -> None:
        log.warning("action_needs_operator", action=action.id, subject=action.subject, reason=message)
        live.publish("action", action)

    guarded_series = GuardedSeries(ledger, incidents, live, state_store)
    scheduler = ActionScheduler(
        launcher, undo, context.score_log, guarded_series, report_to_operator, _action_times(limits)
    )
    recommendations = RecommendationService(
        incidents, ledger, tools, situation_builder, observer, state_store, live, clock, time.monotonic_ns
    )
    capacity = CapacityService(
        settings.capacity,
        live,
        context.score_log,
        state_store,
        clock,
        context.metrics.set_wanted_replicas,
        compile_capacity_kernels,
    )
    context.on_history, capacity.read_history = capacity.add_history, context.read_history
    recommendations.capacity = capacity.capacities
    observer.load_series = guarded_series.load_series = recommendations.load_series
    decisions = PublishedDecisions(Decisions(launcher, undo), live)
    ports = LoopPorts(
        incidents, PublishedIncidentActions(context, incident_service), ledger, decisions, tools,
        on_alerts=make_alert_handler(context, incident_service), verify_audit=lambda: _audit_problem(ledger),
        blocked_reasons=scheduler.blocked_reasons,
        configured_silences=incident_service.configured_silences, capacity=capacity.capacities,
    )  # fmt: skip
    shadow_recorder = ShadowRecorder(
        incidents, ledger, context.score_log, clock, guard_service.decide_as_auto
    )
    return ActionComponents(
        context, incident_service, tools, scheduler, recommendations, InboxNotices(recommendations),
        shadow_recorder, ports, capacity, _time_scale(settings),
    )  # fmt: skip


def build_tools_source(components: ActionComponents, settings: Settings) -> ToolsSource:
    """Return the tools' metrics as a source; trial tools are read more often."""
    interval_s = max(TOOL_METRICS_INTERVAL_S * _time_scale(settings), 1.0)
    return ToolsSource(
        components.tools, components.context.clock, interval_s, components.recommendations.state_store
    )


def build_incident_service(settings: Settings, store: EventStore) -> IncidentService:
    """Build the incident service with its state from before the restart. Raises StoreError."""
    incident_service = IncidentService(
        store, IncidentStore(store.fenced), LearnedState(store.fenced),
        settings.settings.false_alarms_per_week, settings.notify.notifications_per_week,
        window_s=PATTERN_WINDOW_S * _time_scale(settings),
        read_silences=ActionLedger(store.fenced).silences,
    )  # fmt: skip
    incident_service.resume()
    incident_service.configure_notifications(settings.notify)
    return incident_service


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
    findings = verify_audit(ledger)
    return "; ".join(str(finding) for finding in findings[:5]) or None


def _action_times(limits: Guardrails) -> SchedulerTimes:
    return SchedulerTimes(
        plan_s=limits.plan_life, approval_s=limits.approval_life, watch_s=limits.watch,
        bad_checks=limits.bad_checks,
    )  # fmt: skip


def _time_scale(settings: Settings) -> float:
    """Return the factor on intervals and windows; below 1 with trial tools, whose guard rules are faster."""
    trials = any(tool.trial for tool in settings.tools.values())
    return max(settings.guardrails.time_scale, 0.1) if trials else 1.0


def _id_factory(clock: Clock) -> Callable[[], str]:
    return lambda: new_ulid(clock.now())
