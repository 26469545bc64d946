"""Which sources run: starts and stops their loops, and changes them when the settings change."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace

import structlog

from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import SettingsError, SourceError, StoreError
from trimtab.engine.observability import logs
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.ports import Sink, Source
from trimtab.engine.runtime import components
from trimtab.engine.runtime.background_tasks import kept_running
from trimtab.engine.runtime.loop_context import Surroundings
from trimtab.engine.runtime.source_loop import REMOVED, SourceLoop
from trimtab.engine.settings import Prometheus, Settings
from trimtab.engine.settings.file_watcher import Reload, compare
from trimtab.engine.types import History

log = structlog.get_logger(__name__)


class Supervisor:
    """The loops of all sources. One that fails stops nobody else.

    found : a Prometheus that was found on this machine, watched while none is configured
    """

    def __init__(self, around: Surroundings, clock: SystemClock, metrics: Metrics) -> None:
        self.around = around
        self.clock = clock
        self.metrics = metrics
        self.found: Prometheus | None = None
        self.loops: dict[str, SourceLoop] = {}
        self.always: list[Source] = []
        """Sources that are no settings of their own, as the figures of the tools."""
        self.followers: list[Callable[[Reload], Awaitable[None]]] = []
        """What else goes on with changed settings; raises nothing."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        around.recorded = self.recorded

    def start(self, settings: Settings) -> None:
        """Run what is wanted. Raises SettingsError where a source cannot be built."""
        self.around.sinks = components.sinks(settings, self.metrics, self.clock)
        sources = [
            components.RACK[name](settings, self.clock) for name in components.wanted(settings.sources)
        ]
        for source in (*sources, *self.always):
            self._run(source)
        if not self.loops:
            self.around.live.wait_for("a source: all are disabled, see `sources:` in trimtab.yaml")

    async def end_others(self) -> None:
        """After the start: what was open of sources that are configured no more is over."""
        try:
            await self.around.off_loop(self._end_others, frozenset(self.loops))
        except StoreError as error:
            log.warning("anomalies of sources that are gone stay open", error=str(error))

    def _end_others(self, watched: frozenset[str]) -> None:
        around = self.around
        if around.judging is not None:
            around.judging.only(watched, self.clock.now())
        for anomaly in around.store.anomalies(open_only=True, limit=100_000):
            if anomaly.source not in watched:
                around.store.save_anomaly(replace(anomaly, end=anomaly.peak_time, reason=REMOVED))

    async def stop(self) -> None:
        """End every loop, with its state on disk; then the sinks."""
        await asyncio.gather(*(self._end(name) for name in list(self.loops)))
        for sink in self.around.sinks:
            await sink.close()

    async def change(self, before: Settings, wanted: Settings) -> Reload:
        """Apply what can change while running; `settings` of what it gives are in force then.

        Raises SettingsError, with nothing changed, where a source or sink cannot be built.
        """
        reload = compare(before, self.completed(wanted))
        after = reload.settings
        built = self._built(before, after)
        new_sinks = None
        if "writer" in reload.changed:
            new_sinks = components.sinks(after, self.metrics, self.clock)
        logs.hide(logs.secrets_in(after))
        logs.set_level(after.settings.log_level)
        self.around.general = after.settings
        if self.around.judging is not None:
            await self.around.off_loop(self.around.judging.set_telling, after.notify)
        for loop in self.loops.values():
            loop.set_budget(after.settings.false_alarms_per_week)
        await self._exchange(after, built)
        if new_sinks is not None:
            await self._exchange_sinks(new_sinks)
        for follow in self.followers:
            await follow(reload)
        return reload

    async def recorded(self) -> AsyncIterator[History]:
        """What the sources recorded, coarsely, once more: for those who came after it was read.

        A source that still starts hands it over by itself; one that fails is left out.
        """
        for loop in [loop for loop in self.loops.values() if loop.senses is not None]:
            found = loop.source.history(self.clock.now())
            try:
                async for history in found:
                    if not history.coarse:  # what is fine comes last, and tells of hours only
                        break
                    yield history
            except SourceError as error:
                log.warning("history cannot be read again", source=loop.source.name, error=str(error))
            finally:
                if isinstance(found, AsyncGenerator):
                    await found.aclose()

    async def watch(self, source: Source, wanted: bool) -> None:
        """Run a source that is no setting of its own, or watch it no more."""
        loop = self.loops.get(source.name)
        if wanted and loop is None:
            self.always.append(source)
            self._run(source)
        elif not wanted and loop is not None:
            self.always = [one for one in self.always if one.name != source.name]
            await self._end(source.name)
            await loop.forget()

    def completed(self, settings: Settings) -> Settings:
        """The settings, with the Prometheus that was found where none is configured."""
        if self.found is None or settings.sources.prometheus is not None:
            return settings
        sources = settings.sources.model_copy(update={"prometheus": self.found})
        return settings.model_copy(update={"sources": sources})

    def _built(self, before: Settings, after: Settings) -> list[Source]:
        """New sources for those whose settings changed."""
        old, new = components.wanted(before.sources), components.wanted(after.sources)
        return [components.RACK[name](after, self.clock) for name in new if new[name] != old.get(name)]

    async def _exchange(self, after: Settings, built: list[Source]) -> None:
        for source in built:
            if source.name in self.loops:
                await self._end(source.name)
            self._run(source)
        staying = {*components.wanted(after.sources), *(source.name for source in self.always)}
        for name in set(self.loops) - staying:
            loop = self.loops[name]
            await self._end(name)
            await loop.forget()

    async def _exchange_sinks(self, new: list[Sink]) -> None:
        old, self.around.sinks = self.around.sinks, new
        for sink in old:
            await sink.close()

    def _run(self, source: Source) -> None:
        loop = SourceLoop(source, self.around)
        self.loops[source.name] = loop
        name = f"source {source.name}"
        self._tasks[source.name] = asyncio.create_task(kept_running(name, loop.run, self.clock), name=name)

    async def _end(self, name: str) -> None:
        task, loop = self._tasks.pop(name), self.loops.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await loop.stop()


def explain(error: SettingsError) -> str:
    """What a refused change of the settings says: all of it, on one line."""
    return "; ".join(str(error).splitlines())
