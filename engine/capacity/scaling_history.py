"""The past of what is scaled, by tick: from the log of scores, and before it as the source recorded it."""

import math
import threading
from collections.abc import Iterable, Mapping

import numpy as np
import structlog

from trimtab.engine.errors import StoreError
from trimtab.engine.ports import KeyValueStore, ScoreLog
from trimtab.engine.types import Floats, History, Ints
from trimtab.engine.types.selector import Selector
from trimtab.models.scaling.load_ahead import MAX_HISTORY_DAYS

log = structlog.get_logger(__name__)

DAY_S = 86_400.0
ROWS = 500_000


class Past:
    """Two weeks of each role of one service.

    A source hands its recorded history over once, when it is first watched, so that is kept in `memory`.
    Sources and those who ask are in threads of their own.
    """

    def __init__(
        self,
        name: str,
        interval_s: float,
        selectors: Mapping[str, Selector],
        scores: ScoreLog,
        memory: KeyValueStore,
    ) -> None:
        self.name = f"scaling/{name}"
        self.step_ns = round(interval_s * 1e9)
        self.selectors = selectors
        self.scores = scores
        self.memory = memory
        self._recorded: dict[str, dict[int, list[float]]] = {}
        """Role -> time -> [sum, how many series]."""
        self._new = False
        self._read = False
        self._lock = threading.Lock()

    def hear(self, history: History) -> None:
        """A chunk of what a source recorded; only what reaches back far is of use."""
        if not history.coarse:
            return
        for column, key in enumerate(history.keys):
            labels = dict(key.labels)
            for role, selector in self.selectors.items():
                if selector.matches(key.metric, labels):
                    with self._lock:
                        self._take(role, history.times, history.values[:, column])

    def begin_anew(self) -> None:
        """What was kept under its name, of other series or from long ago, counts no more."""
        with self._lock:
            self._recorded, self._new, self._read = {}, True, True

    def serves(self, other: "Past") -> bool:
        """Whether it is of the same series, by the same tick."""
        return (self.step_ns, self.selectors) == (other.step_ns, other.selectors)

    def _take(self, role: str, times: Ints, values: Floats) -> None:
        into = self._recorded.setdefault(role, {})
        for time, value in zip(times.tolist(), values.tolist(), strict=True):
            if math.isfinite(value):
                total = into.setdefault(time, [0.0, 0.0])
                total[0] += value
                total[1] += 1.0
                self._new = True

    def column(self, role: str, ids: Iterable[str], now: int, *, mean: bool = False) -> Floats:
        """(n,) sum, or mean, of a role's series by tick, from what is known first to the tick before now's.

        NaN = nothing is known of that tick. Blocks on the log and the store.
        """
        count = round(MAX_HISTORY_DAYS * DAY_S * 1e9 / self.step_ns)
        first = now // self.step_ns - count
        total, known = np.zeros(count), np.zeros(count)
        for series_id in ids:
            rows = self.scores.read(series_id, first * self.step_ns, now // self.step_ns * self.step_ns, ROWS)
            column = _by_tick(rows.times // self.step_ns - first, rows.value, count)
            there = np.isfinite(column)
            total[there] += column[there]
            known[there] += 1.0
        past = np.where(known > 0.0, total / (np.maximum(known, 1.0) if mean else 1.0), math.nan)
        self._fill(past, role, first, mean)
        there = np.flatnonzero(np.isfinite(past))
        return past[there[0] :] if len(there) else np.empty(0)

    def _fill(self, past: Floats, role: str, first: int, mean: bool) -> None:
        """Before the log begins: straight between what the source recorded."""
        with self._lock:
            self._remember()
            recorded = sorted((time, tuple(told)) for time, told in self._recorded.get(role, {}).items())
        if len(recorded) < 2:
            return
        place = np.array([time for time, _ in recorded]) / self.step_ns - first
        value = np.array([total / (many if mean else 1.0) for _, (total, many) in recorded])
        begun = np.flatnonzero(np.isfinite(past))
        ticks = np.arange(begun[0] if len(begun) else len(past))
        inside = ticks[(ticks >= place[0]) & (ticks <= place[-1])]
        past[inside] = np.interp(inside, place, value)

    def _remember(self) -> None:
        """Take up what was kept before, of roles that nobody has handed over since; keep what was."""
        try:
            if not self._read:
                before = self.memory.get(self.name) or {}
                for role, rows in before.items():
                    self._recorded.setdefault(role, {int(row[0]): row[1:] for row in rows})
                self._read = True
            if self._new:
                kept = {
                    role: [[time, *pair] for time, pair in told.items()]
                    for role, told in self._recorded.items()
                }
                self.memory.set(self.name, kept)
                self._new = False
        except StoreError as error:
            log.warning("the past of a load is not kept", capacity=self.name, error=str(error))


def aligned(*columns: Floats) -> tuple[Floats, ...]:
    """The ticks that all columns reach back to; each ends with the same tick.

    >>> [x.tolist() for x in aligned(np.array([1.0, 2.0, 3.0]), np.array([8.0, 9.0]))]
    [[2.0, 3.0], [8.0, 9.0]]
    """
    shortest = min(len(column) for column in columns)
    return tuple(column[len(column) - shortest :] for column in columns)


def _by_tick(place: Ints, values: Floats, count: int) -> Floats:
    """Mean of the values that fall into each of `count` ticks; NaN = none does."""
    good = np.isfinite(values) & (place >= 0) & (place < count)
    at = place[good].astype(np.int64)
    sums = np.bincount(at, values[good], count)
    counts = np.bincount(at, minlength=count)
    return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)
