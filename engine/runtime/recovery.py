"""Starts the detector of a source: from its snapshot and logged ticks, from history, or empty."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from trimtab.engine.errors import NewerStateError, SourceError, StoreError
from trimtab.engine.patterns.pattern_watcher import PatternWatcher
from trimtab.engine.platform.process_memory import release_memory
from trimtab.engine.ports import Source
from trimtab.engine.redaction import redact_text
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.persistence import LoggedTick, Persistence
from trimtab.engine.types import Anomaly
from trimtab.models.contracts import State
from trimtab.models.errors import StateError

if TYPE_CHECKING:
    from trimtab.engine.detection.source_detector import SourceDetector
    from trimtab.engine.detection.tick_result import TickResult

log = structlog.get_logger(__name__)

STATE_LOST = "state lost"
"""Reason of anomalies that were open in a state that can no longer be used."""


@dataclass(frozen=True, slots=True)
class RecoveredDetector:
    """A detector ready to run.

    detector   : the detector of the source
    is_resumed : whether it holds learned state from before the restart
    """

    detector: "SourceDetector"
    is_resumed: bool


def last_stored_tick(persistence: Persistence) -> int | None:
    """Return the time of the newest stored tick (int64 ns UTC); None = none. Raises StoreError."""
    times = [tick.time for tick, _ in persistence.ticks_since_snapshot()]
    newest = persistence.latest_snapshot()
    return max([*times, *([newest[0]] if newest else [])], default=None)


def recover_detector(
    persistence: Persistence,
    new_detector: "Callable[[], SourceDetector]",
    watcher: PatternWatcher | None = None,
) -> RecoveredDetector:
    """Restore a detector from the latest snapshot and replay the ticks since, with the same code as live.

    new_detector : returns an empty detector
    watcher      : pattern watcher that is restored and sees the replayed ticks, too; None = no patterns

    Scores and anomalies of replayed ticks are saved again under the same times and ids. Unusable state is
    logged, and an empty detector is returned. Raises NewerStateError if a newer Trimtab wrote the state.
    """
    try:
        start, anomalies = _replay(persistence, new_detector, watcher)
    except NewerStateError:
        raise
    except (StateError, StoreError) as error:
        log.warning("stored_state_unusable", source=persistence.source, error=str(error))
        start, anomalies = RecoveredDetector(new_detector(), is_resumed=False), {}
    persistence.save((), None, anomalies.values())
    _close_lost_anomalies(persistence, set(start.detector.anomalies.open_ids().values()))
    return start


def _replay(
    persistence: Persistence, new_detector: "Callable[[], SourceDetector]", watcher: PatternWatcher | None
) -> tuple[RecoveredDetector, dict[str, Anomaly]]:
    anomalies: dict[str, Anomaly] = {}
    detector, newest = new_detector(), persistence.latest_snapshot()
    if newest is not None:
        detector.restore(newest[1], newest[2])
        if watcher is not None:
            _restore_patterns(watcher, newest[1], newest[2])
        if detector.replay_from() is not None:
            replayed_members = new_detector()
            for _ in _detect_logged(replayed_members, persistence.ticks_before_snapshot()):
                pass
            detector.restore_replayed(replayed_members)
    replayed = 0
    for result in _detect_logged(detector, persistence.ticks_since_snapshot()):
        anomalies |= {anomaly.id: anomaly for anomaly in result.anomalies}
        persistence.save(result.keys, result.scores if result.has_samples else None, ())
        if watcher is not None and result.has_samples:
            watcher.observe(result)
        replayed += 1
    is_resumed = newest is not None or replayed > 0
    if is_resumed:
        log.info(
            "state_restored", source=persistence.source, replayed=replayed, series=len(detector.table.slots)
        )
    return RecoveredDetector(detector, is_resumed), anomalies


def _restore_patterns(watch: PatternWatcher, arrays: State, meta: dict[str, Any]) -> None:
    """Restore the pattern watcher; unreadable state is logged and rebuilt within its window."""
    try:
        watch.restore(arrays, meta)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.warning("pattern_state_unreadable", error=repr(error))


def _detect_logged(detector: "SourceDetector", ticks: Iterable[LoggedTick]) -> "Iterator[TickResult]":
    """Run logged ticks through the detector, each with the budget of its time."""
    for tick, budget in ticks:
        if budget is not None and budget != detector.anomalies.budget:
            detector.set_budget(budget)
        yield detector.step(tick)


def _close_lost_anomalies(persistence: Persistence, still_open: set[str]) -> None:
    """Close stored anomalies that no detector tracks; those of patterns belong to the incident service."""
    try:
        lost = [a for a in persistence.open_anomalies() if a.id not in still_open and not a.pattern]
    except StoreError as error:
        log.warning("open_anomalies_unreadable", source=persistence.source, error=str(error))
        return
    persistence.save((), None, [replace(a, end=a.peak_time, reason=STATE_LOST) for a in lost])


async def learn_history(source: Source, context: LoopContext, detector: "SourceDetector") -> int:
    """Learn from recorded values; return the number of samples.

    A source whose history cannot be read is logged; its detector then learns live.
    """
    live, begin, samples = context.live, time.perf_counter(), 0
    try:
        async for history in source.history(context.clock.now()):
            await context.run_in_worker(detector.warm_up, history)
            if context.on_history is not None:
                await context.run_in_worker(context.on_history, history)
            samples += int(np.isfinite(history.values).sum())
            progress = getattr(source, "history_progress", None)
            live.update_source_status(source.name, detail="learning from history", warm_progress=progress)
    except SourceError as error:
        log.warning("history_unreadable", source=source.name, error=redact_text(str(error)))
    live.update_source_status(source.name, warm_progress=None)
    if samples:
        took_s = round(time.perf_counter() - begin, 3)
        log.info("history_learned", source=source.name, samples=samples, seconds=took_s)
        release_memory()
    return samples
