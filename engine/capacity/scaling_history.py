"""Load history of a scaled service by tick: the score log, preceded by the source's recorded history."""

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
MAX_ROWS = 500_000


class ScalingHistory:
    """Two weeks of history for each role of one service. Thread-safe.

    A source delivers its recorded history once, when it is first watched, so it is kept in `state_store`.

    interval_s : seconds per tick
    selectors  : role -> selector of its series
    """

    def __init__(
        self,
        name: str,
        interval_s: float,
        selectors: Mapping[str, Selector],
        scores: ScoreLog,
        state_store: KeyValueStore,
    ) -> None:
        self.name = f"scaling/{name}"
        self.step_ns = round(interval_s * 1e9)
        self.selectors = selectors
        self.scores = scores
        self.state_store = state_store
        self._recorded: dict[str, dict[int, list[float]]] = {}
        """Role -> time (ns) -> [sum, number of series]."""
        self._has_unsaved = False
        self._is_loaded = False
        self._lock = threading.Lock()

    def add(self, history: History) -> None:
        """Add a chunk of recorded history; only coarse (long-range) history is used."""
        if not history.coarse:
            return
        for column, key in enumerate(history.keys):
            labels = dict(key.labels)
            for role, selector in self.selectors.items():
                if selector.matches(key.metric, labels):
                    with self._lock:
                        self._add_values(role, history.times, history.values[:, column])

    def clear(self) -> None:
        """Discard the stored history of earlier settings."""
        with self._lock:
            self._recorded, self._has_unsaved, self._is_loaded = {}, True, True

    def is_compatible_with(self, other: "ScalingHistory") -> bool:
        """Return whether the other history has the same tick and selectors."""
        return (self.step_ns, self.selectors) == (other.step_ns, other.selectors)

    def _add_values(self, role: str, times: Ints, values: Floats) -> None:
        into = self._recorded.setdefault(role, {})
        for time, value in zip(times.tolist(), values.tolist(), strict=True):
            if math.isfinite(value):
                total = into.setdefault(time, [0.0, 0.0])
                total[0] += value
                total[1] += 1.0
                self._has_unsaved = True

    def column(self, role: str, ids: Iterable[str], now: int, *, mean: bool = False) -> Floats:
        """Return the sum or mean of a role's series by tick, (n_ticks,), up to the tick before `now`.

        Starts at the first known tick; NaN = unknown tick. Blocks on the score log and the store.
        """
        count = round(MAX_HISTORY_DAYS * DAY_S * 1e9 / self.step_ns)
        first = now // self.step_ns - count
        total, known = np.zeros(count), np.zeros(count)
        for series_id in ids:
            rows = self.scores.read(
                series_id, first * self.step_ns, now // self.step_ns * self.step_ns, MAX_ROWS
            )
            column = _mean_by_tick(rows.times // self.step_ns - first, rows.value, count)
            there = np.isfinite(column)
            total[there] += column[there]
            known[there] += 1.0
        past = np.where(known > 0.0, total / (np.maximum(known, 1.0) if mean else 1.0), math.nan)
        self._fill_before_log(past, role, first, mean)
        there = np.flatnonzero(np.isfinite(past))
        return past[there[0] :] if len(there) else np.empty(0)

    def _fill_before_log(self, past: Floats, role: str, first: int, mean: bool) -> None:
        """Fill the ticks before the score log by linear interpolation of the recorded history."""
        with self._lock:
            self._load_and_save()
            recorded = sorted((time, tuple(pair)) for time, pair in self._recorded.get(role, {}).items())
        if len(recorded) < 2:
            return
        place = np.array([time for time, _ in recorded]) / self.step_ns - first
        value = np.array([total / (many if mean else 1.0) for _, (total, many) in recorded])
        begun = np.flatnonzero(np.isfinite(past))
        ticks = np.arange(begun[0] if len(begun) else len(past))
        inside = ticks[(ticks >= place[0]) & (ticks <= place[-1])]
        past[inside] = np.interp(inside, place, value)

    def _load_and_save(self) -> None:
        """Load the stored history of roles without new data, and save new data."""
        try:
            if not self._is_loaded:
                before = self.state_store.get(self.name) or {}
                for role, rows in before.items():
                    self._recorded.setdefault(role, {int(row[0]): row[1:] for row in rows})
                self._is_loaded = True
            if self._has_unsaved:
                kept = {
                    role: [[time, *pair] for time, pair in pairs.items()]
                    for role, pairs in self._recorded.items()
                }
                self.state_store.set(self.name, kept)
                self._has_unsaved = False
        except StoreError as error:
            log.warning("capacity_history_not_saved", capacity=self.name, error=str(error))


def aligned(*columns: Floats) -> tuple[Floats, ...]:
    """Cut columns that end with the same tick to their common length.

    >>> [x.tolist() for x in aligned(np.array([1.0, 2.0, 3.0]), np.array([8.0, 9.0]))]
    [[2.0, 3.0], [8.0, 9.0]]
    """
    shortest = min(len(column) for column in columns)
    return tuple(column[len(column) - shortest :] for column in columns)


def _mean_by_tick(place: Ints, values: Floats, count: int) -> Floats:
    """Return the mean value of each of `count` ticks; NaN = no value."""
    good = np.isfinite(values) & (place >= 0) & (place < count)
    at = place[good].astype(np.int64)
    sums = np.bincount(at, values[good], count)
    counts = np.bincount(at, minlength=count)
    return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)
