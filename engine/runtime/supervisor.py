"""Starts and stops the source loops, and applies changed settings."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace

import structlog

from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import LockedError, SettingsError, SourceError, StoreError
from trimtab.engine.observability import logs
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.ports import Clock, Sink, Source
from trimtab.engine.runtime import components
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.source_loop import REMOVED, SourceLoop
from trimtab.engine.settings import Prometheus, Settings
from trimtab.engine.settings.file_watcher import SettingsChange, compare_settings
from trimtab.engine.types import History

log = structlog.get_logger(__name__)

RESTART_DELAY_S = 30.0
"""Seconds between a failure of a task and its restart."""


async def keep_running(name: str, task: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run a task, and restart it `RESTART_DELAY_S` after each failure, until it returns or is cancelled.

    Raises LockedError, which no restart can fix: another engine has taken over.
    """
    while True:
        try:
            await task()
        except LockedError:
            raise
        except Exception:
            log.exception("task_failed", task=name, restart_after_s=RESTART_DELAY_S)
        else:
            return
        await clock.sleep_until(clock.now() + int(RESTART_DELAY_S * 1e9))


class Supervisor:
    """Runs the loops of all sources. A failing loop does not affect the others.

    context : ports and settings of the loops; `read_history` is set here
    clock   : clock of sources and sinks
    metrics : receives the sinks' metrics
    """

    def __init__(self, context: LoopContext, clock: SystemClock, metrics: Metrics) -> None:
        self.context = context
        self.clock = clock
        self.metrics = metrics
        self.found_prometheus: Prometheus | None = None
        """A Prometheus found on this machine, watched while none is configured."""
        self.loops: dict[str, SourceLoop] = {}
        self.extra_sources: list[Source] = []
        """Sources that are not in `sources:`, such as the tools' metrics."""
        self.reload_listeners: list[Callable[[SettingsChange], Awaitable[None]]] = []
        """Called after each change of the settings; must not raise."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        context.read_history = self.read_history

    def start(self, settings: Settings) -> None:
        """Start the enabled sources. Raises SettingsError if a source cannot be built."""
        self.context.sinks = components.build_sinks(settings, self.metrics, self.clock)
        sources = [
            components.SOURCE_FACTORIES[name](settings, self.clock)
            for name in components.enabled_sources(settings.sources)
        ]
        for source in (*sources, *self.extra_sources):
            self._start_loop(source)
        if not self.loops:
            self.context.live.set_waiting_for(
                "a source: all are disabled; enable one under `sources:` in trimtab.yaml"
            )

    async def close_removed_sources(self) -> None:
        """After the start: close anomalies and incidents of sources that are no longer configured."""
        try:
            await self.context.run_in_worker(self._close_removed_sources, frozenset(self.loops))
        except StoreError as error:
            log.warning("removed_sources_not_closed", error=str(error))

    def _close_removed_sources(self, watched: frozenset[str]) -> None:
        context = self.context
        if context.incident_service is not None:
            context.incident_service.close_other_sources(watched, self.clock.now())
        for anomaly in context.store.anomalies(open_only=True, limit=100_000):
            if anomaly.source not in watched:
                context.store.save_anomaly(replace(anomaly, end=anomaly.peak_time, reason=REMOVED))

    async def stop(self) -> None:
        """Stop every loop with its state on disk, then close the sinks."""
        await asyncio.gather(*(self._stop_loop(name) for name in list(self.loops)))
        for sink in self.context.sinks:
            await sink.close()

    async def apply_settings(self, before: Settings, new: Settings) -> SettingsChange:
        """Apply the settings that can change while running; return what changed and what waits for a restart.

        Raises SettingsError, with nothing changed, if a source or sink cannot be built.
        """
        reload = compare_settings(before, self.with_found_prometheus(new))
        after = reload.settings
        new_sources = self._build_changed_sources(before, after)
        new_sinks = None
        if "writer" in reload.applied_now:
            new_sinks = components.build_sinks(after, self.metrics, self.clock)
        logs.hide_values(logs.collect_secrets(after))
        logs.set_log_level(after.settings.log_level)
        self.context.general = after.settings
        if self.context.incident_service is not None:
            await self.context.run_in_worker(
                self.context.incident_service.configure_notifications, after.notify
            )
        for loop in self.loops.values():
            loop.set_budget(after.settings.false_alarms_per_week)
        await self._replace_sources(after, new_sources)
        if new_sinks is not None:
            await self._replace_sinks(new_sinks)
        for listener in self.reload_listeners:
            await listener(reload)
        return reload

    async def read_history(self) -> AsyncIterator[History]:
        """Yield the coarse history of all sources again, for components that start later.

        Sources that still start, or that fail, are left out.
        """
        for loop in [loop for loop in self.loops.values() if loop.detector is not None]:
            chunks = loop.source.history(self.clock.now())
            try:
                async for history in chunks:
                    if not history.coarse:  # fine chunks come last and cover hours only
                        break
                    yield history
            except SourceError as error:
                log.warning("history_unreadable", source=loop.source.name, error=str(error))
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

    async def set_extra_source(self, source: Source, enabled: bool) -> None:
        """Start or stop watching a source that is not in `sources:`."""
        loop = self.loops.get(source.name)
        if enabled and loop is None:
            self.extra_sources.append(source)
            self._start_loop(source)
        elif not enabled and loop is not None:
            self.extra_sources = [other for other in self.extra_sources if other.name != source.name]
            await self._stop_loop(source.name)
            await loop.remove()

    def with_found_prometheus(self, settings: Settings) -> Settings:
        """Return the settings with the found Prometheus, if none is configured."""
        if self.found_prometheus is None or settings.sources.prometheus is not None:
            return settings
        sources = settings.sources.model_copy(update={"prometheus": self.found_prometheus})
        return settings.model_copy(update={"sources": sources})

    def _build_changed_sources(self, before: Settings, after: Settings) -> list[Source]:
        """Build new sources where the settings changed."""
        old, new = components.enabled_sources(before.sources), components.enabled_sources(after.sources)
        return [
            components.SOURCE_FACTORIES[name](after, self.clock) for name in new if new[name] != old.get(name)
        ]

    async def _replace_sources(self, after: Settings, new_sources: list[Source]) -> None:
        for source in new_sources:
            if source.name in self.loops:
                await self._stop_loop(source.name)
            self._start_loop(source)
        remaining = {
            *components.enabled_sources(after.sources),
            *(source.name for source in self.extra_sources),
        }
        for name in set(self.loops) - remaining:
            loop = self.loops[name]
            await self._stop_loop(name)
            await loop.remove()

    async def _replace_sinks(self, new: list[Sink]) -> None:
        old, self.context.sinks = self.context.sinks, new
        for sink in old:
            await sink.close()

    def _start_loop(self, source: Source) -> None:
        loop = SourceLoop(source, self.context)
        self.loops[source.name] = loop
        name = f"source {source.name}"
        self._tasks[source.name] = asyncio.create_task(keep_running(name, loop.run, self.clock), name=name)

    async def _stop_loop(self, name: str) -> None:
        task, loop = self._tasks.pop(name), self.loops.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await loop.stop()


def error_on_one_line(error: SettingsError) -> str:
    """Return the error message joined into one line."""
    return "; ".join(str(error).splitlines())
