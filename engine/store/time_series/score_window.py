"""Score window: the newest ticks of one source, in memory until they are written to a file."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trimtab.engine.store.time_series.score_files import NS_PER_SECOND, SortedRows
from trimtab.engine.types import Floats, Ints, SeriesKey

WINDOW_NS = 600 * NS_PER_SECOND
MIN_ROWS = 2_000
"""A window with fewer rows stays open past its end, to avoid thousands of tiny files."""
MAX_BYTES = 32 << 20
MAX_TICKS = 10_000


class SlotTable:
    """Series keys by slot, and slots by series id."""

    def __init__(self, keys: tuple[SeriesKey, ...]) -> None:
        self.keys = keys

    @cached_property
    def slot_by_id(self) -> dict[str, int]:
        """Series id -> slot; built on first use, because only reading needs it."""
        return {key.id: slot for slot, key in enumerate(self.keys)}


class ScoreWindow:
    """Ticks by time; each contains only rows with a sample and is immutable once added."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.rows = 0
        self._ticks: dict[int, tuple[SlotTable, npt.NDArray[np.int32], Floats]] = {}

    def __len__(self) -> int:
        return len(self._ticks)

    def __contains__(self, time: int) -> bool:
        return time in self._ticks

    @property
    def size_bytes(self) -> int:
        """Memory of the rows: slot (int32) and five float64 columns."""
        return self.rows * 44

    def ends_before(self, time: int) -> bool:
        """Return whether a tick at `time` (int64 ns) belongs to the next window."""
        if not self._ticks:
            return False
        if self.size_bytes >= MAX_BYTES or len(self) >= MAX_TICKS:
            return True
        first = next(iter(self._ticks))
        return first // WINDOW_NS != time // WINDOW_NS and self.rows >= MIN_ROWS

    def add(self, time: int, table: SlotTable, slots: Ints, columns: Floats) -> None:
        """Add a tick. columns : (5, len(slots)) float64, owned by the window afterwards."""
        self._ticks[time] = (table, slots.astype(np.int32), columns)
        self.rows += len(slots)

    def series_rows(self, series_id: str, likely_slot: int | None) -> tuple[Ints, Floats]:
        """Return (times, (5, n) columns) of one series. likely_slot : slot to check first; None = unknown."""
        times, rows = [], []
        slot_in: dict[int, int] = {}
        for time, (table, slots, columns) in self._ticks.items():
            if id(table) not in slot_in:
                slot_in[id(table)] = _find_slot(table, series_id, likely_slot)
            slot = slot_in[id(table)]
            position = int(np.searchsorted(slots, slot))
            if position < len(slots) and slots[position] == slot:
                times.append(time)
                rows.append(columns[:, position])
        if not rows:
            return np.empty(0, np.int64), np.empty((5, 0))
        return np.array(times, np.int64), np.stack(rows, axis=1)

    def tick_times(self) -> Ints:
        """Return the tick times, int64 ns, in order of arrival."""
        return np.fromiter(self._ticks, np.int64, len(self._ticks))

    def sorted_rows(self) -> SortedRows:
        """Return all rows sorted by series, then time."""
        by_table = {id(table): table for table, _, _ in self._ticks.values()}
        used = {name: self._used_slots(table) for name, table in by_table.items()}
        ids = sorted({key.id for name, slots in used.items() for key in _keys_of(by_table[name], slots)})
        order = {series_id: i for i, series_id in enumerate(ids)}
        ordinals = {}
        for name, slots in used.items():
            ordinals[name] = np.zeros(len(by_table[name].keys), np.int32)
            ordinals[name][slots] = [order[key.id] for key in _keys_of(by_table[name], slots)]
        ordinal = np.concatenate([ordinals[id(table)][slots] for table, slots, _ in self._ticks.values()])
        times = np.repeat(self.tick_times(), [len(slots) for _, slots, _ in self._ticks.values()])
        columns = np.concatenate([columns for _, _, columns in self._ticks.values()], axis=1)
        by_series = np.lexsort((times, ordinal))
        return SortedRows(ids, ordinal[by_series], times[by_series], columns[:, by_series])

    def _used_slots(self, table: SlotTable) -> Ints:
        used = np.zeros(len(table.keys), np.bool_)
        for its_table, slots, _ in self._ticks.values():
            if its_table is table:
                used[slots] = True
        return np.flatnonzero(used)


def _keys_of(table: SlotTable, slots: Ints) -> Sequence[SeriesKey]:
    return [table.keys[slot] for slot in slots]


def _find_slot(table: SlotTable, series_id: str, likely_slot: int | None) -> int:
    """Return the slot of a series, or one past the last slot if it is not in the table."""
    if likely_slot is not None and likely_slot < len(table.keys) and table.keys[likely_slot].id == series_id:
        return likely_slot
    return next((slot for slot, key in enumerate(table.keys) if key.id == series_id), len(table.keys))
