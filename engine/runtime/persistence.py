"""What a tick leaves behind. A store that fails is said on the status and tried again; sensing goes on."""

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
"""Ticks of scores that wait for a score log that fails; then the oldest are dropped, and counted."""
PARTIAL_MARK, BUDGET_MARK = "trimtab_partial_reading", "trimtab_false_alarms_per_week"
"""Stand behind the keys of a logged tick: its source answered in part; the budget that it is judged by."""


LoggedTick = tuple[ClosedTick, float | None]
"""A tick and the budget that it was judged by."""


class Persistence:
    """Hands one source's ticks, scores and anomalies to the stores, in this order. Blocks on them.

    `problem` says what is wrong now, None = all is kept. Nothing is lost silently: anomalies wait in memory
    until they are saved, scores up to `SCORES_KEPT` ticks; `dropped` counts what had to go.
    """

    def __init__(self, source: str, store: Store, score_log: ScoreLog, snapshots: Snapshots) -> None:
        self.source = source
        self.store = store
        self.score_log = score_log
        self.snapshots = snapshots
        self.problem: str | None = None
        self.dropped_count = 0
        self.has_gap = False
        """Whether a tick is in no log: only a snapshot makes a restart exact again."""
        self._logged_problem: str | None = None
        self._anomalies: dict[str, Anomaly] = {}
        self._infos: dict[str, SeriesInfo] = {}
        self._scores: deque[tuple[Sequence[SeriesKey], TickScores]] = deque()
        self._marked_keys: dict[tuple[str, ...], tuple[tuple[SeriesKey, ...], tuple[SeriesKey, ...]]] = {}

    def log_tick(self, tick: ClosedTick, budget: float) -> None:
        """Remember a tick, and the false-alarm budget that holds for it, before it is scored."""
        keys, values = tick.keys, tick.values
        if keys:
            keys = self._add_marks(keys, (BUDGET_MARK,) if tick.complete else (BUDGET_MARK, PARTIAL_MARK))
            values = np.append(values, [budget, 1.0][: len(keys) - len(values)])
        self.problem = None
        if not self._try(partial(self.snapshots.log_tick, self.source, tick.time, keys, values.tobytes())):
            self.has_gap = True

    def _add_marks(self, keys: tuple[SeriesKey, ...], marks: tuple[str, ...]) -> tuple[SeriesKey, ...]:
        """The keys and the marks; the same tuple for the same keys."""
        if marks not in self._marked_keys or self._marked_keys[marks][0] is not keys:
            self._marked_keys[marks] = (keys, (*keys, *(SeriesKey(self.source, mark) for mark in marks)))
        return self._marked_keys[marks][1]

    def ticks_before_snapshot(self) -> Iterator[LoggedTick]:
        """The ticks up to the newest snapshot that are kept, as `logged_ticks`. Raises StoreError."""
        return self._strip_marks(self.snapshots.ticks_until(self.source))

    def ticks_since_snapshot(self) -> Iterator[LoggedTick]:
        """The ticks since the newest snapshot, oldest first, each with its budget. Raises StoreError.

        The budget is None where nobody noted it: nothing was known of the tick, or an older Trimtab did.
        """
        return self._strip_marks(self.snapshots.ticks_since(self.source))

    def _strip_marks(
        self, logged: Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]
    ) -> Iterator[LoggedTick]:
        plain: tuple[tuple[SeriesKey, ...], tuple[SeriesKey, ...]] = ((), ())
        for time, keys, raw in logged:
            values = np.frombuffer(raw, np.float64)
            if not keys:
                yield ClosedTick(time, (), values.copy(), complete=False), None
                continue
            if plain[0] is not keys:
                marks = sum(key.metric in {PARTIAL_MARK, BUDGET_MARK} for key in keys[-2:])
                plain = (keys, keys[: len(keys) - marks])
            n = len(plain[1])
            marked = {key.metric: float(value) for key, value in zip(keys[n:], values[n:], strict=True)}
            yield (
                ClosedTick(time, plain[1], values[:n].copy(), PARTIAL_MARK not in marked),
                marked.get(BUDGET_MARK),
            )

    def save(
        self,
        keys: Sequence[SeriesKey],
        scores: TickScores | None,
        anomalies: Iterable[Anomaly],
        infos: Iterable[SeriesInfo] = (),
    ) -> None:
        """Keep what a tick came to, and what could not be kept before.

        scores : None = nothing is known of this tick
        """
        self._anomalies |= {anomaly.id: anomaly for anomaly in anomalies}
        self._infos |= {info.key.id: info for info in infos}
        if scores is not None:
            self._scores.append((keys, scores))
        self._save_infos()
        self._save_anomalies()
        self._append_scores()
        if self.problem is None and self._logged_problem is not None:
            log.info("store works again", source=self.source)
        self._logged_problem = self.problem

    def save_snapshot(
        self, time: int, arrays: State, meta: dict[str, object], keep_from: int | None = None
    ) -> None:
        """Make the state durable; the ticks before it, or before `keep_from`, may then go.

        Not while something waits for a store: after a crash those ticks bring it about again.
        """
        self._save_anomalies()
        self._append_scores()
        if self._anomalies or self._scores:
            return
        save = partial(self.snapshots.save, self.source, time, arrays, meta, keep_from)
        if self._try(self.score_log.flush) and self._try(save):
            self.has_gap = False

    def latest_snapshot(self) -> tuple[int, State, dict[str, Any]] | None:
        """The newest whole snapshot. Raises StoreError."""
        return self.snapshots.load(self.source)

    def open_anomalies(self) -> list[Anomaly]:
        """Those of this source that the store believes to go on. Raises StoreError."""
        return self.store.anomalies(source=self.source, open_only=True, limit=100_000)

    @property
    def pending_count(self) -> int:
        """Things that wait for a store."""
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
        """Whether it went well; else the reason is kept and logged."""
        try:
            work()
        except StoreError as error:
            self.problem = str(error)
            if self.problem != self._logged_problem:
                log.error("store fails, sensing goes on", source=self.source, error=str(error))
            self._logged_problem = self.problem
            return False
        return True
