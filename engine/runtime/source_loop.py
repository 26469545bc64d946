"""Tick loop of one source: runs the stages in order. One asyncio task per source."""

import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import structlog

from trimtab.engine.detection.tick_assembler import ClosedTick, TickAssembler
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.errors import SourceError
from trimtab.engine.observability.logs import trace_context
from trimtab.engine.patterns.pattern_watcher import PatternWatcher
from trimtab.engine.ports import Source
from trimtab.engine.redaction import redact_text
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.persistence import Persistence
from trimtab.engine.runtime.recovery import last_stored_tick, learn_history, recover_detector
from trimtab.engine.types import SourceState, SourceStatus, iso

if TYPE_CHECKING:
    from trimtab.engine.detection.source_detector import SourceDetector

log = structlog.get_logger(__name__)

SNAPSHOT_INTERVAL_S = 300.0
FIRST_RETRY_S, MAX_RETRY_S = 1.0, 60.0
MAX_CLOCK_WAIT_INTERVALS = 3
"""The loop waits for a clock that was set back by up to this many intervals; beyond it the loop rewinds."""
REMOVED = "source removed"


@runtime_checkable
class ReplaySource(Protocol):
    """A source that replays a recording at its own pace, and can skip what was already read."""

    start_after: int | None


class SourceLoop:
    """Opens a source, restores or warms up its detector, then processes ticks until stopped.

    source  : the source to read
    context : ports and settings
    """

    def __init__(self, source: Source, context: LoopContext) -> None:
        self.source = source
        self.context = context
        self.persistence = Persistence(source.name, context.store, context.score_log, context.snapshots)
        self.detector: SourceDetector | None = None
        self.tick_count = 0
        self.tick_s = self.lag_s = 0.0
        self.assembler = TickAssembler(source.interval_s, by_reading=True)
        self._budget = context.general.false_alarms_per_week
        self._next_snapshot = 0
        self._learned_history = False
        context.live.set_source_status(SourceStatus(source.name, SourceState.STARTING, source.interval_s))

    async def run(self) -> None:
        """Run until cancelled, or until a recording ends."""
        await self._open()
        start = await self.context.run_in_worker(
            lambda: recover_detector(self.persistence, self._new_detector, self._pattern_watcher())
        )
        if not start.is_resumed:
            self._learned_history = await learn_history(self.source, self.context, start.detector) > 0
        self.detector = start.detector
        if self._learned_history:
            await self.context.run_in_worker(self._save_snapshot)
        current = start.detector.current()
        if start.detector.time is not None:
            self.assembler.closed_until = start.detector.time
            self._publish_tick(current)
            self.context.live.set_waiting_for("")
        if self.context.incident_service is not None:
            at = start.detector.time or self.context.clock.now()
            await self.context.run_in_worker(
                self.context.incident_service.resume_source, self.source.name, current.keys,
                self.source.info, tuple(current.open_ids.values()), at,
            )  # fmt: skip
        while await self._read_next():
            pass
        self.context.live.update_source_status(self.source.name, detail=self.source.detail())
        await self.context.run_in_worker(self._save_snapshot)

    async def stop(self) -> None:
        """After `run` was cancelled: save a snapshot and close the source."""
        await self.context.run_in_worker(self._save_snapshot)
        try:
            await self.source.close()
        except SourceError as error:
            log.warning("source_not_closed", source=self.source.name, error=redact_text(str(error)))

    async def remove(self) -> None:
        """After `stop`, for a removed source: close its anomalies and drop its series."""
        if self.detector is not None:
            now = self.detector.time or self.context.clock.now()
            ended = self.detector.anomalies.close_all(now, REMOVED)
            await self.context.run_in_worker(self.persistence.save, (), None, ended)
            for anomaly in ended:
                self.context.live.publish_anomaly(anomaly)
            await self.context.run_in_worker(self._save_snapshot)
        if self.context.incident_service is not None:
            await self.context.run_in_worker(self.context.incident_service.forget_source, self.source.name)
        self.context.live.remove_source(self.source.name)
        self.context.metrics.remove_source(self.source.name)

    def set_budget(self, false_alarms_per_week: float) -> None:
        """Use another false-alarm budget (per series and week) from the next tick on."""
        self._budget = false_alarms_per_week

    async def _open(self) -> None:
        """Open the source, with exponential backoff."""
        wait_s = FIRST_RETRY_S
        if isinstance(self.source, ReplaySource):
            self.source.start_after = await self.context.run_in_worker(last_stored_tick, self.persistence)
        while not await self._try_open():
            await self.context.clock.sleep_until(self.context.clock.now() + int(wait_s * 1e9))
            wait_s = min(wait_s * 2, MAX_RETRY_S)
        self.assembler = TickAssembler(self.source.interval_s, by_reading=True)
        self.context.live.update_source_status(self.source.name, interval_s=self.source.interval_s)

    async def _try_open(self) -> bool:
        try:
            await self.source.open()
        except Exception as error:  # reported by _mark_unknown; other sources are unaffected
            self._mark_unknown(error)
            return False
        return True

    def _new_detector(self) -> "SourceDetector":
        from trimtab.engine.detection.source_detector import SourceDetector

        source, general = self.source, self.context.general
        return SourceDetector(
            source.name, source.interval_s, source.is_replacement, general.detectors, self._budget,
            general.max_series, source.info,
        )  # fmt: skip

    def _pattern_watcher(self) -> PatternWatcher | None:
        """Return the pattern watcher of this source; None = there are no incidents."""
        incident_service, source = self.context.incident_service, self.source
        return (
            None
            if incident_service is None
            else incident_service.watcher(source.name, source.interval_s, source.info)
        )

    async def _read_next(self) -> bool:
        """Wait for the next tick and process all closed ticks. Return False at the end of a recording."""
        assembler = self.assembler
        due = self._next_tick_time()
        if not isinstance(self.source, ReplaySource):
            await self.context.clock.sleep_until(due)
        with trace_context(source=self.source.name):
            problem, watermark = None, due
            try:
                reading = await self.source.read()
            except Exception as error:  # reported by _mark_unknown; the tick is unknown
                problem = error
                assembler.fail(due)
            else:
                if reading is None:
                    return False
                assembler.add(reading)
                watermark = assembler.tick_time(reading.time)
            for tick in assembler.close(watermark):
                await self._process_tick(tick, problem)
        return True

    def _next_tick_time(self) -> int:
        """Return the time of the tick that has started, or of the next one if that is already closed."""
        now, interval = self.context.clock.now(), self.assembler.interval_ns
        started = now // interval * interval
        ahead = self.assembler.closed_until - now
        if ahead > MAX_CLOCK_WAIT_INTERVALS * interval and not isinstance(self.source, ReplaySource):
            log.warning("clock_set_back", source=self.source.name, seconds=ahead / 1e9)
            self.assembler.rewind(started - interval)
            self._next_snapshot = 0
        return max(self.assembler.closed_until + interval, started)

    async def _process_tick(self, tick: ClosedTick, problem: Exception | None) -> None:
        begin = time.perf_counter()
        try:
            result = await self.context.run_in_worker(self._run_stages, tick)
            self._publish_status(tick, result, problem)
            await self._update_incidents(result)
            if self.context.clock.now() >= self._next_snapshot or self.persistence.has_gap:
                await self.context.run_in_worker(self._save_snapshot)
            if result.has_samples:
                for sink in list(self.context.sinks):
                    await sink.send(result.keys, result.scores)
        except Exception as error:  # reported by _mark_unknown; other sources are unaffected
            self._mark_unknown(error)
            return
        self._record_metrics(tick, result, time.perf_counter() - begin)

    def _run_stages(self, tick: ClosedTick) -> TickResult:
        """Blocking stages of a tick: log it, detect anomalies, save the results."""
        if self.detector is None:
            self.detector = self._new_detector()
        if self.detector.anomalies.budget != self._budget:
            self.detector.set_budget(self._budget)
        self.persistence.log_tick(tick, self._budget)
        result = self.detector.step(tick)
        infos = [self.source.info(result.keys[slot]) for slot in result.new_slots.tolist()]
        self.persistence.save(
            result.keys, result.scores if result.has_samples else None, result.anomalies, infos
        )
        return result

    async def _update_incidents(self, result: TickResult) -> None:
        """Pass the tick to the incident service; a failure there leaves anomalies unaffected."""
        incident_service = self.context.incident_service
        if incident_service is None or not result.has_samples:
            return
        source = self.source
        try:
            changed, notices = await self.context.run_in_worker(
                incident_service.step, result, source.interval_s, source.info
            )
        except Exception:
            log.exception("incidents_failed", source=source.name)
            return
        for incident in changed:
            self.context.live.publish("incident", incident)
        for notice in notices:
            log.warning("incident", kind=notice.kind, title=notice.incident.title, reason=notice.why)
        if notices and self.context.notifications is not None:
            await self.context.notifications.enqueue(notices)

    def _save_snapshot(self) -> None:
        self._next_snapshot = self.context.clock.now() + int(SNAPSHOT_INTERVAL_S * 1e9)
        if self.detector is not None and (self._learned_history or self.detector.time is not None):
            detector, watcher = self.detector, self._pattern_watcher()
            arrays, meta = detector.state()
            watcher_arrays, watcher_meta = ({}, {}) if watcher is None else watcher.state()
            self.persistence.save_snapshot(
                detector.time or 0,
                arrays | watcher_arrays,
                meta | watcher_meta,
                keep_from=detector.replay_from(),
            )

    def _publish_status(self, tick: ClosedTick, result: TickResult, problem: Exception | None) -> None:
        live, source = self.context.live, self.source
        self._publish_tick(result)
        if tick.is_unknown:
            self._mark_unknown(problem or SourceError(f"source {source.name} did not answer"))
            return
        if result.complete:
            self._set_state(SourceState.UP, source.detail())
        else:
            self._set_state(SourceState.UNKNOWN, f"partial answer; {source.detail()}")
        left_out = getattr(source, "skipped_series_count", len(source.skipped_series()))
        live.update_source_status(source.name, series=live.source_counts(source.name)[0], left_out=left_out)
        live.set_waiting_for("")

    def _publish_tick(self, result: TickResult) -> None:
        names = () if self.detector is None else self.detector.scoring.detector_names
        self.context.live.publish_tick(result, self.source.interval_s, names, self.source.info)

    def _mark_unknown(self, error: Exception) -> None:
        """Set the source state to unknown with a reason; log unexpected errors with their traceback."""
        live, name = self.context.live, self.source.name
        if isinstance(error, SourceError):
            detail = redact_text(str(error))
            if live.source_status(name).state is not SourceState.UNKNOWN:
                log.warning("source_unavailable", source=name, error=detail)
        else:
            detail = f"{type(error).__name__} inside Trimtab; see the log"
            log.error("source_failed", source=name, exc_info=error)
        self._set_state(SourceState.UNKNOWN, detail)
        if not live.readiness()[0]:
            live.set_waiting_for(f"{name}: {detail}")

    def _set_state(self, state: SourceState, detail: str) -> None:
        live, name = self.context.live, self.source.name
        before = live.source_status(name)
        if before.state is SourceState.UNKNOWN and state is SourceState.UP:
            log.info("source_recovered", source=name)
        since = before.since if before.state is state and before.since else self.context.clock.now()
        live.update_source_status(name, state=state, detail=detail, since=since)
        self.context.metrics.set_source_state(name, state)

    def _record_metrics(self, tick: ClosedTick, result: TickResult, seconds: float) -> None:
        name, metrics = self.source.name, self.context.metrics
        self.tick_count += 1
        self.tick_s, self.lag_s = seconds, (self.context.clock.now() - tick.time) / 1e9
        series, learning, unusual, _ = self.context.live.source_counts(name)
        metrics.observe_tick(name, seconds, self.lag_s, result.n_samples)
        metrics.set_series_counts(name, series, learning, unusual)
        log.info(
            "tick", at=iso(tick.time), samples=result.n_samples, series=series, unusual=unusual,
            anomalies=len(result.anomalies), duration_s=round(seconds, 6), lag_s=round(self.lag_s, 3),
        )  # fmt: skip
