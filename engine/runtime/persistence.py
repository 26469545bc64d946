"""Writes ticks, scores and anomalies of a source to the stores; detection goes on while a store fails."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import structlog

from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.errors import StoreError
from trimtab.engine.ports import ScoreLog, Snapshots, Store
from trimtab.engine.types import Anomaly, SeriesInfo, SeriesKey, TickScores
from trimtab.models.contracts import State

log = structlog.get_logger(__name__)

MAX_PENDING_SCORES = 720
"""Score rows (ticks) kept while the score log fails; beyond that the oldest are dropped and counted."""
PARTIAL_MARK, BUDGET_MARK = "trimtab_partial_reading", "trimtab_false_alarms_per_week"
"""Marker keys at the end of a logged tick: its source answered in part; its false-alarm budget."""


LoggedTick = tuple[ClosedTick, float | None]
"""A tick and its false-alarm budget (false alarms per series and week; None = unknown)."""


class Persistence:
    """Hands the ticks, scores and anomalies of one source to the stores. Blocks on I/O.

    `problem` is the current error, None = everything is saved. Anomalies wait in memory until they are saved,
    scores up to `MAX_PENDING_SCORES` ticks; `dropped_count` counts dropped ticks of scores.

    source    : name of the source
    store     : receives series and anomalies
    score_log : receives scores
    snapshots : receives ticks and learned state
    """

    def __init__(self, source: str, store: Store, score_log: ScoreLog, snapshots: Snapshots) -> None:
        self.source = source
        self.store = store
        self.score_log = score_log
        self.snapshots = snapshots
        self.problem: str | None = None
        self.dropped_count = 0
        self.has_gap = False
        """Whether a tick is missing in the log: only a new snapshot makes a restart exact again."""
        self._logged_problem: str | None = None
        self._anomalies: dict[str, Anomaly] = {}
        self._infos: dict[str, SeriesInfo] = {}
        self._scores: deque[tuple[Sequence[SeriesKey], TickScores]] = deque()
        self._marked_keys: dict[tuple[str, ...], tuple[tuple[SeriesKey, ...], tuple[SeriesKey, ...]]] = {}

    def log_tick(self, tick: ClosedTick, budget: float) -> None:
        """Log a tick and its false-alarm budget before the tick is scored."""
        keys, values = tick.keys, tick.values
        if keys:
            keys = self._add_marks(keys, (BUDGET_MARK,) if tick.complete else (BUDGET_MARK, PARTIAL_MARK))
            values = np.append(values, [budget, 1.0][: len(keys) - len(values)])
        self.problem = None
        if not self._try(partial(self.snapshots.log_tick, self.source, tick.time, keys, values.tobytes())):
            self.has_gap = True

    def _add_marks(self, keys: tuple[SeriesKey, ...], marks: tuple[str, ...]) -> tuple[SeriesKey, ...]:
        """Return the keys with marker keys appended; the same tuple for the same keys."""
        if marks not in self._marked_keys or self._marked_keys[marks][0] is not keys:
            self._marked_keys[marks] = (keys, (*keys, *(SeriesKey(self.source, mark) for mark in marks)))
        return self._marked_keys[marks][1]

    def ticks_before_snapshot(self) -> Iterator[LoggedTick]:
        """Return the retained ticks up to the latest snapshot, oldest first. Raises StoreError."""
        return self._strip_marks(self.snapshots.ticks_until(self.source))

    def ticks_since_snapshot(self) -> Iterator[LoggedTick]:
        """Return the ticks since the latest snapshot, oldest first. Raises StoreError.

        The budget is None where it was not logged: for an unknown tick, or by an older Trimtab.
        """
        return self._strip_marks(self.snapshots.ticks_since(self.source))

    def _strip_marks(
        self, logged: Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]
    ) -> Iterator[LoggedTick]:
        unmarked: tuple[tuple[SeriesKey, ...], tuple[SeriesKey, ...]] = ((), ())
        for time, keys, raw in logged:
            values = np.frombuffer(raw, np.float64)
            if not keys:
                yield ClosedTick(time, (), values.copy(), complete=False), None
                continue
            if unmarked[0] is not keys:
                marks = sum(key.metric in {PARTIAL_MARK, BUDGET_MARK} for key in keys[-2:])
                unmarked = (keys, keys[: len(keys) - marks])
            n = len(unmarked[1])
            mark_values = {key.metric: float(value) for key, value in zip(keys[n:], values[n:], strict=True)}
            yield (
                ClosedTick(time, unmarked[1], values[:n].copy(), PARTIAL_MARK not in mark_values),
                mark_values.get(BUDGET_MARK),
            )

    def save(
        self,
        keys: Sequence[SeriesKey],
        scores: TickScores | None,
        anomalies: Iterable[Anomaly],
        infos: Iterable[SeriesInfo] = (),
    ) -> None:
        """Save the results of a tick, and everything still pending.

        keys   : series by slot
        scores : None = nothing is known of this tick
        infos  : series that are new in this tick
        """
        self._anomalies |= {anomaly.id: anomaly for anomaly in anomalies}
        self._infos |= {info.key.id: info for info in infos}
        if scores is not None:
            self._scores.append((keys, scores))
        self._save_infos()
        self._save_anomalies()
        self._append_scores()
        if self.problem is None and self._logged_problem is not None:
            log.info("store_recovered", source=self.source)
        self._logged_problem = self.problem

    def save_snapshot(
        self, time: int, arrays: State, meta: dict[str, object], keep_from: int | None = None
    ) -> None:
        """Save the learned state. Ticks before `time`, or before `keep_from` if given, may then be deleted.

        Does nothing while results are pending: after a crash the logged ticks reproduce them.
        """
        self._save_anomalies()
        self._append_scores()
        if self._anomalies or self._scores:
            return
        save = partial(self.snapshots.save, self.source, time, arrays, meta, keep_from)
        if self._try(self.score_log.flush) and self._try(save):
            self.has_gap = False

    def latest_snapshot(self) -> tuple[int, State, dict[str, Any]] | None:
        """Return time, arrays and metadata of the latest snapshot; None = none. Raises StoreError."""
        return self.snapshots.load(self.source)

    def open_anomalies(self) -> list[Anomaly]:
        """Return the anomalies of this source that are open in the store. Raises StoreError."""
        return self.store.anomalies(source=self.source, open_only=True, limit=100_000)

    @property
    def pending_count(self) -> int:
        """Number of anomalies, series and score rows that wait for a store."""
        return len(self._anomalies) + len(self._infos) + len(self._scores)

    def _save_infos(self) -> None:
        infos = list(self._infos.values())
        if infos and self._try(partial(self.store.save_series, infos)):
            self._infos.clear()

    def _save_anomalies(self) -> None:
        for anomaly in list(self._anomalies.values()):
            if not self._try(partial(self.store.save_anomaly, anomaly)):
                return
            del self._anomalies[anomaly.id]

    def _append_scores(self) -> None:
        while self._scores:
            keys, scores = self._scores[0]
            if not self._try(partial(self.score_log.append, keys, scores)):
                break
            self._scores.popleft()
        while len(self._scores) > MAX_PENDING_SCORES:
            self._scores.popleft()
            self.dropped_count += 1

    def _try(self, work: Callable[[], None]) -> bool:
        """Return whether `work` succeeded; a StoreError is kept as `problem` and logged once."""
        try:
            work()
        except StoreError as error:
            self.problem = str(error)
            if self.problem != self._logged_problem:
                log.error("store_failed", source=self.source, error=str(error))
            self._logged_problem = self.problem
            return False
        return True
