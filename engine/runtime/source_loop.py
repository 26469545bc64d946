"""One source's ticks: the stages in order, nothing else. One asyncio task a source."""

import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import structlog

from trimtab.engine.detection.tick_assembler import ClosedTick, TickAssembler
from trimtab.engine.detection.tick_result import Sensed
from trimtab.engine.errors import SourceError
from trimtab.engine.observability.logs import traced
from trimtab.engine.patterns.pattern_watcher import PatternWatch
from trimtab.engine.ports import Source
from trimtab.engine.redaction import clean_text
from trimtab.engine.runtime.loop_context import Surroundings
from trimtab.engine.runtime.persistence import Keeper
from trimtab.engine.runtime.recovery import had_until, recover, warm
from trimtab.engine.types import SourceState, SourceStatus, iso

if TYPE_CHECKING:
    from trimtab.engine.detection.source_detector import Senses

log = structlog.get_logger(__name__)

SNAPSHOT_S = 300.0
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
CLOCK_BACK_INTERVALS = 3
"""A clock that was set back by less is waited for."""
REMOVED = "source removed"


@runtime_checkable
class Recording(Protocol):
    """A source that replays what was recorded, at its own pace, and can leave out what was had."""

    start_after: int | None


class SourceLoop:
    """Opens a source, goes on where it was or learns from its history, then ticks until it is stopped."""

    def __init__(self, source: Source, around: Surroundings) -> None:
        self.source = source
        self.around = around
        self.keeper = Keeper(source.name, around.store, around.score_log, around.snapshots)
        self.senses: Senses | None = None
        self.ticks = 0
        self.tick_s = self.lag_s = 0.0
        self.assembler = TickAssembler(source.interval_s, by_reading=True)
        self._budget = around.general.false_alarms_per_week
        self._snapshot_at = 0
        self._warmed = False
        around.live.tell_source(SourceStatus(source.name, SourceState.STARTING, source.interval_s))

    async def run(self) -> None:
        """Until it is cancelled, or a recording is at its end."""
        await self._open()
        start = await self.around.off_loop(lambda: recover(self.keeper, self._fresh, self._watch()))
        if not start.going_on:
            self._warmed = await warm(self.source, self.around, start.senses) > 0
        self.senses = start.senses
        if self._warmed:
            await self.around.off_loop(self._snapshot)
        now = start.senses.now()
        if start.senses.time is not None:
            self.assembler.closed_to = start.senses.time
            self._tell(now)
            self.around.live.wait_for("")
        if self.around.judging is not None:
            at = start.senses.time or self.around.clock.now()
            await self.around.off_loop(
                self.around.judging.went_on, self.source.name, now.keys, self.source.info,
                tuple(now.open_ids.values()), at,
            )  # fmt: skip
        while await self._next():
            pass
        self.around.live.change_source(self.source.name, detail=self.source.detail())
        await self.around.off_loop(self._snapshot)

    async def stop(self) -> None:
        """After `run` was cancelled: make the state durable, let go of the source."""
        await self.around.off_loop(self._snapshot)
        try:
            await self.source.close()
        except SourceError as error:
            log.warning("source did not close", source=self.source.name, error=clean_text(str(error)))

    async def forget(self) -> None:
        """The source is watched no more: its open anomalies end."""
        if self.senses is not None:
            now = self.senses.time or self.around.clock.now()
            ended = self.senses.anomalies.close_all(now, REMOVED)
            await self.around.off_loop(self.keeper.keep, (), None, ended)
            for anomaly in ended:
                self.around.live.tell_anomaly(anomaly)
            await self.around.off_loop(self._snapshot)
        if self.around.judging is not None:
            await self.around.off_loop(self.around.judging.forget, self.source.name)
        self.around.live.remove(self.source.name)
        self.around.metrics.forget(self.source.name)

    def set_budget(self, false_alarms_per_week: float) -> None:
        """Another false-alarm budget from the next tick on."""
        self._budget = false_alarms_per_week

    async def _open(self) -> None:
        """Try until the source opens, less and less often."""
        wait_s = FIRST_RETRY_S
        if isinstance(self.source, Recording):
            self.source.start_after = await self.around.off_loop(had_until, self.keeper)
        while not await self._opened():
            await self.around.clock.sleep_until(self.around.clock.now() + int(wait_s * 1e9))
            wait_s = min(wait_s * 2, LONGEST_RETRY_S)
        self.assembler = TickAssembler(self.source.interval_s, by_reading=True)
        self.around.live.change_source(self.source.name, interval_s=self.source.interval_s)

    async def _opened(self) -> bool:
        try:
            await self.source.open()
        except Exception as error:  # told by _unknown; the other sources go on
            self._unknown(error)
            return False
        return True

    def _fresh(self) -> "Senses":
        from trimtab.engine.detection.source_detector import Senses

        source, general = self.source, self.around.general
        return Senses(
            source.name, source.interval_s, source.replaced, general.detectors, self._budget,
            general.max_series, source.info,
        )  # fmt: skip

    def _watch(self) -> PatternWatch | None:
        """What looks at this source's ticks beside scores."""
        judging, source = self.around.judging, self.source
        return None if judging is None else judging.watch(source.name, source.interval_s, source.info)

    async def _next(self) -> bool:
        """Wait for the next tick, read, and sense what that closes; whether there is more to come."""
        assembler = self.assembler
        due = self._due()
        if not isinstance(self.source, Recording):
            await self.around.clock.sleep_until(due)
        with traced(source=self.source.name):
            problem, watermark = None, due
            try:
                reading = await self.source.read()
            except Exception as error:  # told by _unknown; the tick is unknown
                problem = error
                assembler.fail(due)
            else:
                if reading is None:
                    return False
                assembler.add(reading)
                watermark = assembler.tick_of(reading.time)
            for tick in assembler.close(watermark):
                await self._tick(tick, problem)
        return True

    def _due(self) -> int:
        """Time of the next tick: the one that has begun, unless it is closed already."""
        now, interval = self.around.clock.now(), self.assembler.interval_ns
        begun = now // interval * interval
        ahead = self.assembler.closed_to - now
        if ahead > CLOCK_BACK_INTERVALS * interval and not isinstance(self.source, Recording):
            log.warning(
                "the clock went back, going on from there", source=self.source.name, seconds=ahead / 1e9
            )
            self.assembler.rewind(begun - interval)
            self._snapshot_at = 0
        return max(self.assembler.closed_to + interval, begun)

    async def _tick(self, tick: ClosedTick, problem: Exception | None) -> None:
        begin = time.perf_counter()
        try:
            sensed = await self.around.off_loop(self._stages, tick)
            self._show(tick, sensed, problem)
            await self._judge(sensed)
            if self.around.clock.now() >= self._snapshot_at or self.keeper.hole:
                await self.around.off_loop(self._snapshot)
            if sensed.known:
                for sink in list(self.around.sinks):
                    await sink.send(sensed.keys, sensed.scores)
        except Exception as error:  # told by _unknown; a fault here is none of the others'
            self._unknown(error)
            return
        self._account(tick, sensed, time.perf_counter() - begin)

    def _stages(self, tick: ClosedTick) -> Sensed:
        """What blocks or computes: log the tick, sense it, keep what came of it."""
        if self.senses is None:
            self.senses = self._fresh()
        if self.senses.anomalies.budget != self._budget:
            self.senses.set_budget(self._budget)
        self.keeper.log_tick(tick, self._budget)
        sensed = self.senses.step(tick)
        infos = [self.source.info(sensed.keys[slot]) for slot in sensed.came.tolist()]
        self.keeper.keep(sensed.keys, sensed.scores if sensed.known else None, sensed.anomalies, infos)
        return sensed

    async def _judge(self, sensed: Sensed) -> None:
        """What belongs together, for all sources at once; a fault in that leaves anomalies as they are."""
        judging = self.around.judging
        if judging is None or not sensed.known:
            return
        source = self.source
        try:
            told, notices = await self.around.off_loop(judging.step, sensed, source.interval_s, source.info)
        except Exception:
            log.exception("incidents cannot be judged", source=source.name)
            return
        for incident in told:
            self.around.live.tell("incident", incident)
        for notice in notices:
            log.warning("incident", kind=notice.kind, title=notice.incident.title, why=notice.why)
        if notices and self.around.notifications is not None:
            await self.around.notifications.take(notices)

    def _snapshot(self) -> None:
        self._snapshot_at = self.around.clock.now() + int(SNAPSHOT_S * 1e9)
        if self.senses is not None and (self._warmed or self.senses.time is not None):
            senses, watch = self.senses, self._watch()
            arrays, meta = senses.state()
            looked, known = ({}, {}) if watch is None else watch.state()
            self.keeper.snapshot(
                senses.time or 0, arrays | looked, meta | known, keep_from=senses.replay_from()
            )

    def _show(self, tick: ClosedTick, sensed: Sensed, problem: Exception | None) -> None:
        live, source = self.around.live, self.source
        self._tell(sensed)
        if tick.unknown:
            self._unknown(problem or SourceError(f"{source.name} did not answer"))
            return
        if sensed.certain:
            self._state(SourceState.UP, source.detail())
        else:
            self._state(SourceState.UNKNOWN, f"answered in part; {source.detail()}")
        left_out = getattr(source, "left_out_series", len(source.left_out()))
        live.change_source(source.name, series=live.counts(source.name)[0], left_out=left_out)
        live.wait_for("")

    def _tell(self, sensed: Sensed) -> None:
        names = () if self.senses is None else self.senses.scoring.names
        self.around.live.tell_sensed(sensed, self.source.interval_s, names, self.source.info)

    def _unknown(self, error: Exception) -> None:
        """Say that nothing is known of the source, and why; a fault of our own with its traceback."""
        live, name = self.around.live, self.source.name
        if isinstance(error, SourceError):
            detail = clean_text(str(error))
            if live.status(name).state is not SourceState.UNKNOWN:
                log.warning("source is unknown", source=name, error=detail)
        else:
            detail = f"{type(error).__name__} inside Trimtab; the log has more"
            log.error("source failed", source=name, exc_info=error)
        self._state(SourceState.UNKNOWN, detail)
        if not live.ready()[0]:
            live.wait_for(f"{name}: {detail}")

    def _state(self, state: SourceState, detail: str) -> None:
        live, name = self.around.live, self.source.name
        before = live.status(name)
        if before.state is SourceState.UNKNOWN and state is SourceState.UP:
            log.info("source answers again", source=name)
        since = before.since if before.state is state and before.since else self.around.clock.now()
        live.change_source(name, state=state, detail=detail, since=since)
        self.around.metrics.source_state(name, state)

    def _account(self, tick: ClosedTick, sensed: Sensed, seconds: float) -> None:
        name, metrics = self.source.name, self.around.metrics
        self.ticks += 1
        self.tick_s, self.lag_s = seconds, (self.around.clock.now() - tick.time) / 1e9
        series, learning, unusual, _ = self.around.live.counts(name)
        metrics.tick(name, seconds, self.lag_s, sensed.samples)
        metrics.series(name, series, learning, unusual)
        log.info(
            "tick", at=iso(tick.time), samples=sensed.samples, series=series, unusual=unusual,
            anomalies=len(sensed.anomalies), duration_s=round(seconds, 6), lag_s=round(self.lag_s, 3),
        )  # fmt: skip
