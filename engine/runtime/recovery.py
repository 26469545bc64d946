"""Starts the detector of a source: from its snapshot and logged ticks, from history, or empty."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from trimtab.engine.errors import NewerStateError, SourceError, StoreError
from trimtab.engine.patterns.pattern_watcher import PatternWatch
from trimtab.engine.platform.process_memory import release_memory
from trimtab.engine.ports import Source
from trimtab.engine.redaction import redact_text
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.persistence import LoggedTick, Persistence
from trimtab.engine.types import Anomaly
from trimtab.models.contracts import State
from trimtab.models.errors import StateError

if TYPE_CHECKING:
    from trimtab.engine.detection.source_detector import Senses
    from trimtab.engine.detection.tick_result import Sensed

log = structlog.get_logger(__name__)

STATE_LOST = "state lost"
"""Reason of anomalies that were open in a state that can no longer be used."""


@dataclass(frozen=True, slots=True)
class RecoveredDetector:
    """A detector ready to run.

    detector   : the detector of the source
    is_resumed : whether it holds learned state from before the restart
    """

    detector: "Senses"
    is_resumed: bool


def last_stored_tick(keeper: Persistence) -> int | None:
    """Return the time of the newest stored tick (int64 ns UTC); None = none. Raises StoreError."""
    times = [tick.time for tick, _ in keeper.ticks_since_snapshot()]
    newest = keeper.latest_snapshot()
    return max([*times, *([newest[0]] if newest else [])], default=None)


def recover_detector(
    keeper: Persistence, fresh: "Callable[[], Senses]", watch: PatternWatch | None = None
) -> RecoveredDetector:
    """Restore a detector from the latest snapshot and replay the ticks since, with the same code as live.

    fresh : returns an empty detector
    watch : pattern watcher that is restored and sees the replayed ticks, too; None = no patterns

    Scores and anomalies of replayed ticks are saved again under the same times and ids. Unusable state is
    logged, and an empty detector is returned. Raises NewerStateError if a newer Trimtab wrote the state.
    """
    try:
        start, told = _replay(keeper, fresh, watch)
    except NewerStateError:
        raise
    except (StateError, StoreError) as error:
        log.warning("stored_state_unusable", source=keeper.source, error=str(error))
        start, told = RecoveredDetector(fresh(), is_resumed=False), {}
    keeper.save((), None, told.values())
    _close_lost_anomalies(keeper, set(start.detector.anomalies.ids().values()))
    return start


def _replay(
    keeper: Persistence, fresh: "Callable[[], Senses]", watch: PatternWatch | None
) -> tuple[RecoveredDetector, dict[str, Anomaly]]:
    told: dict[str, Anomaly] = {}
    senses, newest = fresh(), keeper.latest_snapshot()
    if newest is not None:
        senses.restore(newest[1], newest[2])
        if watch is not None:
            _restore_patterns(watch, newest[1], newest[2])
        if senses.replay_from() is not None:
            past = fresh()
            for _ in _detect_logged(past, keeper.ticks_before_snapshot()):
                pass
            senses.go_on_from(past)
    replayed = 0
    for sensed in _detect_logged(senses, keeper.ticks_since_snapshot()):
        told |= {anomaly.id: anomaly for anomaly in sensed.anomalies}
        keeper.save(sensed.keys, sensed.scores if sensed.known else None, ())
        if watch is not None and sensed.known:
            watch.look(sensed)
        replayed += 1
    going_on = newest is not None or replayed > 0
    if going_on:
        log.info("state_restored", source=keeper.source, replayed=replayed, series=len(senses.table.slots))
    return RecoveredDetector(senses, going_on), told


def _restore_patterns(watch: PatternWatch, arrays: State, meta: dict[str, Any]) -> None:
    """Restore the pattern watcher; unreadable state is logged and rebuilt within its window."""
    try:
        watch.restore(arrays, meta)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.warning("pattern_state_unreadable", error=repr(error))


def _detect_logged(senses: "Senses", ticks: Iterable[LoggedTick]) -> "Iterator[Sensed]":
    """Run logged ticks through the detector, each with the budget of its time."""
    for tick, budget in ticks:
        if budget is not None and budget != senses.anomalies.budget:
            senses.set_budget(budget)
        yield senses.step(tick)


def _close_lost_anomalies(keeper: Persistence, still_open: set[str]) -> None:
    """Close stored anomalies that no detector tracks; those of patterns belong to the incident service."""
    try:
        lost = [one for one in keeper.open_anomalies() if one.id not in still_open and not one.pattern]
    except StoreError as error:
        log.warning("open_anomalies_unreadable", source=keeper.source, error=str(error))
        return
    keeper.save((), None, [replace(a, end=a.peak_time, reason=STATE_LOST) for a in lost])


async def learn_history(source: Source, around: LoopContext, senses: "Senses") -> int:
    """Learn from recorded values; return the number of samples.

    A source whose history cannot be read is logged; its detector then learns live.
    """
    live, begin, samples = around.live, time.perf_counter(), 0
    try:
        async for history in source.history(around.clock.now()):
            await around.run_in_worker(senses.warm, history)
            if around.on_history is not None:
                await around.run_in_worker(around.on_history, history)
            samples += int(np.isfinite(history.values).sum())
            progress = getattr(source, "history_progress", None)
            live.update_source_status(source.name, detail="learning from history", warm_progress=progress)
    except SourceError as error:
        why = redact_text(str(error))
        log.warning("history_unreadable", source=source.name, error=why)
    live.update_source_status(source.name, warm_progress=None)
    if samples:
        took_s = round(time.perf_counter() - begin, 3)
        log.info("history_learned", source=source.name, samples=samples, seconds=took_s)
        release_memory()
    return samples
